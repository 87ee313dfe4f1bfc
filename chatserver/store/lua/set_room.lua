-- Notes the room of a user who is online; one who is not gets no session by it.
-- KEYS[1] session:{user}
-- ARGV[1] room
-- Returns 1, or 0 if the user is offline.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'room', ARGV[1])
return 1
