-- What wrk sends, and one line of JSON about what came back.
-- Arguments, each as name=number, after `--`:
--   bytes  size of the body, about
--   rate   requests a second of all connections, at random moments; else after each answer the next
--   tasks  the requests go to the tasks bench-0, bench-1 ..., not to that of the URL: chosen at
--          random, or, with row, so many in a row to the first, then to the second, and so on
--   seed   of what is random, and the task that a row begins with
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"input": {"a": 1}}'

local PAUSE_S_MAX = 0.1 -- what a server was late for longer is not made up for

local function clock()
  local ffi = require("ffi")
  ffi.cdef("typedef struct { long s, ns; } moment; int clock_gettime(int, moment *);")
  local moment = ffi.new("moment")
  return function()
    ffi.C.clock_gettime(1, moment)
    return tonumber(moment.s) + tonumber(moment.ns) / 1e9
  end
end

local function pace(rate)
  local now = clock()
  local due = now()
  return function()
    due = math.max(due - math.log(1 - math.random()) / rate, now() - PAUSE_S_MAX)
    return math.max(0, math.floor((due - now()) * 1000 + 0.5))
  end
end

local function spread(tasks, row, seed)
  local requests = {}
  for number = 0, tasks - 1 do
    requests[number] = wrk.format(nil, (wrk.path:gsub("/tasks/[^/]+/", "/tasks/bench-" .. number .. "/")))
  end
  local sent = -1
  return function()
    sent = sent + 1
    if row then
      return requests[(seed + math.floor(sent / row)) % tasks]
    end
    return requests[math.random(0, tasks - 1)]
  end
end

function init(arguments)
  local given = { seed = 1 }
  for _, argument in ipairs(arguments) do
    local name, value = argument:match("^(%a+)=(%d+)$")
    given[name] = tonumber(value)
  end
  math.randomseed(given.seed)
  if given.bytes then
    wrk.body = '{"input": {"a": 1, "text": "' .. string.rep("x", given.bytes - #wrk.body - 12) .. '"}}'
  end
  if given.tasks then
    request = spread(given.tasks, given.row, given.seed)
  end
  if given.rate then
    delay = pace(given.rate)
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
