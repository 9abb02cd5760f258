// One event, one line, one write(2), so that lines of several processes on one stderr do not mix.
// Control bytes in values become spaces: a line is always one line.
#include "common/log.h"
#include "common/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

static struct {
    const char *program;
    enum log_level level;
} settings = {.program = "headrace", .level = LOG_INFO};

void log_setup(const char *program, enum log_level level) {
    settings.program = program;
    settings.level = level;
}

int log_level_parse(const char *text, enum log_level *level, struct error *why) {
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return 0;
        }
    }
    return error_set(why, -EINVAL, "log level: got '%s', want error, warn, info or debug", text);
}

int log_is_on(enum log_level level) {
    return level <= settings.level;
}

void log_line(enum log_level level, const char *event, const char *format, ...) {
    if (!log_is_on(level)) {
        return;
    }
    char line[LINE_MAX_BYTES];
    int64_t now_ms = clock_unix_ms();
    time_t now_s = (time_t)(now_ms / 1000);
    struct tm tm;
    gmtime_r(&now_s, &tm);
    size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03dZ %-5s %s %s ", (int)(now_ms % 1000),
                          level_names[level], settings.program, event);
    va_list args;
    va_start(args, format);
    int got = vsnprintf(line + n, sizeof(line) - n, format, args);
    va_end(args);
    n += got > 0 ? (size_t)got : 0;
    if (n > sizeof(line) - 1) {
        n = sizeof(line) - 1;
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F) {
            line[i] = ' ';
        }
    }
    line[n++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, n);
    (void)ignored;
}
