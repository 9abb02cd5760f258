-- Notes how far a consumer has used the results, and trims what nobody needs any more.
-- KEYS: own, cur, out.  ARGV: epoch:start, consumer, oseq, trim_upto (0: nothing).
-- Returns OK, or an error: FENCED. A position never goes back; run twice it changes nothing more.
local own = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'start')
if not own[1] or own[1] .. ':' .. (own[3] or '') ~= ARGV[1] then
    return redis.error_reply('FENCED epoch ' .. (own[1] or 'none') .. ' is of ' .. (own[2] or ''))
end
local had = redis.call('HGET', KEYS[2], ARGV[2])
if not had or tonumber(had) < tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
end
local trim = tonumber(ARGV[4])
if trim > 0 then
    redis.call('XTRIM', KEYS[3], 'MINID', string.format('%.0f-0', trim + 1))
end
return redis.status_reply('OK')
