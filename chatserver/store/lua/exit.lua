-- Records that a server no longer has a user in a room.
-- KEYS[1] room:{room}
-- KEYS[2] room:{room}:presence
-- ARGV[1] server
-- ARGV[2] user
-- Returns 1 if the user is in the room on no server now and was before, else 0.
local server, user = ARGV[1], ARGV[2]
local left = {}
for name in string.gmatch(redis.call('HGET', KEYS[2], user) or '', '%S+') do
  if name ~= server then left[#left + 1] = name end
end
if #left > 0 then
  redis.call('HSET', KEYS[2], user, table.concat(left, ' '))
  return 0
end
redis.call('SREM', KEYS[1], user)
return redis.call('HDEL', KEYS[2], user)
