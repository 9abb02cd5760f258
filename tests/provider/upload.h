// upload: a request's body on its way to disk: a form with a file, a document with an array, or
// bytes.
#ifndef HEADRACE_TESTS_PROVIDER_UPLOAD_H
#define HEADRACE_TESTS_PROVIDER_UPLOAD_H

#include "tests/provider/elements.h"
#include "tests/provider/multipart.h"
#include "tests/provider/spool.h"

#include <stdint.h>

enum upload_kind { UPLOAD_FORM, UPLOAD_ARRAY, UPLOAD_BYTES };

#define UPLOAD_VALUE_MAX 64

// A field of a form that is no file.
struct upload_field {
    char name[MULTIPART_NAME_MAX];
    char value[UPLOAD_VALUE_MAX];
};

#define UPLOAD_FIELDS_MAX 8

struct upload {
    enum upload_kind kind;
    struct spool *spool; // the file, or the array's elements as lines
    uint64_t n, most;    // bytes of the body; what it may have, past that they are dropped
    bool too_long;
    int rc;           // the first error; 0: none
    struct error why; // in words
    struct multipart form;
    struct upload_field fields[UPLOAD_FIELDS_MAX];
    size_t n_fields;
    bool has_file;
    char filename[MULTIPART_NAME_MAX];
    struct elements array;
    uint64_t n_elements;
};

// upload_form begins a form whose part "file" goes to disk.
//   folder        for the spool
//   content_type  the header
struct upload *upload_form(const char *folder, struct slice content_type, uint64_t most);
// upload_array begins a document with an array, which path names (elements.h).
struct upload *upload_array(const char *folder, const char *const *path, size_t n_path,
                            uint64_t most);
// upload_bytes begins a body that goes to disk as it is, at the end of a spool that is there; NULL:
// a new one.
struct upload *upload_bytes(const char *folder, struct spool *spool, uint64_t most);
void upload_free(struct upload *upload);

// upload_add takes the next bytes. Never fails: what is wrong is in rc when the body has ended.
void upload_add(struct upload *upload, struct slice bytes);
// upload_end has all on disk. Returns 0, -EMSGSIZE (too long), -EINVAL or -EIO, with upload->why.
MUST_CHECK int upload_end(struct upload *upload);
// upload_value finds a form's field; NULL: there is none.
const char *upload_value(const struct upload *upload, const char *name);

#endif
