-- A namespace's part of a model's budget of one day. Each namespace has one field: how much it may have
-- spent in all on that day. A claim says the whole, not a difference, so to run twice is to run once.
-- KEYS: hr:{day/HASH}:DATE
-- ARGV: namespace, what it wants, what it has spent and reserved already, the limit; nano-USD, below 2^53.
-- Returns what it may spend in all. No less than it has spent: that cannot be undone.
local others = 0
local had = redis.call('HGETALL', KEYS[1])
for i = 1, #had, 2 do
    if had[i] ~= ARGV[1] then
        others = others + tonumber(had[i + 1])
    end
end
local want, need = tonumber(ARGV[2]), tonumber(ARGV[3])
local most = tonumber(ARGV[4]) - others
local granted = math.max(math.min(want, most), need)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', granted))
redis.call('EXPIRE', KEYS[1], 259200)
return string.format('%.0f', granted)
