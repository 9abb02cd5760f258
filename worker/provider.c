// The table of providers and what their readers share. Called by the worker's wiring and by the
// providers.
#include "worker/provider.h"

#include "common/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct provider *const providers[N_PROVIDERS] = {
#define PROVIDER(ID, name, text, host, root, tokens, own) [PROVIDER_##ID] = &provider_##name,
#define API(ID, KIND, path, tasks, schema, images, inputs)
#include "common/providers.def"
#undef PROVIDER
#undef API
};

const struct provider *provider_of(const struct model *model) {
    return providers[model->provider->id];
}

const struct dialect *provider_dialect(const struct model *model) {
    return providers[model->provider->id]->dialects[model->api->kind];
}

bool provider_schema(const struct model *model) {
    const struct model_options *o = &model->options;
    enum api_schema schema = model->api->schema;
    if (o->structured_output == STRUCTURED_OFF || schema == API_SCHEMA_NEVER) {
        return false;
    }
    if (o->structured_output == STRUCTURED_REQUIRED) {
        return true;
    }
    return o->response_format == RESPONSE_JSON && strcmp(o->response_path, "$[*]") == 0 &&
           (schema == API_SCHEMA_ALWAYS || (schema == API_SCHEMA_OWN && provider_is_own(model)));
}

void answer_clear(struct answer *answer) {
    json_object_put(answer->root);
    buf_free(&answer->made);
    free(answer->vectors);
    *answer = (struct answer){0};
}

void answer_fail(struct answer *answer, enum outcome outcome, const char *sentence) {
    answer->outcome = outcome;
    snprintf(answer->detail, sizeof(answer->detail), "%s", sentence);
}

bool answer_count(struct json_object *object, const char *name, uint64_t *count) {
    struct json_object *n = json_get(object, name);
    if (!json_object_is_type(n, json_type_int) || json_object_get_int64(n) < 0) {
        return false;
    }
    *count = (uint64_t)json_object_get_int64(n);
    return true;
}

void text_clean(struct slice text, char *into, size_t size) {
    long bad = slice_utf8_error(text);
    slice_copy(bad >= 0 ? slice_sub(text, 0, (size_t)bad) : text, into, size);
    for (char *c = into; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = ' ';
        }
    }
}

struct json_object *reply_json(enum provider_id id, const struct reply *reply, struct answer *answer) {
    if (json_parse(reply->body, &answer->root, NULL) != 0 || answer->root == NULL) {
        error_not_json(id, reply, answer);
        return NULL;
    }
    struct json_object *root = answer->root;
    bool object = json_object_is_type(root, json_type_object);
    if (reply->status != 200 || !object || json_get(root, "error") != NULL) {
        struct provider_error error = {0};
        if (reply->status == 200 && !object && !json_object_is_type(root, json_type_array)) {
            error_not_json(id, reply, answer);
            return NULL;
        }
        error_read(root, reply->status, &error);
        error_classify(id, reply, &error, answer);
        return NULL;
    }
    return root;
}
