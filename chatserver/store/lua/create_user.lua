-- Makes an account unless the name is taken.
-- KEYS[1] user:{name}
-- ARGV[1] password hash (salted, so unique to one call)
-- ARGV[2] now, unix ms
-- Returns 1, or 0 if the name is taken.
if redis.call('HSETNX', KEYS[1], 'password', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'created', ARGV[2])
  return 1
end
if redis.call('HGET', KEYS[1], 'password') == ARGV[1] then
  return 1
end
return 0
