// OpenAI embeddings. A text's vector follows from its hash: number k is byte k modulo 8 of the hash
// (the lowest first), less 128, divided by 128. The order of the answer is turned around, so that a client
// that goes by place is found out. Called through the table of APIs.
#include "tests/provider/api.h"
#include "common/json.h"
#include "tests/provider/answer.h"

#include <errno.h>
#include <string.h>

#define INPUTS_MOST 2048
#define USUAL_DIMENSIONS 8
#define MOST_DIMENSIONS 4096

static const char *const fields[] = {"model", "input", "encoding_format", "dimensions", "user"};

static int read_inputs(struct chat *chat, struct error *why) {
    struct json_object *input = json_get(chat->root, "input");
    bool many = json_object_is_type(input, json_type_array);
    size_t n = many ? json_object_array_length(input) : 1;
    if (n == 0 || n > INPUTS_MOST) {
        return error_set(why, -EINVAL, "Invalid 'input': array too long. Expected 1 to %d, got %zu.",
                         INPUTS_MOST, n);
    }
    for (size_t i = 0; i < n; i++) {
        struct json_object *text = many ? json_object_array_get_idx(input, i) : input;
        if (json_text(text).n == 0) {
            return error_set(why, -EINVAL, "'$.input' is invalid: input %zu is empty or no text.", i);
        }
        if (chat_add_input(chat, (int64_t)i, text) != 0) {
            return error_set(why, -EINVAL, "input[%zu]: too long", i);
        }
    }
    return 0;
}

int api_embeddings_read(struct chat *chat, bool strict, struct error *why) {
    int rc = strict ? api_check_fields(chat->root, fields, sizeof(fields) / sizeof(fields[0]), why) : 0;
    rc = rc != 0 ? rc : read_inputs(chat, why);
    struct slice format = json_text(json_get(chat->root, "encoding_format"));
    struct json_object *dimensions = json_get(chat->root, "dimensions");
    chat->vectors = true;
    chat->base64 = slice_is(format, "base64");
    chat->dimensions = dimensions != NULL ? json_object_get_int64(dimensions) : USUAL_DIMENSIONS;
    if (rc == 0 && format.n > 0 && !chat->base64 && !slice_is(format, "float")) {
        rc = error_set(why, -EINVAL, "Invalid 'encoding_format': want float or base64.");
    }
    if (rc == 0 && (chat->dimensions < 1 || chat->dimensions > MOST_DIMENSIONS)) {
        rc = error_set(why, -EINVAL, "Invalid 'dimensions': want 1 to %d.", MOST_DIMENSIONS);
    }
    return rc;
}

static float number_of(uint64_t hash, int64_t k) {
    return ((float)((hash >> (8 * (k % 8))) & 0xff) - 128) / 128;
}

static int add_base64(uint64_t hash, int64_t n, struct buf *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int n_bits = 0, rc = buf_add_byte(out, '"');
    for (int64_t k = 0; rc == 0 && k < 4 * n; k++) {
        float number = number_of(hash, k / 4);
        uint32_t word;
        memcpy(&word, &number, sizeof(word));
        bits = (bits << 8) | ((word >> (8 * (k % 4))) & 0xff);
        for (n_bits += 8; rc == 0 && n_bits >= 6; n_bits -= 6) {
            rc = buf_add_byte(out, digits[(bits >> (n_bits - 6)) & 63]);
        }
    }
    if (rc == 0 && n_bits > 0) {
        rc = buf_addf(out, "%c%s", digits[(bits << (6 - n_bits)) & 63], n_bits == 2 ? "==" : "=");
    }
    return rc != 0 ? rc : buf_add_byte(out, '"');
}

int api_add_vector(uint64_t hash, int64_t n, struct buf *out) {
    int rc = buf_add_byte(out, '[');
    for (int64_t k = 0; rc == 0 && k < n; k++) {
        rc = k > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : json_add_double(out, (double)number_of(hash, k));
    }
    return rc != 0 ? rc : buf_add_byte(out, ']');
}

// index_of is the index that an item gets: its own, or a wrong one.
static int64_t index_of(const struct job *job, const struct chat *chat, size_t i, size_t struck) {
    int64_t n = (int64_t)chat->n_slots;
    switch (job->fault) {
    case FAULT_SHIFTED:
        return (int64_t)i - 1;
    case FAULT_OUT_OF_RANGE:
        return i == struck ? n + 3 : (int64_t)i;
    case FAULT_DUPLICATE:
        return i == struck ? ((int64_t)i + 1) % n : (int64_t)i;
    default:
        return (int64_t)i;
    }
}

static int add_item(const struct job *job, struct chat *chat, size_t i, size_t struck, struct buf *out) {
    uint64_t hash = answer_hash(chat_text(chat, &chat->slots[i]));
    int64_t index = index_of(job, chat, i, struck);
    int rc = buf_addf(out, "{\"object\":\"embedding\",\"index\":%lld,\"embedding\":", (long long)index);
    if (rc == 0 && job->fault == FAULT_WRONG_TYPE && i == struck) {
        rc = buf_add_str(out, "{}");
    } else if (rc == 0) {
        rc = chat->base64 ? add_base64(hash, chat->dimensions, out)
                          : api_add_vector(hash, chat->dimensions, out);
    }
    rc = rc != 0 ? rc : buf_add_byte(out, '}');
    bool right = index == (int64_t)i && !(job->fault == FAULT_WRONG_TYPE && i == struck);
    chat->slots[i].item_end = right ? out->n : 0;
    return rc;
}

int api_embeddings_write(struct job *job, struct chat *chat, uint64_t draw, struct slice content,
                         struct buf *out) {
    size_t struck = (size_t)(draw % chat->n_slots);
    bool none = job->fault == FAULT_EMPTY || job->fault == FAULT_MALFORMED;
    const char *comma = "";
    int rc = buf_add_str(out, job->fault == FAULT_MALFORMED ? "{\"object\":\"list\",\"data\":\"oops\""
                                                            : "{\"object\":\"list\",\"data\":[");
    for (size_t i = chat->n_slots; rc == 0 && !none && i-- > 0;) {
        if (job->fault != FAULT_MISSING || i != struck) {
            rc = buf_add_str(out, comma);
            rc = rc != 0 ? rc : add_item(job, chat, i, struck, out);
            comma = ",";
        }
    }
    rc = rc != 0 || job->fault == FAULT_MALFORMED ? rc : buf_add_byte(out, ']');
    rc = rc != 0 ? rc : buf_add_str(out, ",\"model\":");
    rc = rc != 0 ? rc : json_add_string(out, chat->model);
    job->output_tokens = 0;
    return rc != 0 ? rc
                   : buf_addf(out, ",\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}",
                              job->input_tokens, job->input_tokens);
}
