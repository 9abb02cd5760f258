// What each error becomes, by provider; every row of error_class.def has a case here that it alone
// decides.
#include "provider_case.h"

#include <stdlib.h>

struct error_case {
    const char *provider; // of option 'provider'
    const char *name;
    int status;
    const char *body;
    uint64_t delay_ms; // from headers
    int should_retry;  // header: 1, 0; NOT_GIVEN
    enum outcome want;
    uint64_t want_delay_ms;
};

#define ERROR(message, type, code) \
    "{\"error\":{\"message\":\"" message "\",\"type\":" type ",\"param\":null,\"code\":" code "}}"

static const struct error_case error_cases[] = {
    // clang-format off
    {"openai", "no credit left", 429, ERROR("You exceeded your current quota", "\"insufficient_quota\"", "\"insufficient_quota\""), 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"openai", "no credit left, by type alone", 429, ERROR("x", "\"insufficient_quota\"", "null"), 2000, NOT_GIVEN, OUTCOME_QUOTA, 2000},
    {"openai", "billing is not active", 429, ERROR("x", "null", "\"billing_not_active\""), 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"openai", "one request is more than the limit", 429, ERROR("Request too large for gpt-x in organization y", "\"tokens\"", "\"rate_limit_exceeded\""), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "no flex capacity", 429, ERROR("Resource Unavailable", "null", "null"), 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "the rate limit with a delay in the message", 429, ERROR("Rate limit reached. Please try again in 9.816s.", "\"tokens\"", "\"rate_limit_exceeded\""), 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 9816},
    {"openai", "the header's delay wins over the message's", 429, ERROR("Please try again in 9s", "\"requests\"", "\"rate_limit_exceeded\""), 1500, NOT_GIVEN, OUTCOME_RATE_LIMITED, 1500},
    {"openai", "the rate limit without a delay", 429, "", 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 0},
    {"openai", "the context is too long, by code", 400, ERROR("x", "\"invalid_request_error\"", "\"context_length_exceeded\""), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "the context is too long, by words", 400, ERROR("This model's MAXIMUM context length is 8192 tokens", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "the context is too long, as a server error", 500, ERROR("input is too large to process. increase the physical batch size", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "the body is too large", 413, "<html>413</html>", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "the content policy", 400, ERROR("x", "null", "\"content_policy_violation\""), 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"openai", "a prompt against the policy", 400, ERROR("flagged as violating our usage policy", "null", "\"invalid_prompt\""), 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"openai", "a wrong key", 401, ERROR("Incorrect API key provided", "null", "\"invalid_api_key\""), 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"openai", "payment is required", 402, "", 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"openai", "a region that is not served", 403, "{}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"openai", "no such model", 404, ERROR("The model x does not exist", "null", "\"model_not_found\""), 0, NOT_GIVEN, OUTCOME_NO_SUCH_MODEL, 0},
    {"openai", "another method", 405, "", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"openai", "no such page", 404, "<html></html>", 0, NOT_GIVEN, OUTCOME_NO_SUCH_MODEL, 0},
    {"openai", "a parameter that the model does not know", 400, ERROR("x", "null", "\"unsupported_parameter\""), 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"openai", "a value that the model does not support", 400, ERROR("'temperature' does not support 0.2", "null", "null"), 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"openai", "some other bad request", 400, ERROR("x", "null", "null"), 0, NOT_GIVEN, OUTCOME_BAD_REQUEST, 0},
    {"openai", "a request that cannot be processed", 422, "{\"detail\":[]}", 0, NOT_GIVEN, OUTCOME_BAD_REQUEST, 0},
    {"openai", "a bad request that may be tried again", 400, "{}", 0, 1, OUTCOME_TRANSIENT, 0},
    {"openai", "a time-out at the provider", 408, "", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "a conflict", 409, "{}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "too early, with a delay", 425, "", 700, NOT_GIVEN, OUTCOME_RATE_LIMITED, 700},
    {"openai", "too early", 425, "", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "a server error", 500, ERROR("The server had an error", "\"server_error\"", "null"), 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "a server error that must not be tried again", 500, "{}", 0, 0, OUTCOME_BAD_REQUEST, 0},
    {"openai", "a gateway's page", 502, "<html><h1>Bad Gateway</h1></html>", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "slow down", 503, ERROR("Slow Down", "null", "null"), 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "overloaded, with a delay", 503, "overloaded", 3000, NOT_GIVEN, OUTCOME_TRANSIENT, 3000},
    {"openai", "a feature that is missing", 501, "", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"openai", "a gateway's own status", 524, "", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "a redirect", 302, "", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"openai", "200 that is a page", 200, "<html></html>", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "200 that is empty", 200, "", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "200 cut short", 200, "{\"choices\":[{\"mess", 0, NOT_GIVEN, OUTCOME_BROKEN, 0},
    {"openai", "200 with an error of a known kind", 200, ERROR("try again in 2s", "\"rate_limit_exceeded\"", "null"), 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 2000},
    {"openai", "200 with an error that has a status", 200, "{\"error\":{\"code\":401,\"message\":\"no\"}}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"openai", "200 with an error of no kind", 200, "{\"error\":\"something\"}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "200 without choices", 200, "{\"choices\":[]}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"openai", "the filter stopped the answer", 200, "{\"choices\":[{\"finish_reason\":\"content_filter\",\"message\":{\"content\":\"x\"}}]}", 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"openai", "the model refused", 200, "{\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"content\":null,\"refusal\":\"no\"}}]}", 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"openai", "the token limit before any text", 200, "{\"choices\":[{\"finish_reason\":\"length\",\"message\":{\"content\":\"\"}}]}", 0, NOT_GIVEN, OUTCOME_TRUNCATED, 0},
    {"openai", "a tool instead of text", 200, "{\"choices\":[{\"finish_reason\":\"tool_calls\",\"message\":{\"content\":null}}]}", 0, NOT_GIVEN, OUTCOME_UNREADABLE, 0},
    {"openai", "the prompt was filtered, by code", 400, ERROR("x", "null", "\"content_filter\""), 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"openai", "the prompt was filtered, in the inner error", 400, "{\"error\":{\"message\":\"x\",\"innererror\":{\"code\":\"ResponsibleAIPolicyViolation\"}}}", 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"openai", "no credit left, in words alone", 429, ERROR("You exceeded your current quota, please check", "null", "null"), 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"openai", "the budget is used up", 429, ERROR("x", "null", "\"billing_hard_limit_reached\""), 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"openai", "blocked by moderation", 400, ERROR("x", "null", "\"moderation_blocked\""), 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"openai", "the context, by type", 400, ERROR("x", "\"exceed_context_size_error\"", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "the context window", 400, ERROR("Your input exceeds the context window of this model", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "the prompt is too long", 400, ERROR("prompt is too long: 210000 tokens", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "the input is too long", 422, ERROR("Input is too long for requested model", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "the available context", 400, ERROR("request (9412 tokens) exceeds the available context size (8192 tokens)", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "the count of input tokens", 400, ERROR("The input token count (9) exceeds the maximum number of tokens allowed (8)", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "the length of the messages", 400, ERROR("Please reduce the length of the messages.", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "a prompt that fills the window", 400, ERROR("max_tokens must be at least 1, got -37.", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "tokens of all inputs", 400, ERROR("Requested 400000 tokens, max 300000 tokens per request", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "too many inputs", 400, ERROR("at most 100 requests can be in one batch", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "an array that is too long", 400, ERROR("Invalid 'input': array too long. Expected 2048", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "no such model, as a bad request", 400, ERROR("x", "null", "\"model_not_found\""), 0, NOT_GIVEN, OUTCOME_NO_SUCH_MODEL, 0},
    {"openai", "the schema's field", 400, ERROR("Invalid parameter: 'response_format' of type 'json_schema'", "null", "null"), 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"openai", "the schema's field of responses", 400, ERROR("Unknown parameter: 'text.format'", "null", "null"), 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"openai", "the schema by name", 422, ERROR("json_schema is not supported", "null", "null"), 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"openai", "the schema is invalid", 400, ERROR("Invalid schema for function", "null", "null"), 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"openai", "a value that the model does not know", 400, ERROR("x", "null", "\"unsupported_value\""), 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"openai", "an error in an array", 400, "[{\"error\":{\"code\":400,\"message\":\"prompt is too long\",\"status\":\"INVALID_ARGUMENT\"}}]", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "an error whose fields stand at the top", 400, "{\"object\":\"error\",\"message\":\"prompt is too long\",\"code\":400}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "an error that is a text", 400, "{\"error\":\"prompt is too long\"}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "an error that is a detail", 400, "{\"detail\":\"prompt is too long\"}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"openai", "200 with an array of errors", 200, "[{\"error\":{\"code\":429,\"message\":\"x\"}}]", 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 0},
    {"openai", "200 that is null", 200, "null", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"azure-openai", "no credit left", 429, ERROR("You exceeded your current quota", "null", "\"insufficient_quota\""), 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"azure-openai", "the rate limit with the number in words", 429, ERROR("Requests to the ChatCompletions_Create Operation have exceeded token rate limit. Please retry after 37 seconds.", "null", "\"429\""), 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 37000},
    {"azure-openai", "the rate limit without a number", 429, ERROR("x", "null", "\"RateLimitReached\""), 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 0},
    {"azure-openai", "the prompt was filtered", 400, "{\"error\":{\"message\":\"The response was filtered\",\"type\":null,\"param\":\"prompt\",\"code\":\"content_filter\",\"status\":400,\"innererror\":{\"code\":\"ResponsibleAIPolicyViolation\"}}}", 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"azure-openai", "a wrong key", 401, ERROR("Access denied due to invalid subscription key or wrong API endpoint", "null", "\"401\""), 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"azure-openai", "no such deployment", 404, ERROR("x", "null", "\"DeploymentNotFound\""), 0, NOT_GIVEN, OUTCOME_NO_SUCH_MODEL, 0},
    {"azure-openai", "200 with a filter that failed", 200, "{\"choices\":[{\"finish_reason\":\"content_filter\",\"message\":{},\"content_filter_results\":{\"hate\":{\"filtered\":true}}}]}", 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"ollama", "the queue is full", 503, ERROR("server busy, please try again. maximum pending requests exceeded", "\"api_error\"", "null"), 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"ollama", "the model is not pulled", 404, ERROR("model 'x' not found, try pulling it first", "\"not_found_error\"", "null"), 0, NOT_GIVEN, OUTCOME_NO_SUCH_MODEL, 0},
    {"ollama", "its own form of errors", 500, "{\"error\":\"model runner has unexpectedly stopped\"}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"ollama", "a 429 is nobody's form of its own", 429, ERROR("x", "null", "null"), 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"vllm", "the context, with an integer code", 400, "{\"error\":{\"message\":\"This model's maximum context length is 32768 tokens. However, you requested 40000\",\"type\":\"BadRequestError\",\"param\":\"input_tokens\",\"code\":400}}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"vllm", "the older form of errors", 400, "{\"object\":\"error\",\"message\":\"max_tokens must be at least 1, got -12.\",\"type\":\"BadRequestError\",\"code\":400}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"vllm", "no such model", 404, "{\"error\":{\"message\":\"The model `x` does not exist.\",\"type\":\"NotFoundError\",\"code\":404}}", 0, NOT_GIVEN, OUTCOME_NO_SUCH_MODEL, 0},
    {"vllm", "a wrong key", 401, "{\"error\":\"Unauthorized\"}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"vllm", "an engine that died", 500, "Internal Server Error", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"llama.cpp", "the model is being loaded", 503, "{\"error\":{\"code\":503,\"message\":\"Loading model\",\"type\":\"unavailable_error\"}}", 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 2000},
    {"llama.cpp", "no slot", 503, "{\"error\":{\"code\":503,\"message\":\"no slot available\",\"type\":\"unavailable_error\"}}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"llama.cpp", "the context", 400, "{\"error\":{\"code\":400,\"type\":\"exceed_context_size_error\",\"message\":\"request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it\",\"n_prompt_tokens\":9412,\"n_ctx\":8192}}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"llama.cpp", "an input over the physical batch", 500, "{\"error\":{\"code\":500,\"message\":\"input is too large to process. increase the physical batch size\",\"type\":\"server_error\"}}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"llama.cpp", "an API that is switched off", 501, "{\"error\":{\"code\":501,\"message\":\"x\",\"type\":\"not_supported_error\"}}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"llama.cpp", "a wrong key", 401, "{\"error\":{\"code\":401,\"message\":\"Invalid API Key\",\"type\":\"authentication_error\"}}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"anthropic", "the rate limit", 429, "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"This request would exceed your rate limit\"},\"request_id\":\"req_1\"}", 2000, NOT_GIVEN, OUTCOME_RATE_LIMITED, 2000},
    {"anthropic", "the rate limit without a delay", 429, "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"Your usage has risen too fast (acceleration limit)\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 0},
    {"anthropic", "the month's cap", 429, "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"x\",\"details\":{\"error_code\":\"enforced_spend_limit_reached\"}},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"anthropic", "a cap in words", 429, "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"You have hit your API usage limits\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"anthropic", "the same words with a delay", 429, "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"You have hit your API usage limits\"},\"request_id\":\"req_1\"}", 3000, NOT_GIVEN, OUTCOME_RATE_LIMITED, 3000},
    {"anthropic", "a cap of one's own", 400, "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"You have reached your specified API usage limits. You will regain access on 2026-12-01\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"anthropic", "the prompt is too long", 400, "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is too long: 210000 tokens > 200000 maximum\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"anthropic", "a request of more than 32 MB, as a page", 413, "<html>413</html>", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"anthropic", "the schema's field", 400, "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"output_config.format: Extra inputs are not permitted\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"anthropic", "the schema's older field", 400, "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"output_format: unknown\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"anthropic", "a schema that is too complex", 400, "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Schema is too complex for compilation.\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"anthropic", "an assistant's message at the end", 400, "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"This model does not support assistant message prefill.\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"anthropic", "some other bad request", 400, "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"max_tokens: Field required\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_BAD_REQUEST, 0},
    {"anthropic", "a wrong key", 401, "{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"invalid x-api-key\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"anthropic", "billing", 402, "{\"type\":\"error\",\"error\":{\"type\":\"billing_error\",\"message\":\"x\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"anthropic", "no permission", 403, "{\"type\":\"error\",\"error\":{\"type\":\"permission_error\",\"message\":\"x\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"anthropic", "no such model", 404, "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\",\"message\":\"model: x\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_NO_SUCH_MODEL, 0},
    {"anthropic", "a conflict", 409, "{\"type\":\"error\",\"error\":{\"type\":\"conflict_error\",\"message\":\"x\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"anthropic", "a fault within", 500, "{\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"Internal server error\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"anthropic", "a time-out", 504, "{\"type\":\"error\",\"error\":{\"type\":\"timeout_error\",\"message\":\"x\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"anthropic", "too much to do", 529, "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"anthropic", "too much to do, inside a 200", 200, "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"},\"request_id\":\"req_1\"}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"kserve", "more records than the model's batch", 400, "{\"error\":\"[request id: 1] inference request batch-size must be <= 8 for 'x'\"}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"kserve", "no such model", 400, "{\"error\":\"Request for unknown model: 'x' is not found\"}", 0, NOT_GIVEN, OUTCOME_NO_SUCH_MODEL, 0},
    {"kserve", "no such model, as a page that is not there", 404, "{\"error\":\"Model with name x does not exist.\"}", 0, NOT_GIVEN, OUTCOME_NO_SUCH_MODEL, 0},
    {"kserve", "no such tensor", 400, "{\"error\":\"unexpected inference input 't' for model 'x'\"}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"kserve", "a tensor of another shape", 400, "{\"error\":\"unexpected shape for input 't' for model 'x'. Expected [-1], got [3,1]\"}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"kserve", "a tensor of another type", 400, "{\"error\":\"inference input 't' data-type is 'BYTES', but model 'x' expects 'INT32'\"}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"kserve", "fewer tensors", 400, "{\"error\":\"expected 2 inputs but got 1 inputs for model 'x'\"}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"kserve", "some other bad request", 400, "{\"error\":\"failed to parse the request JSON buffer\"}", 0, NOT_GIVEN, OUTCOME_BAD_REQUEST, 0},
    {"kserve", "the queue is full", 503, "{\"error\":\"Exceeds maximum queue size\"}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"kserve", "200 with an error", 200, "{\"error\":\"x\"}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"kserve", "200 without outputs", 200, "{\"model_name\":\"x\"}", 0, NOT_GIVEN, OUTCOME_UNREADABLE, 0},
    {"http", "a wrong key", 401, "{\"message\":\"who are you?\"}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"http", "later", 429, "slow", 3000, NOT_GIVEN, OUTCOME_RATE_LIMITED, 3000},
    {"http", "200 with an error", 200, "{\"error\":{\"code\":429,\"message\":\"x\"}}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"http", "200 without the answer", 200, "{\"b\":1}", 0, NOT_GIVEN, OUTCOME_UNREADABLE, 0},
    {"http", "200 cut short", 200, "[1,2", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"gemini", "a minute's quota", 429, "{\"error\":{\"code\":429,\"message\":\"You exceeded your current quota\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":[{\"quotaId\":\"GenerateRequestsPerMinutePerProjectPerModel\"}]},{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"34.0748s\"}]}}", 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 34075},
    {"gemini", "a day's quota, whatever the delay", 429, "{\"error\":{\"code\":429,\"message\":\"You exceeded your current quota\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":[{\"quotaId\":\"GenerateRequestsPerDayPerProjectPerModel-FreeTier\"}]},{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"37s\"}]}}", 0, NOT_GIVEN, OUTCOME_QUOTA, 37000},
    {"gemini", "capacity that all share", 429, "{\"error\":{\"code\":429,\"message\":\"Resource has been exhausted (e.g. check quota).\",\"status\":\"RESOURCE_EXHAUSTED\"}}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"gemini", "a delay of nothing", 429, "{\"error\":{\"code\":429,\"message\":\"x\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"0s\"}]}}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"gemini", "an invalid key", 400, "{\"error\":{\"code\":400,\"message\":\"x\",\"status\":\"INVALID_ARGUMENT\",\"details\":[{\"reason\":\"API_KEY_INVALID\"}]}}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"gemini", "an invalid key, in words", 400, "{\"error\":{\"code\":400,\"message\":\"API key not valid. Please pass a valid API key.\",\"status\":\"INVALID_ARGUMENT\"}}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"gemini", "billing is off", 400, "{\"error\":{\"code\":400,\"message\":\"The free tier is not available. Please enable billing.\",\"status\":\"FAILED_PRECONDITION\"}}", 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"gemini", "a place that is not served", 400, "{\"error\":{\"code\":400,\"message\":\"User location is not supported for the API use.\",\"status\":\"FAILED_PRECONDITION\"}}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"gemini", "a region that is not served", 400, "{\"error\":{\"code\":400,\"message\":\"Not available in your region.\",\"status\":\"FAILED_PRECONDITION\"}}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"gemini", "another precondition", 400, "{\"error\":{\"code\":400,\"message\":\"x\",\"status\":\"FAILED_PRECONDITION\"}}", 0, NOT_GIVEN, OUTCOME_BAD_REQUEST, 0},
    {"gemini", "the prompt is too long", 400, "{\"error\":{\"code\":400,\"message\":\"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).\",\"status\":\"INVALID_ARGUMENT\"}}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"gemini", "too many texts", 400, "{\"error\":{\"code\":400,\"message\":\"at most 100 requests can be in one batch\",\"status\":\"INVALID_ARGUMENT\"}}", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"gemini", "the schema's field", 400, "{\"error\":{\"code\":400,\"message\":\"* GenerateContentRequest.generation_config.response_schema.properties: should be non-empty for OBJECT type\",\"status\":\"INVALID_ARGUMENT\"}}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"gemini", "the schema's other name", 400, "{\"error\":{\"code\":400,\"message\":\"Unknown name \\\"responseSchema\\\" at generation_config\",\"status\":\"INVALID_ARGUMENT\"}}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"gemini", "no JSON from this model", 400, "{\"error\":{\"code\":400,\"message\":\"JSON mode is not enabled for this model\",\"status\":\"INVALID_ARGUMENT\"}}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"gemini", "a schema that is too large", 400, "{\"error\":{\"code\":400,\"message\":\"The specified schema produces a constraint that has too many states for serving.\",\"status\":\"INVALID_ARGUMENT\"}}", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"gemini", "some other bad request", 400, "{\"error\":{\"code\":400,\"message\":\"x\",\"status\":\"INVALID_ARGUMENT\"}}", 0, NOT_GIVEN, OUTCOME_BAD_REQUEST, 0},
    {"gemini", "not known", 401, "{\"error\":{\"code\":401,\"message\":\"x\",\"status\":\"UNAUTHENTICATED\"}}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"gemini", "no permission", 403, "{\"error\":{\"code\":403,\"message\":\"x\",\"status\":\"PERMISSION_DENIED\"}}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"gemini", "no such model", 404, "{\"error\":{\"code\":404,\"message\":\"models/x is not found for API version v1beta\",\"status\":\"NOT_FOUND\"}}", 0, NOT_GIVEN, OUTCOME_NO_SUCH_MODEL, 0},
    {"gemini", "cancelled", 499, "{\"error\":{\"code\":499,\"message\":\"x\",\"status\":\"CANCELLED\"}}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"gemini", "a fault within", 500, "{\"error\":{\"code\":500,\"message\":\"x\",\"status\":\"INTERNAL\"}}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"gemini", "overloaded", 503, "{\"error\":{\"code\":503,\"message\":\"The model is overloaded. Please try again later.\",\"status\":\"UNAVAILABLE\"}}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"gemini", "too late", 504, "{\"error\":{\"code\":504,\"message\":\"x\",\"status\":\"DEADLINE_EXCEEDED\"}}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"gemini", "overloaded, inside a 200", 200, "{\"error\":{\"code\":503,\"message\":\"x\",\"status\":\"UNAVAILABLE\"}}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    // clang-format on
};

#define N_CASES (sizeof(error_cases) / sizeof(error_cases[0]))

// with_of is what a provider's model must say beside its name.
static const char *with_of(const char *provider) {
    return strcmp(provider, "kserve") == 0 ? ", 'endpoint' = 'http://127.0.0.1:1'"
           : strcmp(provider, "http") == 0
               ? ", 'endpoint' = 'http://127.0.0.1:1', 'request.template' = '[{{prompt}}]', 'answer.path' = '$.a'"
               : ", 'endpoint' = 'http://127.0.0.1:1', 'max.tokens' = '100'";
}

static struct reply reply_of(const struct error_case *c, const struct model *model) {
    return (struct reply){.status = c->status,
                          .body = slice_of(c->body),
                          .retry_after_ms = c->delay_ms,
                          .should_retry = c->should_retry,
                          .model = model,
                          .count = 1};
}

static void each_error_has_its_class(void **state) {
    size_t n_failed = 0;
    for (size_t i = 0; i < N_CASES; i++) {
        const struct error_case *c = &error_cases[i];
        struct statements list = case_model(c->provider, with_of(c->provider));
        struct reply reply = reply_of(c, list.items[0].model);
        struct answer answer = {0};
        provider_dialect(list.items[0].model)->read(&reply, &answer);
        if (answer.outcome != c->want || answer.retry_after_ms != c->want_delay_ms ||
            answer.detail[0] == '\0') {
            print_error("%s: %s: got %s, %llu ms, \"%s\"\n", c->provider, c->name,
                        outcome_of(answer.outcome)->text, (unsigned long long)answer.retry_after_ms,
                        answer.detail);
            n_failed++;
        }
        answer_clear(&answer);
        statements_free(&list);
    }
    assert_int_equal(n_failed, 0);
}

// mark_row finds the row that decides a case.
static void mark_row(const struct error_case *c, bool *hit) {
    const struct provider_facts *facts = provider_facts_find(slice_of(c->provider));
    struct json_object *root = NULL;
    struct provider_error error = {.status = c->status};
    size_t n;
    if (json_parse(slice_of(c->body), &root, NULL) == 0) {
        error_read(root, c->status, &error);
    }
    if (c->status != 200 || json_get(root, "error") != NULL) {
        hit[error_class_find(facts->id, &error, c->want_delay_ms > 0) - error_classes(&n)] = true;
    }
    json_object_put(root);
}

static void every_row_has_a_case(void **state) {
    size_t n, n_failed = 0;
    const struct error_class *rows = error_classes(&n);
    bool *hit = calloc(n, sizeof(*hit));
    for (size_t i = 0; i < N_CASES; i++) {
        mark_row(&error_cases[i], hit);
    }
    for (size_t i = 0; i < n; i++) {
        if (!hit[i]) {
            print_error("no case for the row '%s'\n", rows[i].name);
            n_failed++;
        }
    }
    free(hit);
    assert_int_equal(n_failed, 0);
}

static void what_the_provider_says_is_cleaned(void **state) {
    struct statements list = case_model("openai", "");
    struct answer answer = {0};
    case_read(list.items[0].model, 500, "{\"error\":{\"message\":\"a\\nb\\u0000c\\u001b[31m\"}}", &answer);
    assert_string_equal(answer.detail, "HTTP 500: a b");
    answer_clear(&answer);
    statements_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_error_has_its_class),
        cmocka_unit_test(every_row_has_a_case),
        cmocka_unit_test(what_the_provider_says_is_cleaned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
