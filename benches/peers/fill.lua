-- wrk: makes sessions as browsers do: an app gives tokens, the bridge cookie comes back at once. Sessions whose cookie never
-- comes back would be forgotten. Arguments: how many, file to write the ids to.
local wanted, begun, over, fresh, out = 0, 0, 0, {}, nil
local FIRST = 20000000

function init(args)
    wanted = tonumber(args[1])
    out = io.open(args[2], "w")
end

function request()
    local id = table.remove(fresh)
    if id then return wrk.format("GET", "/c/x", { ["Cookie"] = "bridge=" .. id .. "; theme=light" }) end
    begun = begun + 1
    return wrk.format("GET", "/c/start?n=" .. (FIRST + begun))
end

-- Proxies spell names as they like.
local function field(headers, name)
    return headers[name] or headers[name:lower()]
end

function response(status, headers)
    local began = field(headers, "X-Began")
    if status == 200 and not began then return end
    local id = status == 200 and (field(headers, "Set-Cookie") or ""):match("^bridge=([^;]+)")
    if not id then
        io.stderr:write("no session was begun, status ", status, "\n")
        os.exit(1)
    end
    fresh[#fresh + 1] = id
    over = over + 1
    if over <= wanted then out:write(id, "\n") end
    -- The last of them shall have come back too. wrk would go on to its time.
    if over == wanted + 200 then
        out:close()
        os.exit(0)
    end
end
