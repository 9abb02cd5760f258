// json: whatever is accepted, json-c's own strict parser accepts too and reads as the same value;
// and what is written reads back as the same value and the same text.
#include "common/json.h"

#include <stdlib.h>
#include <string.h>

#define MOST_TEXT (16u << 20)

static void must(bool ok) {
    if (!ok) {
        abort();
    }
}

// check_peer reads the same bytes with json-c's tokener. A byte order mark is unknown to it.
static void check_peer(struct slice text, struct json_object *value) {
    if (slice_starts(text, "\xEF\xBB\xBF")) {
        return;
    }
    struct json_tokener *peer = json_tokener_new_ex(JSON_MAX_DEPTH + 2);
    json_tokener_set_flags(peer, JSON_TOKENER_STRICT);
    struct json_object *other = json_tokener_parse_ex(peer, text.p, (int)text.n);
    if (json_tokener_get_error(peer) == json_tokener_continue) {
        other = json_tokener_parse_ex(peer, " ", 1); // ends a bare number
    }
    must(json_tokener_get_error(peer) == json_tokener_success);
    must(json_object_equal(value, other));
    json_object_put(other);
    json_tokener_free(peer);
}

static void check_written(struct json_object *value) {
    struct buf first, second;
    struct json_object *again;
    buf_init(&first, MOST_TEXT);
    buf_init(&second, MOST_TEXT);
    must(json_add(&first, value) == 0);
    must(memchr(first.p, '\n', first.n) == NULL);
    must(json_parse(buf_slice(&first), &again, NULL) == 0);
    must(json_object_equal(value, again));
    must(json_add(&second, again) == 0);
    must(slice_eq(buf_slice(&first), buf_slice(&second)));
    json_object_put(again);
    buf_free(&first);
    buf_free(&second);
}

static void check_first(struct slice rest) {
    struct json_object *value;
    size_t used;
    while (json_parse_first(rest, &value, &used, NULL) == 0) {
        must(used > 0 && used <= rest.n);
        json_object_put(value);
        rest = slice_sub(rest, used, rest.n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = {.p = (const char *)data, .n = size};
    struct json_object *value;
    struct error why = {""};
    if (json_parse(text, &value, &why) == 0) {
        must(slice_utf8_error(text) < 0);
        check_peer(text, value);
        check_written(value);
        json_object_put(value);
    } else {
        must(why.text[0] != '\0' && value == NULL);
    }
    check_first(text);
    return 0;
}
