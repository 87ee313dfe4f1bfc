-- Sets a field of an account that exists.
-- KEYS[1] user:{name}
-- ARGV[1] field
-- ARGV[2] value; empty: the field is removed
-- Returns 1, or 0 if there is no such account; then nothing changed.
if redis.call('HEXISTS', KEYS[1], 'password') == 0 then
  return 0
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
