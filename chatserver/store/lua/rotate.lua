-- Replaces the secret of a family of refresh tokens, or finds that an old one was used again.
-- KEYS[1] refresh:{family}
-- ARGV[1] hash of the secret that was presented
-- ARGV[2] hash of the one to replace it
-- ARGV[3] now, unix ms
-- ARGV[4] grace: how long after it was replaced a secret may come once more, ms
-- ARGV[5] how long the family lives now, ms
-- Returns 'rotated', 'reused' or 'unknown'.
--
-- The secret before the present one is good for the grace, because its answer may have been
-- lost, and with it the only copy of the present one. A thief who uses it then gets a token,
-- too; but whoever of the two comes later replaces the token of the other, whose next use is
-- a reuse. What is rotated in the grace does not extend it.
--
-- A family that was reused keeps its key with no secret in it: whatever comes of it is a reuse,
-- until its session has been ended for good.
local presented, following, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
local family = redis.call('HMGET', KEYS[1], 'sid', 'current', 'previous', 'rotated')
local sid, current, previous, rotated = family[1], family[2], family[3], tonumber(family[4] or 0)
if not sid then
  return 'unknown'
end
if presented == current then
  redis.call('HSET', KEYS[1], 'current', following, 'previous', presented, 'rotated', ARGV[3])
elseif presented == previous and now - rotated <= tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[1], 'current', following)
else
  redis.call('HDEL', KEYS[1], 'current', 'previous')
  return 'reused'
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 'rotated'
