-- Notes that a server is about to hold something, if the server is alive.
-- KEYS[1] server:{name}
-- KEYS[2] server:{name}:held
-- ARGV[1] marker
-- Returns 1, or 0 if the server has no heartbeat; then nothing changed.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('SADD', KEYS[2], ARGV[1])
return 1
