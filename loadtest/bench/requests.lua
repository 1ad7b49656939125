-- Requests that were written before the run, in turn; REQUESTS holds "LENGTH\n" and so many bytes for each of them.
-- Prints one line of JSON: a summary with latencies in microseconds.
local requests, turn = {}, 0

function init(_)
  local file = assert(io.open(os.getenv("REQUESTS"), "rb"))
  local length = file:read("*n", "*l")
  while length do
    requests[#requests + 1] = file:read(length)
    length = file:read("*n", "*l")
  end
  file:close()
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout
  ))
end
