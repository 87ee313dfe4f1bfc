-- Adds a login, prunes the expired ones, and keeps at most a number of them.
-- KEYS[1] logins:{user}
-- ARGV[1] session id
-- ARGV[2] expiry of the login, unix ms
-- ARGV[3] now, unix ms
-- ARGV[4] most logins to keep
-- Returns the number of logins kept.
local now, most = tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])

local logins = redis.call('HGETALL', KEYS[1])
local kept, last = {}, 0
for i = 1, #logins, 2 do
  local sid, expires = logins[i], tonumber(logins[i + 1]) or 0
  if expires <= now then
    redis.call('HDEL', KEYS[1], sid)
  else
    last = math.max(last, expires)
    if sid ~= ARGV[1] then
      kept[#kept + 1] = {sid, expires}
    end
  end
end

table.sort(kept, function(a, b) return a[2] < b[2] end)
local excess = #kept + 1 - most
for i = 1, excess do
  redis.call('HDEL', KEYS[1], kept[i][1])
end
if last > 0 then
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last))
end
return math.min(#kept + 1, most)
