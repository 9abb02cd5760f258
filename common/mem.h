// mem: allocation that never returns NULL. What grows with input lives in a buf with a ceiling
// (common/bytes.h) and is refused long before memory ends; for all else running out of memory ends
// the process with one line on stderr.
#ifndef HEADRACE_COMMON_MEM_H
#define HEADRACE_COMMON_MEM_H

#include <stddef.h>

// mem_alloc returns n bytes, uninitialised; n may be 0. Free with free().
void *mem_alloc(size_t n);
// mem_zalloc returns n zeroed bytes. Free with free().
void *mem_zalloc(size_t n);
// mem_realloc resizes p (may be NULL) to n bytes.
void *mem_realloc(void *p, size_t n);
// mem_dup copies n bytes and adds a NUL that n does not count. Free with free().
char *mem_dup(const void *p, size_t n);
// mem_dup_str copies a C string. Free with free().
char *mem_dup_str(const char *s);

#endif
