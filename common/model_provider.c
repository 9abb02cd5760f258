// A model against its provider: is there such a provider, does it do the task, what must the model say.
// Invariant: after this, model->provider and model->api are set and the URL of a call can be made.
// Called by model_check.
#include "common/model_parts.h"

#include "common/providers.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static int missing(const struct model *model, const char *name, const char *example, int *line,
                   struct error *why) {
    return error_set(why, model_blame(model, name, line),
                     "option '%s': missing, want for example '%s' = '%s'", name, name, example);
}

static int find_provider(struct model *model, int *line, struct error *why) {
    struct model_options *o = &model->options;
    if (o->provider[0] == '\0') {
        return missing(model, "provider", "openai", line, why);
    }
    model->provider = provider_facts_find(slice_of(o->provider));
    if (model->provider == NULL) {
        struct buf names;
        buf_init(&names, 512);
        int rc = provider_names(&names);
        rc = error_set(why, model_blame(model, "provider", line),
                       "option 'provider': got '%s', want one of: %s", o->provider,
                       rc == 0 ? names.p : "those in docs/providers.md");
        buf_free(&names);
        return rc;
    }
    o->provider = model->provider->name; // one spelling: pools are told apart by it
    return 0;
}

static int check_needed(const struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    if (o->endpoint[0] == '\0' && model->provider->host[0] == '\0') {
        return missing(model, "endpoint", "http://127.0.0.1:8000", line, why);
    }
    if (o->model[0] == '\0') {
        return missing(model, "model", "gpt-5.4-mini", line, why);
    }
    if (model->provider->tokens == API_TOKENS_NEEDED && o->max_tokens == MODEL_UNSET) {
        return error_set(why, model_blame(model, "max.tokens", line),
                         "option 'max.tokens': missing, want it given: %s refuses calls without it",
                         model->provider->name);
    }
    return 0;
}

static int find_api(struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    if (o->task == TASK_CLUSTERING) {
        return error_set(why, model_blame(model, "task", line),
                         "option 'task': got 'clustering', want another: a cluster is a property of "
                         "all records together, and a call sees only its batch; make vectors with "
                         "'embedding' and cluster those");
    }
    bool named;
    unsigned tasks = o->task == TASK_EMBEDDING ? API_TASKS_VECTORS : API_TASKS_TEXT;
    model->api = provider_api_find(model->provider->id, o->endpoint, tasks | API_TASKS_TENSORS, &named);
    if (model->api != NULL) {
        return 0;
    }
    const char *task = o->task == TASK_EMBEDDING ? "'embedding'" : "a task that makes text";
    if (named) {
        return error_set(why, model_blame(model, "task", line),
                         "option 'task': got %s, which the API that 'endpoint' names does not do, want "
                         "another task or endpoint",
                         task);
    }
    return error_set(why, model_blame(model, "task", line),
                     "option 'task': got %s, which %s does not do, want another task or provider",
                     task, model->provider->name);
}

static int check_schema(const struct model *model, int *line, struct error *why) {
    if (model->options.structured_output != STRUCTURED_REQUIRED ||
        model->api->schema != API_SCHEMA_NEVER) {
        return 0;
    }
    return error_set(why, model_blame(model, "structured.output", line),
                     "option 'structured.output': got 'required', want 'auto' or 'off': this API of %s "
                     "takes no JSON Schema",
                     model->provider->name);
}

// ---- What single providers and APIs want --------------------------------------------------------

// Options that an API has no field for; a request with it would be refused or, worse, obeyed in part.
static const struct {
    enum api_kind api;
    const char *option;
} unknown_options[] = {
    {API_RESPONSES, "stop"},
    {API_RESPONSES, "seed"},
    {API_EMBEDDINGS, "stop"},
    {API_EMBEDDINGS, "seed"},
    {API_EMBEDDINGS, "temperature"},
    {API_EMBEDDINGS, "top.p"},
    {API_EMBEDDINGS, "max.tokens"},
    {API_EMBEDDINGS, "system.prompt"},
    {API_EMBEDDINGS, "batch.prompt.template"},
    {API_EMBEDDINGS, "response.path"},
    {API_EMBEDDINGS, "response.value.field"},
    {API_CHAT, "dimensions"},
    {API_RESPONSES, "dimensions"},
    {API_MESSAGES, "dimensions"},
    {API_GENERATE, "dimensions"},
    {API_BATCH_EMBED, "stop"},
    {API_BATCH_EMBED, "seed"},
    {API_BATCH_EMBED, "temperature"},
    {API_BATCH_EMBED, "top.p"},
    {API_BATCH_EMBED, "max.tokens"},
    {API_BATCH_EMBED, "system.prompt"},
    {API_BATCH_EMBED, "batch.prompt.template"},
    {API_BATCH_EMBED, "response.path"},
    {API_BATCH_EMBED, "response.value.field"},
    {API_MESSAGES, "seed"},
    {API_TENSORS, "stop"},
    {API_TENSORS, "seed"},
    {API_TENSORS, "temperature"},
    {API_TENSORS, "top.p"},
    {API_TENSORS, "max.tokens"},
    {API_TENSORS, "max.tokens.field"},
    {API_TENSORS, "dimensions"},
    {API_TENSORS, "system.prompt"},
    {API_TENSORS, "prompt.template"},
    {API_TENSORS, "batch.prompt.template"},
    {API_TENSORS, "input.format"},
    {API_TENSORS, "response.format"},
    {API_TENSORS, "response.path"},
    {API_TENSORS, "response.index.field"},
    {API_TENSORS, "structured.output"},
    {API_TEMPLATE, "dimensions"},
    {API_TEMPLATE, "max.tokens.field"},
};

static int check_unknown(const struct model *model, int *line, struct error *why) {
    for (size_t i = 0; i < sizeof(unknown_options) / sizeof(unknown_options[0]); i++) {
        const char *option = unknown_options[i].option;
        if (unknown_options[i].api == model->api->kind && model_setting_of(model, option) != NULL) {
            return error_set(why, model_blame(model, option, line),
                             "option '%s': given, want it left out: the API %s of %s has nothing like it",
                             option, model->api->path, model->provider->name);
        }
    }
    return 0;
}

// Options that one provider alone looks at.
static const struct {
    enum provider_id provider;
    const char *option;
} own_options[] = {
    {PROVIDER_HTTP, "request.template"},  {PROVIDER_HTTP, "answer.path"},
    {PROVIDER_HTTP, "usage.input.path"},  {PROVIDER_HTTP, "usage.output.path"},
    {PROVIDER_KSERVE, "tensor.version"},  {PROVIDER_KSERVE, "tensor.flat"},
};

static int check_own(const struct model *model, int *line, struct error *why) {
    for (size_t i = 0; i < sizeof(own_options) / sizeof(own_options[0]); i++) {
        const char *option = own_options[i].option;
        if (own_options[i].provider != model->provider->id && model_setting_of(model, option) != NULL) {
            return error_set(why, model_blame(model, option, line),
                             "option '%s': given, want it left out: only provider '%s' has it", option,
                             provider_facts_of(own_options[i].provider)->name);
        }
    }
    return 0;
}

// check_vectors: what stands for a vector, and how many inputs a call may have.
static int check_vectors(const struct model *model, int *line, struct error *why) {
    const struct type *full = model->n_output == 1 ? model->output[0].full : NULL;
    const struct type *inner = full != NULL && full->kind == TYPE_ARRAY ? full->inner : NULL;
    if ((model->api->tasks & API_TASKS_VECTORS) == 0) {
        return 0;
    }
    if (inner == NULL || (inner->kind != TYPE_FLOAT && inner->kind != TYPE_DOUBLE)) {
        return error_set(why, model_blame(model, "task", line),
                         "option 'task': got 'embedding', want one OUTPUT column of type ARRAY<FLOAT> or "
                         "ARRAY<DOUBLE>");
    }
    if (model->api->inputs > 0 && model->options.batch_size > (int64_t)model->api->inputs) {
        return error_set(why, model_blame(model, "batch.size", line),
                         "option 'batch.size': got %lld, want at most %zu: %s takes no more inputs in a call",
                         (long long)model->options.batch_size, model->api->inputs, model->provider->name);
    }
    return 0;
}

static int check_responses(const struct model *model, int *line, struct error *why) {
    int64_t n = model->options.max_tokens;
    if (model->api->kind != API_RESPONSES || n == MODEL_UNSET || n >= 16) {
        return 0;
    }
    return error_set(why, model_blame(model, "max.tokens", line),
                     "option 'max.tokens': got %lld, want at least 16: the API /responses takes no less",
                     (long long)n);
}

static int check_anthropic(const struct model *model, int *line, struct error *why) {
    double temperature = model->options.temperature;
    if (model->api->kind != API_MESSAGES || isnan(temperature) || temperature <= 1) {
        return 0;
    }
    return error_set(why, model_blame(model, "temperature", line),
                     "option 'temperature': got %g, want 0 to 1: the API /messages takes no more",
                     temperature);
}

#define GEMINI_SEED_MOST 2147483647

static int check_gemini(const struct model *model, int *line, struct error *why) {
    int64_t seed = model->options.seed;
    if (model->api->kind != API_GENERATE || seed == MODEL_UNSET || seed <= GEMINI_SEED_MOST) {
        return 0;
    }
    return error_set(why, model_blame(model, "seed", line),
                     "option 'seed': got %lld, want at most %d: gemini takes no larger one", (long long)seed,
                     GEMINI_SEED_MOST);
}

static int check_ollama(const struct model *model, int *line, struct error *why) {
    if (model->provider->id != PROVIDER_OLLAMA ||
        model->options.max_tokens_field != MAX_TOKENS_COMPLETION) {
        return 0;
    }
    return error_set(why, model_blame(model, "max.tokens.field", line),
                     "option 'max.tokens.field': got 'max_completion_tokens', want 'auto': ollama would "
                     "ignore the field and answer without end");
}

static bool has_authorization(const struct model *model) {
    return slice_has_nocase(slice_of(model->options.headers), "\"authorization\"");
}

static int check_azure(const struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    if (model->provider->id != PROVIDER_AZURE_OPENAI) {
        return 0;
    }
    if (strstr(o->endpoint, "/deployments/") != NULL && strstr(o->endpoint, "api-version=") == NULL) {
        return error_set(why, model_blame(model, "endpoint", line),
                         "option 'endpoint': got a deployment without a version, want "
                         "?api-version=2024-10-21 behind it, or a v1 URL, which needs none: "
                         "https://NAME.openai.azure.com/openai/v1");
    }
    if (o->api_key[0] != '\0' && has_authorization(model)) {
        return error_set(why, model_blame(model, "api_key", line),
                         "option 'api_key': given beside an Authorization in 'headers', want one of the "
                         "two: azure-openai refuses both together");
    }
    return 0;
}

// check_flat: a flat tensor is one array, not one for each record.
static int check_flat(const struct model *model, int *line, struct error *why) {
    for (size_t i = 0; i < model->n_input; i++) {
        if (model->input[i].type == TYPE_ARRAY && model->options.tensor_flat && model->options.batch_size > 1) {
            return error_set(why, model_blame(model, "tensor.flat", line),
                             "option 'tensor.flat': on with 'batch.size' = %lld and the INPUT column '%.60s' of "
                             "ARRAY, want 'batch.size' = '1': a flat tensor has no dimension for records",
                             (long long)model->options.batch_size, model->input[i].name);
        }
    }
    return 0;
}

// check_tensors: a tensor holds no null, so a record with one is an error unless the model says "skip".
static int check_tensors(struct model *model, int *line, struct error *why) {
    if (model->api->kind != API_TENSORS) {
        return 0;
    }
    if (check_flat(model, line, why) != 0) {
        return -EINVAL;
    }
    if (model_setting_of(model, "null.input") == NULL) {
        model->options.null_input = NULL_ERROR;
    }
    if (model->options.null_input != NULL_PASS) {
        return 0;
    }
    return error_set(why, model_blame(model, "null.input", line),
                     "option 'null.input': got 'pass', want 'error' or 'skip': a tensor holds no null");
}

int model_check_provider(struct model *model, int *line, struct error *why) {
    int rc = find_provider(model, line, why);
    rc = rc != 0 ? rc : check_needed(model, line, why);
    rc = rc != 0 ? rc : find_api(model, line, why);
    rc = rc != 0 ? rc : check_schema(model, line, why);
    rc = rc != 0 ? rc : check_unknown(model, line, why);
    rc = rc != 0 ? rc : check_own(model, line, why);
    rc = rc != 0 ? rc : check_vectors(model, line, why);
    rc = rc != 0 ? rc : check_tensors(model, line, why);
    rc = rc != 0 ? rc : check_responses(model, line, why);
    rc = rc != 0 ? rc : check_anthropic(model, line, why);
    rc = rc != 0 ? rc : check_gemini(model, line, why);
    rc = rc != 0 ? rc : check_ollama(model, line, why);
    return rc != 0 ? rc : check_azure(model, line, why);
}
