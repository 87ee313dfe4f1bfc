-- Makes a room with an owner, who is its first member.
-- KEYS[1] room:{room}:info   KEYS[2] room:{room}:members
-- ARGV[1] owner   ARGV[2] now, unix ms   ARGV[3] 1 to make the owner a member, else 0
-- ARGV[4...] fields and values of the info
-- Returns 1, or 0 if the room was there. The same owner may repeat the call.
if redis.call('EXISTS', KEYS[1]) == 1 then
  local made = redis.call('HMGET', KEYS[1], 'owner', 'created')
  return (made[1] == ARGV[1] and made[2] == ARGV[2]) and 1 or 0
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'created', ARGV[2], unpack(ARGV, 4))
if ARGV[3] == '1' then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
return 1
