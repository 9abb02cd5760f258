-- The sentiment of a text, twenty texts to a prompt. The endpoint is that of the provider simulator
-- (headrace-provider); the real one is https://api.openai.com/v1/chat/completions.
CREATE MODEL llm_sentiment
INPUT (text STRING)
OUTPUT (sentiment STRING)
WITH (
  'provider' = 'openai',
  'endpoint' = 'http://127.0.0.1:8089/v1/chat/completions',
  'model' = 'gpt-5.4-mini',
  'api_key' = '${OPENAI_API_KEY}',
  'task' = 'classification',
  'batch.size' = '20',
  'batch.timeout.ms' = '1000',
  'system.prompt' = 'You are a sentiment analyzer. Always respond with valid JSON.',
  'batch.prompt.template' = 'Analyze sentiment for these texts. Return JSON array: [{"index": <n>, "sentiment": "<positive|negative|neutral>"}]',
  'response.format' = 'json',
  'response.path' = '$[*]',
  'response.index.field' = 'index',
  'response.value.field' = 'sentiment'
);
