// How many tokens a text is. Called by the client's dry run and by the coordinator's estimates.
#include "common/tokens.h"
#include "common/mem.h"

#include <stddef.h>
#include <string.h>

struct known {
    char *path;
    struct tokenizer *tokenizer;
    struct known *next;
};
static struct known *known; // a process uses one or two

uint64_t tokens_count(const struct tokenizer *tokenizer, struct slice text) {
    return tokenizer != NULL ? tokenizer_count(tokenizer, text) : (text.n + TOKENS_BYTES - 1) / TOKENS_BYTES;
}

const struct tokenizer *tokens_tokenizer(const char *path, struct error *why) {
    for (const struct known *k = known; k != NULL; k = k->next) {
        if (strcmp(k->path, path) == 0) {
            return k->tokenizer;
        }
    }
    struct tokenizer *tokenizer = path[0] != '\0' ? tokenizer_load(path, why) : NULL;
    if (tokenizer != NULL) {
        struct known *k = mem_zalloc(sizeof(*k));
        *k = (struct known){.path = mem_dup_str(path), .tokenizer = tokenizer, .next = known};
        known = k;
    }
    return tokenizer;
}
