// A model against its provider: is there such a provider, does it do the task, what must the model say.
// Invariant: after this, model->provider and model->api are set and the URL of a call can be made.
// Called by model_check.
#include "common/model_parts.h"

#include "common/providers.h"

#include <errno.h>
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
    model->api = provider_api_find(model->provider->id, o->endpoint, tasks, &named);
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

int model_check_provider(struct model *model, int *line, struct error *why) {
    int rc = find_provider(model, line, why);
    rc = rc != 0 ? rc : check_needed(model, line, why);
    rc = rc != 0 ? rc : find_api(model, line, why);
    return rc != 0 ? rc : check_schema(model, line, why);
}
