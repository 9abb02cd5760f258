// error: a sentence for a human, filled in where a call fails: where, what it got, what it wanted.
#ifndef HEADRACE_COMMON_ERROR_H
#define HEADRACE_COMMON_ERROR_H

#define ERROR_MAX 1024 // bytes of one sentence, with its NUL

struct error {
    char text[ERROR_MAX]; // empty while nothing failed; cut, never overrun
};

// error_set writes the sentence and returns code (a negative errno), so that a failing function can
// say `return error_set(why, -EINVAL, ...)`. why may be NULL. Never put a secret in.
int error_set(struct error *why, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// error_prefix puts words ("models.sql:3: ") before the sentence that is there. why may be NULL.
void error_prefix(struct error *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
