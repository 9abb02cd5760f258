-- Adds a revision of a model.
-- KEYS: models, model.  ARGV: name, revision, statement.
-- Returns OK, now or when the same was added before; or an error: CONFLICT, the newest revision is
-- not the one before this.
local head = tonumber(redis.call('HGET', KEYS[2], 'head') or '0')
local revision = tonumber(ARGV[2])
if head == revision and redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[3] then
    return redis.status_reply('OK')
end
if revision ~= head + 1 then
    return redis.error_reply('CONFLICT the newest revision is ' .. string.format('%.0f', head))
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3], 'head', ARGV[2])
redis.call('SADD', KEYS[1], ARGV[1])
return redis.status_reply('OK')
