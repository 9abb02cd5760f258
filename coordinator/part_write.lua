-- One numbered write to a partition: all of it or nothing.
-- KEYS: own, bat, prd, out, dlq, cur, snt, use, job.
-- ARGV: epoch:start, cseq, oseq, then operations in their order:
--   P id blob        keep a batch          D id     a batch is done
--   S producer seq   accepted up to seq    L blob   a record given up on
--   O oseq blob      results; oseq is the number of the last of them
--   X id             a dead letter that is asked again or dropped
--   C consumer oseq  the first position of a new consumer
--   M id blob        calls of a batch that may be out (0: the tally)
--   U id             none of them is
--   A field amount   added to a sum of money or tokens
--   J id blob        a job's row             K id     it is forgotten
-- Returns OK: it has run, now or before (the same cseq again does nothing). Errors:
--   FENCED    a later epoch: somebody else owns the partition
--   ROLLBACK  the number does not follow the last one, the epoch is an earlier one (they only grow) or of
--             another start, or the partition is gone. Of a later epoch: writes before this one are missing, so whoever took
--             the partition found less than there was
--   BADWRITE  the operations are not well-formed: nothing was written
-- Batch ids stay text: they have 64 bits, a Lua number 53. cseq and oseq stay below 2^53.
local own = redis.call('HMGET', KEYS[1], 'epoch', 'cseq', 'oseq', 'owner', 'start')
if not own[1] then
    return redis.error_reply('ROLLBACK the partition is not there any more')
end
if own[1] .. ':' .. (own[5] or '') ~= ARGV[1] then
    local is_old = tonumber(own[1]) <= tonumber(string.match(ARGV[1], '^%d+')) or tonumber(own[2]) < tonumber(ARGV[2]) - 1
    return redis.error_reply((is_old and 'ROLLBACK' or 'FENCED') .. ' epoch ' .. own[1] .. ', write ' .. own[2] ..
                             ', of ' .. (own[4] or ''))
end
local had, cseq = tonumber(own[2]), tonumber(ARGV[2])
if cseq == had then
    return redis.status_reply('OK')
end
if cseq ~= had + 1 then
    return redis.error_reply('ROLLBACK write ' .. ARGV[2] .. ' came after write ' .. own[2])
end

-- A script's error does not undo what it wrote: everything is checked before the first write.
local n_args = {P = 2, D = 1, S = 2, O = 2, L = 1, X = 1, C = 2, M = 2, U = 1, A = 2, J = 2, K = 1}
local top, last = tonumber(own[3]), tonumber(ARGV[3])
local i = 4
while i <= #ARGV do
    local n = n_args[ARGV[i]]
    if not n or i + n > #ARGV then
        return redis.error_reply('BADWRITE argument ' .. i)
    end
    if ARGV[i] == 'O' then
        local oseq = tonumber(ARGV[i + 1])
        if not oseq or oseq <= top or oseq > last then
            return redis.error_reply('BADWRITE result number at argument ' .. i)
        end
        top = oseq
    elseif ARGV[i] == 'X' and not string.match(ARGV[i + 1], '^%d+%-%d+$') then
        return redis.error_reply('BADWRITE letter at argument ' .. i)
    elseif (ARGV[i] == 'S' or ARGV[i] == 'C') and not tonumber(ARGV[i + 2]) then
        return redis.error_reply('BADWRITE sequence at argument ' .. i)
    elseif ARGV[i] == 'A' and (not string.match(ARGV[i + 2], '^%-?%d+$') or #ARGV[i + 2] > 16) then
        return redis.error_reply('BADWRITE amount at argument ' .. i)
    end
    i = i + n + 1
end
if not last or last ~= top then
    return redis.error_reply('BADWRITE oseq ' .. ARGV[3])
end

-- The first write is one that a full Redis refuses, so that it refuses all or nothing.
redis.call('HSET', KEYS[1], 'cseq', ARGV[2], 'oseq', ARGV[3])
local before = tonumber(own[3])
i = 4
while i <= #ARGV do
    local op = ARGV[i]
    if op == 'P' then
        redis.call('HSET', KEYS[2], ARGV[i + 1], ARGV[i + 2])
    elseif op == 'D' then
        redis.call('HDEL', KEYS[2], ARGV[i + 1])
    elseif op == 'S' or op == 'C' then
        local key = op == 'S' and KEYS[3] or KEYS[6]
        local had = redis.call('HGET', key, ARGV[i + 1])
        if not had or tonumber(had) < tonumber(ARGV[i + 2]) then
            redis.call('HSET', key, ARGV[i + 1], ARGV[i + 2])
        end
    elseif op == 'O' then
        local oseq = tonumber(ARGV[i + 1])
        redis.call('XADD', KEYS[4], ARGV[i + 1] .. '-0', 'n', string.format('%.0f', oseq - before),
                   'b', ARGV[i + 2])
        before = oseq
    elseif op == 'M' then
        redis.call('HSET', KEYS[7], ARGV[i + 1], ARGV[i + 2])
    elseif op == 'U' then
        redis.call('HDEL', KEYS[7], ARGV[i + 1])
    elseif op == 'J' then
        redis.call('HSET', KEYS[9], ARGV[i + 1], ARGV[i + 2])
    elseif op == 'K' then
        redis.call('HDEL', KEYS[9], ARGV[i + 1])
    elseif op == 'X' then
        redis.call('XDEL', KEYS[5], ARGV[i + 1])
    elseif op == 'A' then
        redis.call('HINCRBY', KEYS[8], ARGV[i + 1], ARGV[i + 2])
    else
        redis.call('XADD', KEYS[5], '*', 'b', ARGV[i + 1])
    end
    i = i + n_args[op] + 1
end
return redis.status_reply('OK')
