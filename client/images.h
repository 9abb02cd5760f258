// images: the files that rows name in columns of IMAGE, read here and put into the row as base64. Only the
// client reads files for a record, and only such: regular files below one folder, reached without "..",
// and without a symbolic link on the way, that hold an image of at most so many bytes. So rows from a
// stranger can make nothing else leave this machine.
#ifndef HEADRACE_CLIENT_IMAGES_H
#define HEADRACE_CLIENT_IMAGES_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"

struct images_config {
    const struct model *model; // whose columns of IMAGE are looked at; borrowed
    const char *folder;        // whose files rows may name; "": that of the file which the row stands in
    size_t max_bytes;          // of one file
};

struct images;

// images_new returns NULL when the model has no column of IMAGE. images_free takes NULL too.
struct images *images_new(const struct images_config *config);
void images_free(struct images *images);

// images_fill reads the files that a row names. A URL, a data: URL and base64 stay as they are, and so
// does a row that names another model.
//   file  that the row stands in, as the user named it; "-" and "standard input": the working directory
//   json  one JSON object
//   out   json itself, or the row with the images in it, valid until the next call
// Returns 0; -EINVAL with why: "column 'p': image 'a.png': got ..., want ..."; -EMSGSIZE with why: the
// row with its images is longer than a record may be.
MUST_CHECK int images_fill(struct images *images, const char *file, struct slice json, struct slice *out,
                           struct error *why);

#endif
