-- Makes a user a member of a room, if its rules allow it. A room that is not there is made:
-- public, without an owner.
-- KEYS[1] room:{room}:info   KEYS[2] room:{room}:members   KEYS[3] room:{room}:invited
-- KEYS[4] room:{room}:banned   KEYS[5] room:{room}:meta   KEYS[6] room:{room}:reads
-- ARGV[1] user   ARGV[2] now, unix ms
-- Returns {'ok', kind, 1 if the membership is new, else 0} or {'banned'}, {'closed'}, {'private'}.
local ends = redis.call('HGET', KEYS[4], ARGV[1])
if ends and (ends == '0' or tonumber(ends) > tonumber(ARGV[2])) then
  return {'banned'}
end
local info = redis.call('HMGET', KEYS[1], 'kind', 'closed')
local kind = info[1]
if not kind then
  kind = 'public'
  redis.call('HSET', KEYS[1], 'kind', kind, 'created', ARGV[2])
end
local member = redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1
if not member then
  if info[2] then
    return {'closed'}
  end
  if kind == 'private' and redis.call('SREM', KEYS[3], ARGV[1]) == 0 then
    return {'private'}
  end
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  -- What was said before is no news to a new member.
  local head = redis.call('HMGET', KEYS[5], 'offset', 'messages')
  redis.call('HSET', KEYS[6], ARGV[1], (head[1] or '0') .. ' ' .. (head[2] or '0'))
end
return {'ok', kind, member and 0 or 1}
