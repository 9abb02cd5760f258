-- Settles what a coordinator used of a pool's limits, and reserves its next run of calls.
-- KEYS: bucket, lease.  Amounts are calls or tokens, times are microseconds of Redis's clock.
-- ARGV: coordinator, number, then
--   n_want span ahead    calls wanted; longest run; how long from now a run may begin at the latest
--   c_limit c_want c_held c_ms   calls at once: the limit (0: none), wanted, running now; how long they may last
--   block cut            the pool waits this long from now (0: it does not); 1: a call was refused all the same
--   kinds, and for each: kind limit said mode share back largest want
--     limit    of a minute or day as configured, 0: none       said    by the provider, 0: nothing new
--     mode     b: a bucket that refills evenly; w: a window of some kind; d…: a day that begins … minutes
--              after 00:00 UTC, e: a day that refills evenly
--     share    of the refill that may be used, -1: nothing new
--     back     reserved and not used (less than 0: used and not reserved)
--     largest  of one call                                      want    of n_want calls together
-- A run of n calls begins after a delay and lasts for a duration, in which its calls go out evenly: runs
-- follow each other and never overlap, so that all coordinators together keep to the refill.
-- Returns "n delay duration calls-at-once blocked scale kinds", and for each kind " kind limit level granted".
-- The same number of the same coordinator gets the same answer again, and changes nothing.
local MINUTE, DAY = 60000000, 86400000000
local JITTER = 200000          -- a window's edge and our clock differ by this much
local HUNGRY = 2000000         -- a coordinator that wanted calls counts as one that wants more, so long
local MOST_GAP = 5000000       -- a clock that leaps fills no bucket

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local me, number = ARGV[1], tonumber(ARGV[2])

-- The other coordinators: how many want calls, how many calls they may have at once.
local n_hungry, n_calls, leases = 1, 0, redis.call('HGETALL', KEYS[2])
for i = 1, #leases, 2 do
    local n, hungry, calls, calls_until, reply = string.match(leases[i + 1], '^(%S+) (%S+) (%S+) (%S+) (.*)$')
    hungry, calls_until = tonumber(hungry), tonumber(calls_until)
    if leases[i] == me then
        if number == tonumber(n) then
            return reply
        end
        if number < tonumber(n) then
            return redis.error_reply('STALE number ' .. ARGV[2] .. ' came after ' .. n)
        end
    elseif hungry < now and calls_until < now then
        redis.call('HDEL', KEYS[2], leases[i])
    else
        -- A time further off than any lease is of before the clock went back.
        n_hungry = n_hungry + (hungry >= now and hungry <= now + HUNGRY and 1 or 0)
        n_calls = n_calls + (calls_until >= now and tonumber(calls) or 0)
    end
end

local state, flat = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
    state[flat[i]] = tonumber(flat[i + 1])
end
local gap = now - (state.at or now)
local leapt = gap < -1000000
gap = math.max(0, math.min(MOST_GAP, gap))
local set = {'at', string.format('%.0f', now)}
local function keep(name, value)
    set[#set + 1] = name
    set[#set + 1] = string.format('%.17g', value)
end

-- What the whole pool was told: to wait, or by a refusal that it is too fast.
local blocked = math.max(state.blocked or 0, tonumber(ARGV[10]) > 0 and now + tonumber(ARGV[10]) or 0)
if leapt then
    blocked = math.min(blocked, now + tonumber(ARGV[10]))
end
keep('blocked', blocked)
local scale, scale_at = state.scale or 1, state.scale_at or now
if leapt then
    scale_at = now
end
local steps = math.floor((now - scale_at) / 5000000)
if ARGV[11] == '1' and (now - scale_at >= 1000000 or not state.scale) then
    scale, scale_at = math.max(0.1, math.min(1, scale + 0.01 * steps) * 0.7), now
    keep('scale', scale)
    keep('scale_at', scale_at)
else
    scale = math.min(1, scale + 0.01 * steps)
end

-- Every kind: its limit, its rate, and its level by now.
local kinds, at = {}, 13
for i = 1, tonumber(ARGV[12]) do
    local k = {name = ARGV[at], limit = tonumber(ARGV[at + 1]), mode = ARGV[at + 3], back = tonumber(ARGV[at + 5]),
               largest = tonumber(ARGV[at + 6]), want = tonumber(ARGV[at + 7])}
    local said, share = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 4])
    at = at + 8
    if said > 0 then
        keep('limit:' .. k.name, said)
    else
        said = state['limit:' .. k.name] or 0
    end
    if said > 0 and (k.limit == 0 or said < k.limit) then
        k.limit = said
    end
    if share >= 0 then
        keep('share:' .. k.name, share)
        keep('share_at:' .. k.name, now)
    else
        local since = math.max(0, now - (state['share_at:' .. k.name] or now))
        share = math.min(1, (state['share:' .. k.name] or 1) + 0.1 * math.max(0, since - 2000000) / 1000000)
    end
    if k.limit > 0 then
        kinds[#kinds + 1] = k
        k.level = state['level:' .. k.name]
        k.burst = math.max(1, 0.005 * k.limit)
        if string.sub(k.mode, 1, 1) == 'd' then
            local day = math.floor((now - tonumber(string.sub(k.mode, 2)) * MINUTE) / DAY)
            k.day_end = (day + 1) * DAY + tonumber(string.sub(k.mode, 2)) * MINUTE
            -- The limit may have changed within the day: what was used of it stays used.
            local used = k.level and state['day:' .. k.name] == day and state['of:' .. k.name] - k.level or 0
            k.level = k.limit - used + k.back
            keep('day:' .. k.name, day)
            keep('of:' .. k.name, k.limit)
        else
            if k.mode == 'b' then
                k.rate = k.limit / MINUTE
            elseif k.mode == 'e' then
                k.rate = k.limit / DAY
            else -- no more than the limit between any two times a minute and a jitter apart
                k.rate = math.max(0.5 * k.limit, k.limit - k.burst - k.largest) / (MINUTE + JITTER)
            end
            k.rate = k.rate * scale * math.max(0.01, share)
            k.level = leapt and 0 or math.min(k.burst, (k.level or 0) + gap * k.rate)
            k.level = math.min(k.burst, k.level + k.back)
            if ARGV[11] == '1' then
                k.level = math.min(k.level, 0)
            end
        end
    end
end

-- The run: it begins when every level is up to zero, and lasts as long as the slowest kind takes.
local n, delay, span = tonumber(ARGV[3]), 0, tonumber(ARGV[4]) / n_hungry
for _, k in ipairs(kinds) do
    if k.day_end then
        if k.level < k.largest and n > 0 then -- nothing more before the day's end
            n, blocked = 0, math.max(blocked, k.day_end)
        elseif k.want > k.level then
            n = math.min(n, math.max(1, math.floor(n * k.level / k.want)))
        end
    else
        delay = math.max(delay, -k.level / k.rate)
        if k.want > 0 then
            n = math.min(n, tonumber(ARGV[3]) * (span * k.rate + math.max(k.level, 0)) / k.want)
        end
    end
end
n = n > 0 and math.max(1, math.floor(n)) or 0
if blocked > now or delay > tonumber(ARGV[5]) then
    n = 0
end
local duration, rows = 0, {}
for i, k in ipairs(kinds) do
    local granted = n > 0 and k.want * n / tonumber(ARGV[3]) or 0
    if k.rate then
        duration = math.max(duration, (granted - math.max(k.level, 0)) / k.rate)
    end
    k.level = k.level - granted
    keep('level:' .. k.name, k.level)
    rows[i] = string.format(' %s %.0f %.3f %.3f', k.name, k.limit, k.level, granted)
end

-- Calls at once: no more than what the others leave, and no more than a fair part while others want some.
local calls = tonumber(ARGV[7])
if tonumber(ARGV[6]) > 0 then
    local limit = tonumber(ARGV[6])
    calls = math.min(calls, math.max(tonumber(ARGV[8]), math.floor(limit / n_hungry)), limit - n_calls)
    calls = math.max(calls, 0)
end

redis.call('HSET', KEYS[1], unpack(set))
redis.call('PEXPIRE', KEYS[1], 172800000)
local reply = string.format('%d %.0f %.0f %d %.0f %.4f %d', n, delay, duration, calls,
                            math.max(0, blocked - now), scale, #kinds) .. table.concat(rows)
redis.call('HSET', KEYS[2], me, string.format('%.0f %.0f %d %.0f %s', number, tonumber(ARGV[3]) > 0 and now + HUNGRY or 0,
    tonumber(ARGV[6]) > 0 and calls or 0, now + tonumber(ARGV[9]) * 1000, reply))
redis.call('PEXPIRE', KEYS[2], 172800000)
return reply
