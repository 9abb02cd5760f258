-- Prolongs the lease of a partition and says what was written last.
-- KEYS: own.  ARGV: epoch:start, lease in ms, the last write that was confirmed.
-- Returns {cseq, oseq}, or an error: FENCED, a later epoch; ROLLBACK, an earlier one (they only grow), the
-- same of another start, one without that write, or the partition is gone.
-- A lease that ran out is prolonged as well, as long as nobody took the partition.
local own = redis.call('HMGET', KEYS[1], 'epoch', 'cseq', 'oseq', 'owner', 'start')
if not own[1] then
    return redis.error_reply('ROLLBACK the partition is not there any more')
end
if own[1] .. ':' .. (own[5] or '') ~= ARGV[1] then
    local is_old = tonumber(own[1]) <= tonumber(string.match(ARGV[1], '^%d+')) or tonumber(own[2]) < tonumber(ARGV[3])
    return redis.error_reply((is_old and 'ROLLBACK' or 'FENCED') .. ' epoch ' .. own[1] .. ', write ' .. own[2] ..
                             ', of ' .. (own[4] or ''))
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + tonumber(ARGV[2])),
           'lease', ARGV[2])
return {own[2], own[3]}
