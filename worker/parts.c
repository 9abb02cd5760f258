// Messages with images. Invariant: each mark stands where its record's slot has the column, so an image comes
// between its own record's number and the end of its slot. Called by prompt (marks) and the writers of
// providers (parts).
#include "worker/parts.h"

#include "common/base64.h"
#include "common/json.h"
#include "proto/record.h"
#include "worker/value.h"

#include <errno.h>
#include <string.h>

int parts_add_mark(size_t index, size_t column, struct buf *out) {
    return buf_addf(out, "\xFF%zu:%zu\xFF", index, column);
}

bool parts_has_mark(struct slice text) {
    return text.n > 0 && memchr(text.p, PARTS_MARK, text.n) != NULL;
}

// find_image borrows the image of a column of a record.
static int find_image(const struct ask *ask, size_t index, size_t column, struct part *part) {
    struct slice rest = ask->records, values;
    struct value value = {0};
    uint64_t slot;
    for (size_t i = 0; i < index; i++) {
        if (record_next(&rest, &slot, &values) != 1) {
            return -EPROTO;
        }
    }
    if (index == 0 || value_array(&values) <= (long)column) {
        return -EPROTO;
    }
    for (size_t i = 0; i <= column; i++) {
        if (value_next(&values, &value) != 0) {
            return -EPROTO;
        }
    }
    *part = (struct part){.is_image = true};
    // Nothing but http(s) goes out, and only to a provider that may fetch it; no path is ever opened.
    if (value.kind == VALUE_STRING && image_is_link(value.text) && provider_takes_links(ask->model)) {
        part->text = value.text;
        return 0;
    }
    part->bytes = value.kind == VALUE_BYTES ? value.text : SLICE_NONE;
    part->kind = image_kind(part->bytes);
    return part->kind != IMAGE_NONE ? 0 : -EPROTO;
}

// take_number reads digits up to end and passes it.
static bool take_number(struct slice *rest, char end, size_t *number) {
    *number = 0;
    for (size_t i = 0; i < rest->n && i < 8; i++) {
        char c = rest->p[i];
        if (c == end && i > 0) {
            *rest = slice_sub(*rest, i + 1, rest->n);
            return true;
        }
        if (c < '0' || c > '9') {
            return false;
        }
        *number = *number * 10 + (size_t)(c - '0');
    }
    return false;
}

int parts_next(const struct ask *ask, struct slice *rest, struct part *part) {
    while (rest->n > 0) {
        const char *mark = memchr(rest->p, PARTS_MARK, rest->n);
        size_t n = mark != NULL ? (size_t)(mark - rest->p) : rest->n;
        struct slice text = slice_sub(*rest, 0, n);
        if (n > 0) {
            *rest = slice_sub(*rest, n, rest->n);
            if (slice_trim(text).n > 0) {
                *part = (struct part){.text = text};
                return 1;
            }
            continue;
        }
        size_t index, column;
        *rest = slice_sub(*rest, 1, rest->n);
        if (!take_number(rest, ':', &index) || !take_number(rest, (char)PARTS_MARK, &column)) {
            return -EPROTO;
        }
        int rc = find_image(ask, index, column, part);
        return rc != 0 ? rc : 1;
    }
    return 0;
}

int parts_add(const struct ask *ask, struct slice text, part_fn *add, struct buf *out) {
    struct part part;
    int rc = 0, got;
    for (size_t n = 0; rc == 0 && (got = parts_next(ask, &text, &part)) != 0; n++) {
        rc = got < 0 ? got : n > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : add(ask, &part, out);
    }
    return rc;
}

int parts_add_url(const struct part *part, struct buf *out) {
    if (part->bytes.n == 0) {
        return json_add_string(out, part->text);
    }
    int rc = buf_addf(out, "\"data:%s;base64,", image_media_type(part->kind));
    rc = rc != 0 ? rc : base64_add(out, part->bytes);
    return rc != 0 ? rc : buf_add_byte(out, '"');
}

int parts_add_base64(const struct part *part, struct buf *out) {
    int rc = buf_add_byte(out, '"');
    rc = rc != 0 ? rc : base64_add(out, part->bytes);
    return rc != 0 ? rc : buf_add_byte(out, '"');
}
