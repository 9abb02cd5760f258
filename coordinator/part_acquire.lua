-- Takes a partition for an owner, if it is free, its lease has run out, or it is his already.
-- KEYS: own.  ARGV: owner, address, lease in ms, its start: hexadecimal digits that no other start has.
-- Returns {"1", epoch, cseq, oseq}: it is his, under a new epoch, so that nothing written under an
-- older one counts any more; or {"0", owner, ms until the lease ends}: another holds it.
-- Run twice: the epoch is one higher, which harms nothing, because the first answer was lost.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local own = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'until', 'cseq', 'oseq', 'lease')
local ends = tonumber(own[3] or '0')
if own[2] and own[2] ~= '' and own[2] ~= ARGV[1] and ends > now then
    -- More than a whole lease is left: Redis's clock went back. From now on it is one lease.
    local lease = tonumber(own[6] or ARGV[3])
    if ends > now + lease then
        ends = now + lease
        redis.call('HSET', KEYS[1], 'until', string.format('%.0f', ends))
    end
    return {'0', own[2], string.format('%.0f', ends - now)}
end
-- The first epoch is the time: a partition that was lost and made again never repeats an epoch. Where an
-- older state was put back, one may come twice; the start tells the two apart.
local epoch = string.format('%.0f', own[1] and tonumber(own[1]) + 1 or now)
local cseq, oseq = own[4] or '0', own[5] or '0'
redis.call('HSET', KEYS[1], 'epoch', epoch, 'owner', ARGV[1], 'address', ARGV[2], 'start', ARGV[4],
           'until', string.format('%.0f', now + tonumber(ARGV[3])), 'lease', ARGV[3],
           'cseq', cseq, 'oseq', oseq)
return {'1', epoch, cseq, oseq}
