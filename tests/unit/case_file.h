// Text cases: tests/cases/NAME.test. Lines before the first case are comments.
//
//   === what the case shows
//   lines that set the case up
//   ---
//   input
//   ---
//   what must come out
//
// A case's parts end with their last line break, which does not count.
#ifndef HEADRACE_TESTS_CASE_FILE_H
#define HEADRACE_TESTS_CASE_FILE_H

#include "common/bytes.h"
#include "common/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CASES_MAX 512

struct text_case {
    struct slice name, setup, input, want;
};

struct case_file {
    char *text;
    struct text_case cases[CASES_MAX];
    size_t n;
};

// case_part cuts the text before mark (a line) off *rest.
static struct slice case_part(struct slice *rest, const char *mark) {
    size_t n = strlen(mark), i = 0;
    while (i < rest->n && !(rest->n - i >= n && memcmp(rest->p + i, mark, n) == 0 &&
                            (i == 0 || rest->p[i - 1] == '\n'))) {
        i++;
    }
    struct slice part = slice_sub(*rest, 0, i);
    *rest = slice_sub(*rest, i + n, rest->n);
    if (part.n > 0 && part.p[part.n - 1] == '\n') {
        part.n--;
    }
    return part;
}

// case_line cuts the first line off *rest.
static struct slice case_line(struct slice *rest) {
    const char *end = rest->n > 0 ? memchr(rest->p, '\n', rest->n) : NULL;
    size_t n = end != NULL ? (size_t)(end - rest->p) : rest->n;
    struct slice line = slice_sub(*rest, 0, n);
    *rest = slice_sub(*rest, n + 1, rest->n);
    return line;
}

static void case_file_read(const char *path, struct case_file *file) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        abort();
    }
    file->text = mem_zalloc(1 << 20);
    file->n = 0;
    size_t n = fread(file->text, 1, (1 << 20) - 1, f);
    fclose(f);
    struct slice rest = {.p = file->text, .n = n};
    case_part(&rest, "=== ");
    while (rest.n > 0 && file->n < CASES_MAX) {
        struct slice whole = case_part(&rest, "=== ");
        struct text_case *c = &file->cases[file->n++];
        c->name = case_line(&whole);
        c->setup = case_part(&whole, "---\n");
        c->input = case_part(&whole, "---\n");
        c->want = slice_trim(whole);
    }
}

// case_setting returns what stands behind "name: " in a setup, or fallback.
static struct slice case_setting(struct slice setup, const char *name, const char *fallback) {
    while (setup.n > 0) {
        struct slice line = case_line(&setup);
        size_t n = strlen(name);
        if (slice_starts(line, name) && line.n > n && line.p[n] == ':') {
            return slice_trim(slice_sub(line, n + 1, line.n));
        }
    }
    return slice_of(fallback);
}

#endif
