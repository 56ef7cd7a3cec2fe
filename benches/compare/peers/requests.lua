-- Requests for the numbers from one on: again and again for so many of them, or, where it is 0, for ever new ones.
-- The fields are those of a usual library.
local fields = " HTTP/1.1\r\nHost: backend.example:8080\r\nUser-Agent: python-httpx/0.28.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
local path, first, count, next, made

init = function(args)
    path, first, count, next, made = args[1], tonumber(args[2]), tonumber(args[3]), 0, {}
    for number = 0, count - 1 do
        made[number] = "GET " .. path .. string.format("%d", first + number) .. fields
    end
end

request = function()
    local number = next
    if count == 0 then
        next = next + 1
        return "GET " .. path .. string.format("%d", first + number) .. fields
    end
    next = (next + 1) % count
    return made[number]
end

done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format("measured %d %d %d %d %d %d\n", summary.requests, summary.duration, summary.bytes,
        e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
