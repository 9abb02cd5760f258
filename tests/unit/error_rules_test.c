// The rules by which errors of providers are told apart, each for every provider that it holds for. The
// rows of error_class.def have cases of their own in error_class_test.c; here stands what all of them
// together must come to, so that a row for one provider does not take what is meant for another.
#include "provider_case.h"
#include "worker/multi.h"

#define ALL   "openai azure-openai ollama vllm llama.cpp anthropic kserve http gemini "
#define OTHER "ollama vllm llama.cpp kserve http " // those without rules of their own about 429
#define MESSAGE(text) "{\"error\":{\"message\":\"" text "\"}}"
#define CODE(text) "{\"error\":{\"message\":\"x\",\"code\":\"" text "\"}}"
#define TYPE(text) "{\"error\":{\"message\":\"x\",\"type\":\"" text "\"}}"
#define GOOGLE(status, message, details) \
    "{\"error\":{\"code\":400,\"message\":\"" message "\",\"status\":\"" status "\",\"details\":[" details "]}}"
#define QUOTA_ID(id) "{\"@type\":\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":[{\"quotaId\":\"" id "\"}]}"
#define RETRY_INFO "{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"5s\"}"
#define SPEND_LIMIT "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"x\",\"details\":{" \
                    "\"error_code\":\"enforced_spend_limit_reached\"}}}"

static const struct rule {
    const char *says;      // the rule
    const char *providers; // each with a space behind it
    int statuses[8];       // each alone
    const char *body;
    uint64_t delay_ms;     // from the headers
    enum outcome want;
} rules[] = {
    // clang-format off
    {"no credit left", "openai azure-openai ", {429}, CODE("insufficient_quota"), 0, OUTCOME_QUOTA},
    {"no credit left, by type", "openai azure-openai ", {429}, TYPE("insufficient_quota"), 9, OUTCOME_QUOTA},
    {"no credit left, in words", "openai azure-openai ", {429}, MESSAGE("You exceeded your current quota, please check"), 0, OUTCOME_QUOTA},
    {"billing is not active", "openai azure-openai ", {429}, CODE("billing_not_active"), 9, OUTCOME_QUOTA},
    {"a hard limit of billing", "openai azure-openai ", {429}, CODE("billing_hard_limit_reached"), 9, OUTCOME_QUOTA},
    {"a single request above the limit", "openai ", {429}, MESSAGE("Request too large for m on tokens per min"), 9, OUTCOME_TOO_LARGE},
    {"no flex capacity", "openai ", {429}, MESSAGE("Resource unavailable"), 0, OUTCOME_TRANSIENT},
    {"any other 429", "openai azure-openai anthropic ", {429}, MESSAGE("x"), 0, OUTCOME_RATE_LIMITED},
    {"any other 429 with a delay", ALL, {429}, MESSAGE("x"), 9, OUTCOME_RATE_LIMITED},
    {"a spend limit that is enforced", "anthropic ", {429}, SPEND_LIMIT, 9, OUTCOME_QUOTA},
    {"limits of usage without an end", "anthropic ", {429}, MESSAGE("This exceeds your API usage limits"), 0, OUTCOME_QUOTA},
    {"limits of usage with an end", "anthropic ", {429}, MESSAGE("This exceeds your API usage limits"), 9, OUTCOME_RATE_LIMITED},
    {"limits of one's own", "anthropic ", {400}, MESSAGE("You have reached your specified API usage limits."), 0, OUTCOME_QUOTA},
    {"a quota of the day", "gemini ", {429}, GOOGLE("RESOURCE_EXHAUSTED", "x", QUOTA_ID("RequestsPerDayPerProject") "," RETRY_INFO), 9, OUTCOME_QUOTA},
    {"a quota of the minute", "gemini ", {429}, GOOGLE("RESOURCE_EXHAUSTED", "x", QUOTA_ID("RequestsPerMinute") "," RETRY_INFO), 0, OUTCOME_RATE_LIMITED},
    {"429 without details", "gemini ", {429}, GOOGLE("RESOURCE_EXHAUSTED", "x", ""), 0, OUTCOME_TRANSIENT},
    {"an invalid key, by its reason", "gemini ", {400}, GOOGLE("INVALID_ARGUMENT", "x", "{\"reason\":\"API_KEY_INVALID\"}"), 0, OUTCOME_AUTH},
    {"an invalid key, in words", "gemini ", {400}, GOOGLE("INVALID_ARGUMENT", "API key not valid. Please pass one.", ""), 0, OUTCOME_AUTH},
    {"billing", "gemini ", {400}, GOOGLE("FAILED_PRECONDITION", "Please enable billing", ""), 0, OUTCOME_QUOTA},
    {"a region", "gemini ", {400}, GOOGLE("FAILED_PRECONDITION", "not available in your region", ""), 0, OUTCOME_AUTH},
    {"the prompt was filtered", "azure-openai ", {400}, CODE("content_filter"), 0, OUTCOME_FILTERED},
    {"the prompt was filtered, inside", "azure-openai ", {400}, "{\"error\":{\"message\":\"x\",\"innererror\":{\"code\":\"ResponsibleAIPolicyViolation\"}}}", 0, OUTCOME_FILTERED},
    {"the policy of content", "openai ", {400}, CODE("content_policy_violation"), 0, OUTCOME_FILTERED},
    {"moderation", "openai ", {400}, CODE("moderation_blocked"), 0, OUTCOME_FILTERED},
    {"a prompt against the policy", "openai ", {400}, "{\"error\":{\"message\":\"violates our usage policy\",\"code\":\"invalid_prompt\"}}", 0, OUTCOME_FILTERED},
    {"context, by code", ALL, {400, 413, 422, 500}, CODE("context_length_exceeded"), 0, OUTCOME_TOO_LARGE},
    {"context, by type", ALL, {400, 413, 422, 500}, TYPE("exceed_context_size_error"), 0, OUTCOME_TOO_LARGE},
    {"context: maximum", ALL, {400, 413, 422, 500}, MESSAGE("This model's Maximum Context Length is 8192 tokens"), 0, OUTCOME_TOO_LARGE},
    {"context: window", ALL, {400, 413, 422, 500}, MESSAGE("Your input exceeds the context window of this model"), 0, OUTCOME_TOO_LARGE},
    {"context: prompt", ALL, {400, 413, 422, 500}, MESSAGE("prompt is too long: 210000 tokens > 200000"), 0, OUTCOME_TOO_LARGE},
    {"context: input", ALL, {400, 413, 422, 500}, MESSAGE("Input is too long for requested model"), 0, OUTCOME_TOO_LARGE},
    {"context: available", ALL, {400, 413, 422, 500}, MESSAGE("the request exceeds the available context size"), 0, OUTCOME_TOO_LARGE},
    {"context: count", ALL, {400, 413, 422, 500}, MESSAGE("The input token count (9) exceeds the maximum number of tokens allowed (8)"), 0, OUTCOME_TOO_LARGE},
    {"context: messages", ALL, {400, 413, 422, 500}, MESSAGE("Please reduce the length of the messages"), 0, OUTCOME_TOO_LARGE},
    {"context: batch", ALL, {400, 413, 422, 500}, MESSAGE("input is too large to process. increase the physical batch size"), 0, OUTCOME_TOO_LARGE},
    {"context: no room", ALL, {400, 413, 422, 500}, MESSAGE("max_tokens must be at least 1, got -5"), 0, OUTCOME_TOO_LARGE},
    {"inputs: tokens", ALL, {400, 413, 422, 500}, MESSAGE("Requested 400000 tokens, max 300000 tokens per request"), 0, OUTCOME_TOO_LARGE},
    {"inputs: number", ALL, {400, 413, 422, 500}, MESSAGE("at most 100 requests can be in one batch"), 0, OUTCOME_TOO_LARGE},
    {"inputs: array", ALL, {400, 413, 422, 500}, MESSAGE("Invalid 'input': array too long"), 0, OUTCOME_TOO_LARGE},
    {"a body that is too large", ALL, {413}, "<html>413</html>", 0, OUTCOME_TOO_LARGE},
    {"credentials", ALL, {401}, MESSAGE("x"), 0, OUTCOME_AUTH},
    {"payment", ALL, {402}, MESSAGE("x"), 0, OUTCOME_QUOTA},
    {"permission", ALL, {403}, MESSAGE("x"), 0, OUTCOME_AUTH},
    {"no such model", ALL, {404}, CODE("model_not_found"), 0, OUTCOME_NO_SUCH_MODEL},
    {"no such deployment", ALL, {404}, CODE("DeploymentNotFound"), 0, OUTCOME_NO_SUCH_MODEL},
    {"not found", ALL, {404}, TYPE("not_found_error"), 0, OUTCOME_NO_SUCH_MODEL},
    {"not found, as a status", ALL, {404}, GOOGLE("NOT_FOUND", "x", ""), 0, OUTCOME_NO_SUCH_MODEL},
    {"a parameter", ALL, {400}, CODE("unsupported_parameter"), 0, OUTCOME_BAD_CONFIG},
    {"a value", ALL, {400}, CODE("unsupported_value"), 0, OUTCOME_BAD_CONFIG},
    {"what is not supported", ALL, {400}, MESSAGE("this model does not support 'seed'"), 0, OUTCOME_BAD_CONFIG},
    {"any other bad request", ALL, {400, 422, 418, 451}, MESSAGE("x"), 0, OUTCOME_BAD_REQUEST},
    {"a time-out or a conflict", ALL, {408, 409}, MESSAGE("x"), 0, OUTCOME_TRANSIENT},
    {"too early, with a delay", ALL, {425}, MESSAGE("x"), 9, OUTCOME_RATE_LIMITED},
    {"too early", ALL, {425}, MESSAGE("x"), 0, OUTCOME_TRANSIENT},
    {"429 without a delay", OTHER, {429}, MESSAGE("x"), 0, OUTCOME_TRANSIENT},
    {"slow down", "openai ", {503}, MESSAGE("Slow Down"), 0, OUTCOME_TRANSIENT},
    {"a model that is being loaded", "llama.cpp ", {503}, MESSAGE("Loading model"), 0, OUTCOME_RATE_LIMITED},
    {"a full queue", "ollama ", {503}, "{\"error\":\"server busy, please try again.  maximum pending requests exceeded\"}", 0, OUTCOME_TRANSIENT},
    {"overloaded", "anthropic ", {529}, TYPE("overloaded_error"), 0, OUTCOME_TRANSIENT},
    {"a server's fault", ALL, {500, 502, 503, 504, 520, 524, 530, 599}, MESSAGE("x"), 0, OUTCOME_TRANSIENT},
    {"a server's fault, as a page", ALL, {500, 502, 503, 504, 520, 524, 530, 599}, "<html>x</html>", 0, OUTCOME_TRANSIENT},
    {"a feature that is missing", ALL, {501}, MESSAGE("x"), 0, OUTCOME_BAD_CONFIG},
    {"a redirect", ALL, {301, 302, 307, 308}, "", 0, OUTCOME_BAD_CONFIG},
    {"200 that is no JSON", ALL, {200}, "<html>x</html>", 0, OUTCOME_TRANSIENT},
    {"200 that is empty", ALL, {200}, "", 0, OUTCOME_TRANSIENT},
    {"200 that is cut", ALL, {200}, "{\"a\":[{\"b\":", 0, OUTCOME_BROKEN},
    {"200 with an error, by its code", ALL, {200}, CODE("invalid_api_key"), 0, OUTCOME_AUTH},
    {"200 with an error, by its type", ALL, {200}, TYPE("overloaded_error"), 0, OUTCOME_TRANSIENT},
    {"200 with an error, by its number", ALL, {200}, "{\"error\":{\"code\":401,\"message\":\"x\"}}", 0, OUTCOME_AUTH},
    {"200 with an error that nobody knows", ALL, {200}, MESSAGE("x"), 0, OUTCOME_TRANSIENT},
    // clang-format on
};
#define N_RULES (sizeof(rules) / sizeof(rules[0]))

// model_of makes a provider's model; name ends at a space.
static struct statements model_of(const char *name) {
    char provider[64];
    snprintf(provider, sizeof(provider), "%.*s", (int)strcspn(name, " "), name);
    return case_model(provider,
                      strcmp(provider, "kserve") == 0 ? ", 'endpoint' = 'http://127.0.0.1:1'"
                      : strcmp(provider, "http") == 0
                          ? ", 'endpoint' = 'http://127.0.0.1:1', 'request.template' = '[{{prompt}}]'"
                          : ", 'endpoint' = 'http://127.0.0.1:1', 'max.tokens' = '100'");
}

// count_broken reads a rule's body with each of its statuses; returns how many come to something else.
static size_t count_broken(const struct rule *rule, const struct model *model) {
    size_t n = 0;
    for (size_t i = 0; i < 8 && rule->statuses[i] != 0; i++) {
        struct reply reply = {.status = rule->statuses[i], .body = slice_of(rule->body),
                              .retry_after_ms = rule->delay_ms, .should_retry = NOT_GIVEN, .model = model,
                              .count = 1};
        struct answer answer = {0};
        provider_dialect(model)->read(&reply, &answer);
        if (answer.outcome != rule->want || answer.detail[0] == '\0') {
            print_error("%s: %s, %d: got %s \"%s\"\n", model->options.provider, rule->says, reply.status,
                        outcome_of(answer.outcome)->text, answer.detail);
            n++;
        }
        answer_clear(&answer);
    }
    return n;
}

static void each_rule_holds_for_its_providers(void **state) {
    size_t n_broken = 0, n_held = 0;
    for (const char *name = ALL; *name != '\0'; name = strchr(name, ' ') + 1) {
        struct statements list = model_of(name);
        size_t n = (size_t)(strchr(name, ' ') - name) + 1;
        for (size_t i = 0; i < N_RULES; i++) {
            const char *at = memmem(rules[i].providers, strlen(rules[i].providers), name, n);
            if (at != NULL && (at == rules[i].providers || at[-1] == ' ')) {
                n_broken += count_broken(&rules[i], list.items[0].model);
                n_held++;
            }
        }
        statements_free(&list);
    }
    assert_int_equal(n_broken, 0);
    assert_true(n_held > 9 * 40);
}

// No HTTP answer at all: the way there failed, or the address or the server's certificate is wrong.
static void what_curl_says_has_its_outcome(void **state) {
    static const struct {
        CURLcode code;
        bool sent;
        enum outcome want;
    } cases[] = {
        {CURLE_COULDNT_RESOLVE_HOST, false, OUTCOME_UNREACHABLE},
        {CURLE_COULDNT_CONNECT, false, OUTCOME_UNREACHABLE},
        {CURLE_SSL_CONNECT_ERROR, false, OUTCOME_UNREACHABLE},
        {CURLE_OPERATION_TIMEDOUT, false, OUTCOME_UNREACHABLE}, // nothing was sent: nothing may be billed
        {CURLE_PEER_FAILED_VERIFICATION, false, OUTCOME_BAD_CONFIG},
        {CURLE_UNSUPPORTED_PROTOCOL, false, OUTCOME_BAD_CONFIG},
        {CURLE_URL_MALFORMAT, false, OUTCOME_BAD_CONFIG},
        {CURLE_RECV_ERROR, true, OUTCOME_BROKEN},
        {CURLE_SEND_ERROR, true, OUTCOME_BROKEN},
        {CURLE_GOT_NOTHING, true, OUTCOME_BROKEN},
        {CURLE_PARTIAL_FILE, true, OUTCOME_BROKEN},
        {CURLE_OPERATION_TIMEDOUT, true, OUTCOME_TIMED_OUT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (multi_outcome(cases[i].code, cases[i].sent) != cases[i].want) {
            fail_msg("%s: got %s", curl_easy_strerror(cases[i].code),
                     outcome_of(multi_outcome(cases[i].code, cases[i].sent))->text);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rule_holds_for_its_providers),
        cmocka_unit_test(what_curl_says_has_its_outcome),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
