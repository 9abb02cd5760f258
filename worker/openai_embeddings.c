// OpenAI embeddings: all records of a call in one array of inputs. Invariant: a vector is matched by the
// index that the provider gave it, never by its place; one index that is no record's puts all in doubt.
// Source: platform.openai.com/docs/api-reference/embeddings, 2026-11.
#include "worker/openai.h"

#include "common/json.h"
#include "worker/vectors.h"

// base64 is a quarter of the bytes; a server that does not know it answers with numbers.
static int embeddings_write(const struct ask *ask, struct buf *body) {
    int rc = buf_add_str(body, "{\"model\":");
    rc = rc != 0 ? rc : json_add_string(body, slice_of(ask->model->options.model));
    rc = rc != 0 ? rc : buf_add_str(body, ",\"input\":[");
    for (size_t i = 0; rc == 0 && i < ask->count; i++) {
        rc = i > 0 ? buf_add_byte(body, ',') : 0;
        rc = rc != 0 ? rc : json_add_string(body, ask->inputs[i]);
    }
    rc = rc != 0 ? rc : buf_add_str(body, "],\"encoding_format\":\"base64\"");
    rc = rc != 0 ? rc : body_add_count("dimensions", ask->model->options.dimensions, body);
    return rc != 0 ? rc : openai_finish_body(ask->model, body);
}

static void read_vectors(const struct reply *reply, struct json_object *data, struct answer *answer) {
    size_t n = json_object_array_length(data);
    vectors_begin(answer, reply->count);
    for (size_t i = 0; i < n; i++) {
        struct json_object *item = json_object_array_get_idx(data, i);
        uint64_t index;
        if (!answer_count(item, "index", &index) || index >= reply->count) {
            answer_fail(answer, OUTCOME_SHIFTED, "a vector's index is missing or belongs to no input");
            return;
        }
        if (vectors_add(answer, index, json_get(item, "embedding")) != 0) {
            continue; // the record stays without one, and is asked again
        }
    }
}

static void embeddings_read(const struct reply *reply, struct answer *answer) {
    struct json_object *root = reply_json(reply->model->provider->id, reply, answer);
    if (root == NULL) {
        return;
    }
    openai_read_top(root, answer);
    answer->usage_known = answer_count(json_get(root, "usage"), "prompt_tokens", &answer->input_tokens);
    struct json_object *data = json_get(root, "data");
    if (!json_object_is_type(data, json_type_array)) {
        answer_fail(answer, OUTCOME_TRANSIENT, "HTTP 200 with JSON that has no data");
        return;
    }
    read_vectors(reply, data, answer);
}

const struct dialect openai_embeddings = {.write = embeddings_write, .read = embeddings_read};
