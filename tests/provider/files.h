// files: what was uploaded and what jobs have made, of all APIs and keys.
#ifndef HEADRACE_TESTS_PROVIDER_FILES_H
#define HEADRACE_TESTS_PROVIDER_FILES_H

#include "tests/provider/spool.h"

#include <uthash.h>

struct file {
    char id[64];
    uint64_t number;     // from 1, in the order they were made
    uint64_t owner;      // hash of the credential
    struct spool *spool; // an owner of it
    char name[128], purpose[32], type[64];
    int64_t created_us, ready_us, expires_us; // since 1970; expires_us 0: never
    bool is_open;                             // its upload goes on
    uint64_t ticket;                          // Gemini: of the upload
    uint64_t announced; // Gemini: bytes that the upload was to have; UINT64_MAX: not said
    bool is_result;     // a job made it
    struct file *prev, *next;
    UT_hash_handle hh;
};

struct files {
    struct file *list; // the oldest first
    struct file *table;
    uint64_t n_made;
};

// files_add makes a file; takes the spool.
//   id  how its id begins; the rest is drawn from seed and the file's number
struct file *files_add(struct files *files, const char *id, uint64_t seed, uint64_t owner,
                       struct spool **spool, int64_t now_us);
// files_find finds one that has not expired and belongs to owner, or NULL.
struct file *files_find(struct files *files, struct slice id, uint64_t owner, int64_t now_us);
// files_remove forgets a file; whoever reads its spool goes on.
void files_remove(struct files *files, struct file *file);
void files_free(struct files *files);

#endif
