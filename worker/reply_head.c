// Headers that count for every answer. Invariant: Retry-After-Ms is finer than Retry-After and wins
// wherever it stands. Called by http and transfer.
#include "worker/reply_head.h"

#include "common/clock.h"
#include "worker/provider.h"
#include "worker/retry_after.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void read_retry_after(struct reply_head *head, struct slice value) {
    int64_t ms = retry_after_parse(value, clock_unix_ms());
    if (ms > 0 && head->delay_ms == 0) {
        head->delay_ms = (uint64_t)ms;
    }
}

static void read_retry_after_ms(struct reply_head *head, struct slice value) {
    char text[32];
    if (slice_copy(value, text, sizeof(text)) && text[0] >= '0' && text[0] <= '9') {
        double ms = strtod(text, NULL);
        if (ms > 0 && ms <= 86400000) {
            head->delay_ms = (uint64_t)ceil(ms);
        }
    }
}

static void read_should_retry(struct reply_head *head, struct slice value) {
    head->should_retry = slice_is_nocase(value, "true") ? 1 : slice_is_nocase(value, "false") ? 0 : -1;
}

static void read_request_id(struct reply_head *head, struct slice value) {
    text_clean(value, head->request_id, sizeof(head->request_id));
}

static void read_content_type(struct reply_head *head, struct slice value) {
    text_clean(value, head->content_type, sizeof(head->content_type));
}

static const struct {
    const char *name;
    void (*read)(struct reply_head *head, struct slice value);
} headers[] = {
    {.name = "retry-after", .read = read_retry_after},
    {.name = "retry-after-ms", .read = read_retry_after_ms},
    {.name = "x-should-retry", .read = read_should_retry},
    {.name = "x-request-id", .read = read_request_id},
    {.name = "apim-request-id", .read = read_request_id},
    {.name = "request-id", .read = read_request_id},
    {.name = "content-type", .read = read_content_type},
};

void reply_head_clear(struct reply_head *head) {
    *head = (struct reply_head){.should_retry = -1};
}

void reply_head_read(struct reply_head *head, struct slice name, struct slice value) {
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        if (slice_is_nocase(name, headers[i].name)) {
            headers[i].read(head, value);
        }
    }
}

bool header_split(struct slice line, struct slice *name, struct slice *value) {
    const char *colon = line.n > 0 ? memchr(line.p, ':', line.n) : NULL;
    if (colon == NULL) {
        return false;
    }
    size_t n_name = (size_t)(colon - line.p);
    *name = slice_sub(line, 0, n_name);
    *value = slice_trim(slice_sub(line, n_name + 1, line.n));
    return true;
}
