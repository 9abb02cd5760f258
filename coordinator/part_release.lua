-- Gives a partition up, so that another may take it at once.
-- KEYS: own.  ARGV: epoch:start.
-- Returns OK, or an error: FENCED. The epoch moves on, so that nothing late is written; run twice,
-- the second is FENCED and changes nothing.
local own = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'start')
if not own[1] or own[1] .. ':' .. (own[3] or '') ~= ARGV[1] then
    return redis.error_reply('FENCED epoch ' .. (own[1] or 'none') .. ' is of ' .. (own[2] or ''))
end
redis.call('HSET', KEYS[1], 'epoch', string.format('%.0f', tonumber(own[1]) + 1), 'owner', '', 'start', '',
           'until', '0')
return redis.status_reply('OK')
