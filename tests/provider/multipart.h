// multipart: multipart/form-data as it comes in, piece by piece, without holding a part.
//
// Strict: boundaries stand at the beginnings of lines, lines end in CRLF, every part has a
// Content-Disposition of form-data with a name, and the closing boundary is there.
// Sources: RFC 7578 sections 4.1 to 4.3, RFC 2046 section 5.1.1.
#ifndef HEADRACE_TESTS_PROVIDER_MULTIPART_H
#define HEADRACE_TESTS_PROVIDER_MULTIPART_H

#include "common/bytes.h"
#include "common/error.h"

#define MULTIPART_NAME_MAX 128

// multipart_sink gets the bytes of a part, in order; at least one call for each part, an empty one
// too.
//   name, filename  of the part; filename is "" when there is none
// Returns 0, or a negative errno, which multipart_add hands on.
typedef int multipart_sink(void *arg, const char *name, const char *filename, struct slice bytes);

enum multipart_state { MULTIPART_BEFORE, MULTIPART_HEADERS, MULTIPART_PART, MULTIPART_AFTER };

struct multipart {
    enum multipart_state state;
    char delimiter[80]; // CRLF -- boundary
    size_t n_delimiter;
    struct buf held; // bytes not yet understood
    char name[MULTIPART_NAME_MAX], filename[MULTIPART_NAME_MAX];
    multipart_sink *sink;
    void *arg;
};

// multipart_init begins.
//   content_type  the header: multipart/form-data; boundary=...
// Returns 0, or -EINVAL with why. multipart_free in any case.
MUST_CHECK int multipart_init(struct multipart *m, struct slice content_type, multipart_sink *sink,
                              void *arg, struct error *why);
void multipart_free(struct multipart *m);
// multipart_add takes the next bytes. Returns 0, -EINVAL with why, or what the sink returned.
MUST_CHECK int multipart_add(struct multipart *m, struct slice bytes, struct error *why);
// multipart_end says whether all was there. Returns 0 or -EINVAL with why.
MUST_CHECK int multipart_end(const struct multipart *m, struct error *why);

#endif
