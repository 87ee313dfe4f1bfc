-- Remembers a push subscription of a user; the oldest goes if there are too many.
-- KEYS[1] push:{user}
-- ARGV[1] id   ARGV[2] subscription, JSON with created   ARGV[3] most subscriptions
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
if #all / 2 <= tonumber(ARGV[3]) then
  return 0
end
local oldest, when
for i = 1, #all, 2 do
  local created = tonumber(cjson.decode(all[i + 1]).created)
  if all[i] ~= ARGV[1] and (not when or created < when) then
    oldest, when = all[i], created
  end
end
return redis.call('HDEL', KEYS[1], oldest)
