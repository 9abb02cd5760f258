// Allocation that never returns NULL: the one place where running out of memory ends the process.
#include "common/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must_have(void *p, size_t n) {
    if (p == NULL) {
        fprintf(stderr, "headrace: out of memory: asked for %zu bytes\n", n);
        abort();
    }
    return p;
}

void *mem_alloc(size_t n) {
    return must_have(malloc(n > 0 ? n : 1), n);
}

void *mem_zalloc(size_t n) {
    return must_have(calloc(1, n > 0 ? n : 1), n);
}

void *mem_realloc(void *p, size_t n) {
    return must_have(realloc(p, n > 0 ? n : 1), n);
}

char *mem_dup(const void *p, size_t n) {
    char *copy = mem_alloc(n + 1);
    if (n > 0) {
        memcpy(copy, p, n);
    }
    copy[n] = '\0';
    return copy;
}

char *mem_dup_str(const char *s) {
    return mem_dup(s, strlen(s));
}
