-- Settles what a coordinator used of a pool's limits, and reserves its next run of calls.
-- KEYS: bucket, lease.  Amounts are calls or tokens, times are microseconds of Redis's clock.
-- ARGV: coordinator, number, then
--   n_want span ahead    calls wanted; longest run; how long from now a run may begin at the latest
--   c_limit c_want c_held c_ms   calls at once: the limit (0: none), wanted, running now; how long they may last
--   elapsed              since its last request, by the coordinator's own clock (-1: it made none)
--   block cut            the pool waits this long from now (0: it does not); 1: a call was refused all the same
--   kinds, and for each: kind limit said mode share back owed largest want
--     limit    of a minute or day as configured, 0: none       said    by the provider, 0: nothing new
--     mode     b: a bucket that refills evenly; w: a window of some kind; d…: a day that begins … minutes
--              after 00:00 UTC, e: a day that refills evenly
--     share    of the refill that may be used, -1: nothing new
--     back     reserved and not used                            owed    used and not reserved
--     largest  of one call                                      want    of n_want calls together
-- A run of n calls begins after a delay and lasts for a duration, in which its calls go out evenly: runs
-- follow each other and overlap only by what came back, so that all coordinators together keep to the refill.
-- What was reserved before a bucket was last full comes back for nothing: the bucket has filled without it.
-- Returns "n delay duration calls-at-once blocked scale kinds", and for each kind " kind limit level granted spent"
-- (what was granted ever, less what came back).
-- The same number of the same coordinator gets the same answer again, and changes nothing; its run is where
-- it was, so that its delay may be less than 0.
local MINUTE, DAY = 60000000, 86400000000
local JITTER = 200000          -- a window's edge and our clock differ by this much
local HUNGRY = 6000000         -- a coordinator that wanted calls counts as one that wants more, so long
local UNSURE = 0.002           -- of the limit may be used before it is known
local MOST_GAP = 5000000       -- when nobody can say that the clock did not leap
local IDLE = 2000000           -- a bucket of minutes that nobody asked for so long gives one call at once, no more
local REMEMBERED = 600000000   -- a request comes again no later than this

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local me, number = ARGV[1], tonumber(ARGV[2])

-- The same number again?
local mine, my_at = redis.call('HGET', KEYS[2], me), nil
if mine then
    local n, at, granted, delay, rest = string.match(mine, '^(%S+) (%S+) %S+ %S+ %S+ (%S+) (%S+) (.*)$')
    if number == tonumber(n) then
        return string.format('%s %.0f %s', granted, tonumber(delay) - math.max(0, now - tonumber(at)), rest)
    elseif number < tonumber(n) then
        return redis.error_reply('STALE number ' .. ARGV[2] .. ' came after ' .. n)
    end
    my_at = tonumber(at)
end

-- The time since the last request, whoever made it: no more than this coordinator's own clock says, of which
-- some passed before that request. A clock that went back, or that leapt ahead of that, moves all times that
-- were kept.
local state, flat = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
    state[flat[i]] = tonumber(flat[i + 1])
end
local gap, moved = now - (state.at or now), 0
local most = math.max(0, tonumber(ARGV[10]) - ((state.at or now) - (my_at or state.at or now)))
local leapt = gap < -1000000
if leapt then
    moved = gap
elseif tonumber(ARGV[10]) < 0 then
    gap = math.min(gap, MOST_GAP)
elseif gap > most + 1000000 then
    moved = gap - most
    gap = most
else
    gap = math.min(gap, most + JITTER)
end
gap = math.max(0, gap)
my_at = (my_at or now) + moved
for name, value in pairs(state) do
    local begins = string.sub(name, 1, 8)
    if name == 'blocked' or begins == 'scale_at' or begins == 'share_at' or string.sub(name, 1, 5) == 'full:' then
        state[name] = value + moved
    end
end
-- A clock that went back a little counts no time twice.
local set = {'at', string.format('%.0f', leapt and now or math.max(now, state.at or now))}
local function keep(name, value)
    set[#set + 1] = name
    set[#set + 1] = string.format('%.17g', value)
end

-- The other coordinators: how many want calls, how many calls they may have at once.
local n_hungry, n_calls, my_hungry, leases = 1, 0, 0, redis.call('HGETALL', KEYS[2])
for i = 1, #leases, 2 do
    local n, at, hungry, calls, calls_until, rest = string.match(leases[i + 1], '^(%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
    at, hungry, calls_until = tonumber(at) + moved, tonumber(hungry) + moved, tonumber(calls_until) + moved
    if leases[i] == me then
        my_hungry = hungry -- the rest is written anew
    elseif at + REMEMBERED < now and hungry < now and calls_until < now then
        redis.call('HDEL', KEYS[2], leases[i])
    else
        n_hungry = n_hungry + (hungry >= now and 1 or 0)
        n_calls = n_calls + (calls_until >= now and tonumber(calls) or 0)
        if moved ~= 0 then
            redis.call('HSET', KEYS[2], leases[i],
                       string.format('%s %.0f %.0f %s %.0f %s', n, at, hungry, calls, calls_until, rest))
        end
    end
end

-- What the whole pool was told: to wait, or by a refusal that it is too fast.
local blocked = math.max(state.blocked or 0, tonumber(ARGV[11]) > 0 and now + tonumber(ARGV[11]) or 0)
keep('blocked', blocked)
local scale, scale_at = state.scale or 1, state.scale_at or now
local steps = math.max(0, math.floor((now - scale_at) / 5000000))
if ARGV[12] == '1' and (now - scale_at >= 1000000 or not state.scale) then
    scale, scale_at = math.max(0.1, math.min(1, scale + 0.01 * steps) * 0.7), now
    keep('scale', scale)
    keep('scale_at', scale_at)
else
    scale = math.min(1, scale + 0.01 * steps)
    if moved ~= 0 and state.scale then
        keep('scale_at', scale_at)
    end
end

-- Every kind: its limit, its rate, and its level by now.
local kinds, at = {}, 14
for i = 1, tonumber(ARGV[13]) do
    local k = {name = ARGV[at], limit = tonumber(ARGV[at + 1]), mode = ARGV[at + 3], back = tonumber(ARGV[at + 5]),
               owed = tonumber(ARGV[at + 6]), largest = tonumber(ARGV[at + 7]), want = tonumber(ARGV[at + 8])}
    local said, share = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 4])
    at = at + 9
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
        if moved ~= 0 and state['share_at:' .. k.name] then
            keep('share_at:' .. k.name, state['share_at:' .. k.name])
        end
        share = math.min(1, (state['share:' .. k.name] or 1) + 0.1 * math.max(0, since - 2000000) / 1000000)
    end
    if k.limit > 0 then
        kinds[#kinds + 1] = k
        k.level = state['level:' .. k.name]
        -- A full bucket and one call go at once, and together are no more than the limit.
        k.burst = math.min(math.max(1, 0.005 * k.limit), math.max(0, k.limit - k.largest), 0.5 * k.limit)
        if string.sub(k.mode, 1, 1) == 'd' then
            local day = math.floor((now - tonumber(string.sub(k.mode, 2)) * MINUTE) / DAY)
            k.day_end = (day + 1) * DAY + tonumber(string.sub(k.mode, 2)) * MINUTE
            -- The limit may have changed within the day: what was used of it stays used.
            local used = k.level and state['day:' .. k.name] == day and state['of:' .. k.name] - k.level or 0
            k.level = math.min(k.limit, k.limit - used + k.back - k.owed)
            keep('day:' .. k.name, day)
            keep('of:' .. k.name, k.limit)
        else
            if k.mode == 'b' then
                k.rate = k.limit / MINUTE
            elseif k.mode == 'e' then
                k.rate = k.limit / DAY
            else -- no more than the limit between any two times a minute and a jitter apart
                -- Of calls that cost 1 as many go as fit; what others cost is known only when they end.
                local odd = k.largest > 1 and k.largest + math.min(k.largest, UNSURE * k.limit) or 0
                k.rate = math.max(0.1 * k.limit, k.limit - k.burst - odd) / (MINUTE + JITTER)
            end
            k.rate = k.rate * scale * math.max(0.01, share)
            local most_held = k.burst
            if gap > IDLE and k.mode ~= 'e' then
                most_held = math.min(k.burst, math.max(1, k.largest))
            end
            k.level = math.min(leapt and 0 or most_held, (k.level or 0) + gap * k.rate)
            local full = k.level >= most_held and now or state['full:' .. k.name]
            if full then
                keep('full:' .. k.name, full)
            end
            k.level = math.min(k.burst, k.level + (full and full >= my_at and 0 or k.back)) - k.owed
            if ARGV[12] == '1' then
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
    local spent = (state['spent:' .. k.name] or 0) + granted - k.back + k.owed
    keep('spent:' .. k.name, spent)
    rows[i] = string.format(' %s %.0f %.3f %.3f %.3f', k.name, k.limit, k.level, granted, spent)
end

-- Calls at once: no more than what the others leave, and no more than a fair part while others want some.
-- Those that run stay on the lease until they end.
local calls, hungry = tonumber(ARGV[7]), my_hungry
if tonumber(ARGV[6]) > 0 then
    local limit = tonumber(ARGV[6])
    calls = math.max(0, math.min(calls, math.ceil(limit / n_hungry), limit - n_calls))
end
if tonumber(ARGV[3]) > 0 or calls < tonumber(ARGV[7]) then
    hungry = now + HUNGRY
end

redis.call('HSET', KEYS[1], unpack(set))
redis.call('PEXPIRE', KEYS[1], 172800000)
local reply = string.format('%d %.0f %.0f %d %.0f %.4f %d', n, delay, duration, calls,
                            math.max(0, blocked - now), scale, #kinds) .. table.concat(rows)
redis.call('HSET', KEYS[2], me, string.format('%.0f %.0f %.0f %d %.0f %s', number, now, hungry,
    tonumber(ARGV[6]) > 0 and math.max(calls, tonumber(ARGV[8])) or 0, now + tonumber(ARGV[9]) * 1000, reply))
redis.call('PEXPIRE', KEYS[2], 172800000)
return reply
