-- Records that a server no longer holds a session of a user.
-- KEYS[1] session:{user}
-- KEYS[2] session:{user}:held
-- ARGV[1] server
-- ARGV[2] session id
-- Returns 1 if that was the last hold, so that the user is offline now; else 0.
local removed = redis.call('HDEL', KEYS[2], ARGV[1] .. ' ' .. ARGV[2])
local holders = redis.call('HKEYS', KEYS[2])
if #holders == 0 then
  redis.call('DEL', KEYS[1])
  return removed
end
redis.call('HSET', KEYS[1], 'server', string.match(holders[1], '^%S+'))
return 0
