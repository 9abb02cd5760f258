// parts: a user message as a row of texts and images. In the message's text an image is a mark that no
// UTF-8 text can hold, so no record can forge one: byte 0xFF, the record's number, ':', the column, 0xFF.
#ifndef HEADRACE_WORKER_PARTS_H
#define HEADRACE_WORKER_PARTS_H

#include "common/bytes.h"
#include "common/image.h"
#include "worker/provider.h"

#define PARTS_MARK 0xFF

// parts_add_mark puts an image's place into a message.
//   index   of the record in the prompt, from 1
//   column  of INPUT, from 0
// Returns 0 or -EMSGSIZE.
MUST_CHECK int parts_add_mark(size_t index, size_t column, struct buf *out);

// parts_has_mark says whether a message has an image. Text that a record brings must not: a record with
// such bytes is none.
bool parts_has_mark(struct slice text);

struct part {
    bool is_image;
    struct slice text;    // text; or an image's URL
    struct slice bytes;   // image: its bytes; empty: text is its URL
    enum image_kind kind; // of bytes
};

// parts_next takes the next part off a message; text of white space alone is passed over, since providers
// refuse it.
// Returns 1; 0 at the end; -EPROTO when a mark names no image of ask's records.
MUST_CHECK int parts_next(const struct ask *ask, struct slice *rest, struct part *part);

// parts_add appends all parts of a message, with a comma between.
//   add  appends one as the provider's JSON
// Returns 0, -EMSGSIZE, -EPROTO.
typedef int part_fn(const struct ask *ask, const struct part *part, struct buf *out);
MUST_CHECK int parts_add(const struct ask *ask, struct slice text, part_fn *add, struct buf *out);

// parts_add_url appends an image as a JSON string: its URL, or a data: URL of its bytes.
MUST_CHECK int parts_add_url(const struct part *part, struct buf *out);
// parts_add_base64 appends an image's bytes as a JSON string.
MUST_CHECK int parts_add_base64(const struct part *part, struct buf *out);

#endif
