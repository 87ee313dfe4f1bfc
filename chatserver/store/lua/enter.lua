-- Records that a server has a user in a room.
-- KEYS[1] room:{room}
-- KEYS[2] room:{room}:presence
-- ARGV[1] server
-- ARGV[2] user
-- Returns 1 if the user was in the room on no server before, else 0.
local server, user = ARGV[1], ARGV[2]
redis.call('SADD', KEYS[1], user)
local servers = redis.call('HGET', KEYS[2], user)
if not servers then
  redis.call('HSET', KEYS[2], user, server)
  return 1
end
if not string.find(' ' .. servers .. ' ', ' ' .. server .. ' ', 1, true) then
  redis.call('HSET', KEYS[2], user, servers .. ' ' .. server)
end
return 0
