-- What all scripts that read or write a room's log share.
--
-- An epoch belongs to one history of Redis' data. Redis names its history by a replication
-- id, and takes a new one when it starts and when a replica takes over: only then can the
-- newest messages be missing. So the first script that meets a room in a new history begins
-- an epoch, which continues the one before it after the last offset that is left. An offset
-- that is taken once more is then one of another epoch.

-- A client that was away for more than this many epochs cannot be told what it missed.
local EPOCHS_KEPT = 8

-- current_epoch returns
--   the room's epoch,
--   the epochs it continues, newest first, each as "<epoch> <last offset shared>",
--   the offset of the newest entry,
--   the offset up to which entries were announced, false for all of them (see announce.lua),
--   true if nothing is left of the room; the caller deletes what depends on it.
local function current_epoch(meta, channel, send, fresh)
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then info = 'unknown' end
  local now = redis.call('HMGET', meta, 'epoch', 'history', 'before', 'offset', 'announced')
  local epoch, before, offset = now[1], now[3] or '', now[4] or '0'
  if epoch and now[2] and string.find(info, now[2], 1, true) then
    return epoch, before, offset, now[5], false
  end
  local history = string.match(info, 'master_replid:%x+') or 'unknown'
  if epoch then
    local line = {epoch .. ' ' .. offset}
    for former, last in string.gmatch(before, '(%S+) (%d+)') do
      if #line == EPOCHS_KEPT then break end
      if tonumber(last) > tonumber(offset) then last = offset end
      line[#line + 1] = former .. ' ' .. last
    end
    before = table.concat(line, ' ')
    -- Whatever outlived the former history counts, announced or not. No body: look at the log.
    redis.call('HDEL', meta, 'announced')
    redis.call(send, channel, offset .. ' ' .. fresh .. ' ')
  end
  redis.call('HSET', meta, 'epoch', fresh, 'history', history, 'before', before)
  return fresh, before, offset, false, not epoch
end

-- epoch_at returns the epoch in which an offset was taken.
local function epoch_at(offset, epoch, before)
  for former, last in string.gmatch(before, '(%S+) (%d+)') do
    if tonumber(last) < tonumber(offset) then break end
    epoch = former
  end
  return epoch
end
