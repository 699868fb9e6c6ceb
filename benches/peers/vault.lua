-- What sessionbridge does with cookies, as far as a few lines of Lua in nginx go: tokens are learned from the app's
-- Set-Cookie into a shared dictionary, and the browser gets one opaque cookie. No clocks, no expiry, no heartbeats, no rivals.
local vault = ngx.shared.vault
local find, sub = string.find, string.sub
local M = {}

-- The bridge id of a Cookie line, and the line without it.
local function split(line)
    local from, to = find(line, "bridge=", 1, true)
    if not from then return nil, line end
    local stop = find(line, ";", to + 1, true)
    if not stop then return sub(line, to + 1), sub(line, 1, from - 3) end
    return sub(line, to + 1, stop - 1), sub(line, 1, from - 1) .. sub(line, stop + 2)
end

function M.to_app()
    local line = ngx.var.http_cookie
    if not line then return end
    local id, rest = split(line)
    if not id then return end
    local tokens = vault:get(id)
    if not tokens then return end
    ngx.ctx.id = id
    ngx.req.set_header("Cookie", rest == "" and tokens or tokens .. "; " .. rest)
end

function M.to_client()
    local fields = ngx.header["Set-Cookie"]
    if not fields then return end
    if type(fields) == "string" then fields = { fields } end
    local kept, tokens = {}, nil
    for _, field in ipairs(fields) do
        if find(field, "CFID=", 1, true) == 1 or find(field, "CFTOKEN=", 1, true) == 1 then
            local pair = sub(field, 1, (find(field, ";", 1, true) or #field + 1) - 1)
            tokens = tokens and tokens .. "; " .. pair or pair
        else
            local from, to = find(field, "Path=/", 1, true)
            kept[#kept + 1] = from and sub(field, 1, to) .. "c" .. sub(field, to + 1) or field
        end
    end
    if tokens then
        local mine = ngx.ctx.id or M.new_id()
        vault:set(mine, tokens)
        kept[#kept + 1] = "bridge=" .. mine .. "; Path=/; HttpOnly"
    end
    ngx.header["Set-Cookie"] = kept
end

-- 128 bits of the kernel's randomness, a block at a time.
local source, block, at = io.open("/dev/urandom", "rb"), "", 0
function M.new_id()
    if at + 16 > #block then block, at = source:read(4096), 0 end
    at = at + 16
    return (sub(block, at - 15, at):gsub(".", function(byte) return string.format("%02x", byte:byte()) end))
end

return M
