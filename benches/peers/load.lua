-- wrk: each request carries the next bridge cookie of a file, from a place drawn at random on; without one, none.
-- Arguments: path, file of ids.
local texts, n = {}, 0

function init(args)
    local headers = { ["Cookie"] = nil }
    for id in io.lines(args[2]) do
        headers["Cookie"] = "bridge=" .. id .. "; theme=light"
        texts[#texts + 1] = wrk.format("GET", args[1], headers)
    end
    math.randomseed(os.time())
    n = math.random(#texts)
end

function request()
    n = n % #texts + 1
    return texts[n]
end
