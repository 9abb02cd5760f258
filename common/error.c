// A sentence for a human. Whoever fails writes it; whoever passes it on may put words before it;
// whoever handles it prints or logs it, once.
#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>

int error_set(struct error *why, int code, const char *format, ...) {
    if (why != NULL) {
        va_list args;
        va_start(args, format);
        vsnprintf(why->text, sizeof(why->text), format, args);
        va_end(args);
    }
    return code;
}

void error_prefix(struct error *why, const char *format, ...) {
    if (why == NULL) {
        return;
    }
    struct error old = *why;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(why->text, sizeof(why->text), format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(why->text)) {
        snprintf(why->text + n, sizeof(why->text) - (size_t)n, "%s", old.text);
    }
}
