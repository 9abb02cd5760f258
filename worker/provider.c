// The table of providers and what their readers share. Called by the worker's wiring and by the
// providers.
#include "worker/provider.h"

#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
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

// ---- What writers share -------------------------------------------------------------------------

int body_add_number(const char *name, double value, struct buf *out) {
    if (isnan(value)) {
        return 0;
    }
    int rc = buf_addf(out, ",\"%s\":", name);
    return rc != 0 ? rc : json_add_double(out, value);
}

int body_add_count(const char *name, int64_t value, struct buf *out) {
    return value == MODEL_UNSET ? 0 : buf_addf(out, ",\"%s\":%" PRId64, name, value);
}

// patch puts the members of *more* into *into* as RFC 7396 says: objects go into one another, null takes a
// member out, anything else stands in its place. It goes no deeper than a JSON text may.
static void patch(struct json_object *into, struct json_object *more) {
    json_object_object_foreach(more, name, value) {
        struct json_object *old = json_get(into, name);
        if (value == NULL) {
            json_object_object_del(into, name);
        } else if (!json_object_is_type(value, json_type_object)) {
            json_object_object_add(into, name, json_object_get(value));
        } else if (json_object_is_type(old, json_type_object)) {
            patch(old, value);
        } else {
            struct json_object *fresh = json_object_new_object(); // no null of the patch stays in it
            patch(fresh, value);
            json_object_object_add(into, name, fresh);
        }
    }
}

int body_merge(const struct model *model, struct buf *body) {
    struct json_object *whole = NULL, *more = NULL;
    if (model->options.params[0] == '\0') {
        return 0;
    }
    int rc = json_parse(buf_slice(body), &whole, NULL);
    rc = rc != 0 ? rc : json_parse(slice_of(model->options.params), &more, NULL);
    if (rc == 0 && (!json_object_is_type(whole, json_type_object) || !json_object_is_type(more, json_type_object))) {
        rc = -EINVAL;
    } else if (rc == 0) {
        patch(whole, more);
        buf_clear(body);
        rc = json_add(body, whole);
    }
    json_object_put(whole);
    json_object_put(more);
    return rc;
}

// ---- What readers share -------------------------------------------------------------------------

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
