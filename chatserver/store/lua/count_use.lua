-- Counts one use in a fixed window, which the first use opens.
-- KEYS[1] limit:{key}
-- ARGV[1] window, ms
-- Returns {uses in this window, ms until it ends}.
local uses = redis.call('INCR', KEYS[1])
if uses == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return {uses, redis.call('PTTL', KEYS[1])}
