// Files and batches of Azure OpenAI, dated paths and v1. What differs from OpenAI: the key's
// header, files that are pending at first, 100,000 lines, no expiry, counts that are null until the
// end, an error file of 0 bytes, and a reply to create with a capital state and times as text.
// Called through the table of APIs.
//
// Source: "How to use batch with Azure OpenAI", 2026-08.
#include "tests/provider/openai_objects.h"

static bool owns_files(struct slice path) {
    struct slice rest;
    return openai_rest(path, true, "/files", &rest);
}

static bool owns_batches(struct slice path) {
    struct slice rest;
    return openai_rest(path, true, "/batches", &rest);
}

const struct api api_files_azure = {.name = "azure files",
                                    .key = API_KEY_AZURE,
                                    .owns = owns_files,
                                    .open = openai_open_file,
                                    .serve = openai_serve_files};
const struct api api_batches_azure = {.name = "azure batches",
                                      .key = API_KEY_AZURE,
                                      .owns = owns_batches,
                                      .serve = openai_serve_batches};
