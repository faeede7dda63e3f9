-- What wrk has measured, as one line: requests, microseconds, bytes, failures.
function done(summary)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("measured %d %d %d %d\n", summary.requests, summary.duration, summary.bytes, failed))
end
