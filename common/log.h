// log: one event, one line: time, level, program, event, key=value ... on stderr.
//
//   log_info("batch.sent", "batch=%s records=%zu", id, n);
//   2026-11-21T10:00:00.123Z info  coordinator batch.sent batch=.. records=20
//
// error: act now; warn: we coped; info: a state changed; debug: for whoever looks for a fault.
// Never a credential, never the text of a record.
#ifndef HEADRACE_COMMON_LOG_H
#define HEADRACE_COMMON_LOG_H

#include "common/error.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

// log_setup names the program in every line and sets the level; name is borrowed for ever.
void log_setup(const char *program, enum log_level level);
// log_level_parse reads "error", "warn", "info" or "debug"; -EINVAL with why otherwise.
MUST_CHECK int log_level_parse(const char *text, enum log_level *level, struct error *why);
int log_is_on(enum log_level level);

void log_line(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(event, ...) log_line(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...) log_line(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...) log_line(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) \
    do { \
        if (log_is_on(LOG_DEBUG)) { \
            log_line(LOG_DEBUG, event, __VA_ARGS__); \
        } \
    } while (0)

#endif
