-- wrk: each request carries the next bridge cookie of a file, from a place drawn at random on.
-- Arguments: path, file of ids; and, where some requests are to change their session: path of these, of how many requests one
-- is such; and, where connections are to rest between two requests: for how many milliseconds, on the average.
local texts, n = {}, 0

function init(args)
    local headers = { ["Cookie"] = nil }
    local every, rest = tonumber(args[4]) or 0, tonumber(args[5]) or 0
    for id in io.lines(args[2]) do
        headers["Cookie"] = "bridge=" .. id .. "; theme=light"
        local changes = every > 0 and #texts % every == 0
        texts[#texts + 1] = wrk.format("GET", changes and args[3] or args[1], headers)
    end
    math.randomseed(os.time())
    if rest > 0 then
        function delay() return math.floor(math.random() * 2 * rest + 0.5) end
    end
    n = math.random(#texts)
end

function request()
    n = n % #texts + 1
    return texts[n]
end
