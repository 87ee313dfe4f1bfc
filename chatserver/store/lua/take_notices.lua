-- Lends the notices that are due to one server. What it does not finish is due again later.
-- KEYS[1] notices:{n}   KEYS[2] notices:{n}:body   KEYS[3] notices:{n}:tries
-- ARGV[1] most notices to take
-- ARGV[2] ms until they are due again
-- Returns {id, body, tries including this one, id...}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local again = string.format('%.0f', now + tonumber(ARGV[2]))
local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])) do
  local body = redis.call('HGET', KEYS[2], id)
  if body then
    redis.call('ZADD', KEYS[1], again, id)
    taken[#taken + 1] = id
    taken[#taken + 1] = body
    taken[#taken + 1] = redis.call('HINCRBY', KEYS[3], id, 1)
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return taken
