-- wrk's side of registry.sh: `wrk -s read.lua URL -- PATH COUNT`. Goes over COUNT paths where PATH holds `%d`, and
-- ends with one line: requests a second, p99 in ms, megabytes a second, failed requests.
local requests, at = {}, 0

function init(args)
    local path, count = args[1], tonumber(args[2])
    -- distribution serves no OCI manifest to who does not say that it knows them.
    wrk.headers["Accept"] = "application/vnd.oci.image.manifest.v1+json, */*"
    if not path:find("%%d") then count = 1 end
    for i = 0, count - 1 do
        requests[#requests + 1] = wrk.format("GET", path:gsub("%%d", i), wrk.headers)
    end
    at = math.random(#requests)
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local seconds = summary.duration / 1e6
    local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
    io.write(string.format("%.1f %.2f %.1f %d\n", summary.requests / seconds, latency:percentile(99) / 1e3,
        summary.bytes / seconds / 1e6, failed))
end
