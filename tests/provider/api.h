// api: the APIs that the simulator speaks, one file and one row each: what a request must be, where its
// parts stand, what an answer looks like. What the vendor would refuse is refused here.
#ifndef HEADRACE_TESTS_PROVIDER_API_H
#define HEADRACE_TESTS_PROVIDER_API_H

#include "common/httpd.h"
#include "tests/provider/chat.h"
#include "tests/provider/ledger.h"
#include "tests/provider/picture.h"
#include "tests/provider/tell.h"

// How a credential comes. In another header it counts as none.
enum api_key { API_KEY_BEARER, API_KEY_AZURE, API_KEY_ANTHROPIC, API_KEY_GEMINI };

struct batch_call;
struct batches;

struct api {
    const char *name;
    const char *head, *end; // the path begins with, and ends in
    enum api_key key;
    enum tell_style style;  // of errors and headers; TELL_OPENAI: as --limit-headers says
    bool model_in_path;     // between head and end; a request has no member of that name
    const char *must;       // a header that must be there; NULL: none
    bool plain_errors;      // {"error":"text"}
    const char *model;      // that answers, when the request's body does not say; NULL: it must
    // For files and batches: owns says whether a path is one of the API's, instead of head and end; open
    // begins a body that goes to disk, or returns NULL for one that is short; serve makes the reply.
    bool (*owns)(struct slice path);
    struct upload *(*open)(struct batches *batches, const struct httpd_request *request);
    void (*serve)(struct batch_call *call);
    // is_open, if there is one, lets a request in without a key.
    bool (*is_open)(const struct httpd_request *request);
    picture_fn *picture;    // of a part that is an image; NULL: it takes none
    // read takes the parts of chat->root into chat: messages or inputs, model, schema, most tokens.
    // Returns 0, or -EINVAL with why, in the vendor's words.
    int (*read)(struct chat *chat, bool strict, struct error *why);
    // write appends the body of an answer whose text is content. Returns 0 or -EMSGSIZE.
    int (*write)(struct job *job, struct chat *chat, uint64_t draw, struct slice content, struct buf *out);
};

extern const struct api api_chat; // what chat_read takes a request for
extern const struct api api_files_openai, api_batches_openai, api_batches_anthropic, api_files_gemini,
    api_batches_gemini, api_files_azure, api_batches_azure;

// api_find finds the API of a path, or returns NULL.
const struct api *api_find(struct slice path);

// api_key_of borrows the credential of a request, from the header that the API wants it in; empty: none,
// or two where one is wanted.
struct slice api_key_of(const struct api *api, const struct httpd_request *request);

// api_unknown_field finds a member that is not among the n names, or returns NULL.
const char *api_unknown_field(struct json_object *object, const char *const *names, size_t n);
// api_check_fields refuses an object with a member that is not among the n names.
MUST_CHECK int api_check_fields(struct json_object *object, const char *const *names, size_t n,
                                struct error *why);
// api_check_strict refuses a JSON Schema outside OpenAI's strict subset: an object whose properties are
// not all required or that allows others, a keyword that is not supported.
MUST_CHECK int api_check_strict(struct json_object *schema, struct error *why);

// The rows, each in a file of its own.
MUST_CHECK int api_chat_read(struct chat *chat, bool strict, struct error *why);
MUST_CHECK int api_chat_write(struct job *job, struct chat *chat, uint64_t draw, struct slice content,
                              struct buf *out);
MUST_CHECK int api_responses_read(struct chat *chat, bool strict, struct error *why);
MUST_CHECK int api_responses_write(struct job *job, struct chat *chat, uint64_t draw,
                                   struct slice content, struct buf *out);
MUST_CHECK int api_embeddings_read(struct chat *chat, bool strict, struct error *why);
MUST_CHECK int api_embeddings_write(struct job *job, struct chat *chat, uint64_t draw,
                                    struct slice content, struct buf *out);
MUST_CHECK int api_messages_read(struct chat *chat, bool strict, struct error *why);
MUST_CHECK int api_messages_write(struct job *job, struct chat *chat, uint64_t draw,
                                  struct slice content, struct buf *out);
MUST_CHECK int api_kserve_read(struct chat *chat, bool strict, struct error *why);
MUST_CHECK int api_kserve_write(struct job *job, struct chat *chat, uint64_t draw, struct slice content,
                                struct buf *out);
MUST_CHECK int api_generate_read(struct chat *chat, bool strict, struct error *why);
MUST_CHECK int api_generate_write(struct job *job, struct chat *chat, uint64_t draw,
                                  struct slice content, struct buf *out);
MUST_CHECK int api_batch_embed_read(struct chat *chat, bool strict, struct error *why);
MUST_CHECK int api_batch_embed_write(struct job *job, struct chat *chat, uint64_t draw,
                                     struct slice content, struct buf *out);

// api_add_vector appends the vector of a text's hash as an array of n numbers.
MUST_CHECK int api_add_vector(uint64_t hash, int64_t n, struct buf *out);

#endif
