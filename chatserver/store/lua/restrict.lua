-- Bans or mutes a user, or ends that.
-- KEYS[1] room:{room}:info   KEYS[2] room:{room}:members   KEYS[3] room:{room}:invited
-- KEYS[4] room:{room}:banned or room:{room}:muted
-- ARGV[1] user   ARGV[2] when it ends, unix ms; 0 for never, '' to end it now
-- ARGV[3] 1 if the membership ends with it, else 0
-- Returns 1 if the user was a member.
local member = redis.call('HEXISTS', KEYS[2], ARGV[1])
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[4], ARGV[1])
  return member
end
redis.call('HSET', KEYS[4], ARGV[1], ARGV[2])
-- The rules are looked up for rooms that have any; an info that this makes is a public room's.
redis.call('HSETNX', KEYS[1], 'kind', 'public')
redis.call('HSET', KEYS[1], 'guarded', 1)
if ARGV[3] == '1' then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('SREM', KEYS[3], ARGV[1])
end
return member
