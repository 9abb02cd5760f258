// Forms of "try again later". Invariant: what cannot be read is -1, never 0. Called by http's header
// table, the error classes and the limits' headers.
#include "worker/retry_after.h"

#include <curl/curl.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#define RETRY_AFTER_MOST_MS 86400000 // a day: longer than anybody waits

// number_at reads a decimal number without sign or exponent; *used is 0 when there is none.
static double number_at(struct slice s, size_t *used) {
    double value = 0, unit = 0.1;
    size_t i = 0;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
        value = value * 10 + (s.p[i] - '0');
    }
    bool digits = i > 0;
    if (i < s.n && s.p[i] == '.') {
        size_t from = ++i;
        for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++, unit /= 10) {
            value += (s.p[i] - '0') * unit;
        }
        digits |= i > from;
    }
    *used = digits ? i : 0;
    return value;
}

static int64_t to_ms(double ms) {
    return ms > RETRY_AFTER_MOST_MS ? RETRY_AFTER_MOST_MS : (int64_t)ceil(ms - 1e-6);
}

int64_t retry_after_parse(struct slice text, int64_t now_unix_ms) {
    text = slice_trim(text);
    size_t used;
    double seconds = number_at(text, &used);
    if (used > 0 && used == text.n) {
        return to_ms(seconds * 1000);
    }
    char date[64];
    if (text.n < 20 || !slice_copy(text, date, sizeof(date))) {
        return -1;
    }
    time_t at = curl_getdate(date, NULL);
    if (at < 0) {
        return -1;
    }
    int64_t ms = (int64_t)at * 1000 - now_unix_ms;
    return ms < 0 ? 0 : to_ms((double)ms);
}

static const struct {
    const char *name; // longest first: "ms" before "m"
    double ms;
} units[] = {
    {.name = "ms", .ms = 1},         {.name = "us", .ms = 0.001},  {.name = "\xC2\xB5s", .ms = 0.001},
    {.name = "ns", .ms = 0.000001},  {.name = "h", .ms = 3600000}, {.name = "m", .ms = 60000},
    {.name = "s", .ms = 1000},
};

// duration_at reads as many <number><unit> as there are; *used is 0 when there is none.
static double duration_at(struct slice s, size_t *used) {
    double total = 0;
    *used = 0;
    for (;;) {
        struct slice rest = slice_sub(s, *used, s.n);
        size_t n;
        double number = number_at(rest, &n);
        if (n == 0) {
            return total;
        }
        rest = slice_sub(rest, n, rest.n);
        size_t u = 0, n_units = sizeof(units) / sizeof(units[0]);
        while (u < n_units && !slice_starts(rest, units[u].name)) {
            u++;
        }
        if (u == n_units) {
            return total;
        }
        total += number * units[u].ms;
        *used += n + strlen(units[u].name);
    }
}

int64_t duration_parse(struct slice text) {
    size_t used;
    double ms = duration_at(text, &used);
    return used > 0 && used == text.n ? to_ms(ms) : -1;
}

int64_t retry_after_hint(struct slice message) {
    static const char *const leads[] = {"try again in ", "retry after ", "retry in "};
    for (size_t k = 0; k < sizeof(leads) / sizeof(leads[0]); k++) {
        size_t n = strlen(leads[k]);
        for (size_t i = 0; i + n < message.n; i++) {
            if (strncasecmp(message.p + i, leads[k], n) != 0) {
                continue;
            }
            struct slice rest = slice_sub(message, i + n, message.n);
            size_t used;
            double ms = duration_at(rest, &used);
            if (used > 0) {
                return to_ms(ms);
            }
            double number = number_at(rest, &used);
            rest = slice_trim(slice_sub(rest, used, rest.n));
            if (used > 0 && slice_starts(rest, "milli")) {
                return to_ms(number);
            }
            if (used > 0 && slice_starts(rest, "sec")) {
                return to_ms(number * 1000);
            }
            if (used > 0 && slice_starts(rest, "min")) {
                return to_ms(number * 60000);
            }
        }
    }
    return -1;
}

// digits_at reads exactly n digits; -1: there are none.
static int digits_at(struct slice s, size_t from, size_t n) {
    int value = 0;
    for (size_t i = from; i < from + n; i++) {
        if (i >= s.n || s.p[i] < '0' || s.p[i] > '9') {
            return -1;
        }
        value = value * 10 + (s.p[i] - '0');
    }
    return value;
}

// zone_at reads Z or +hh:mm. Returns 0 with seconds east of UTC, or -1.
static int zone_at(struct slice s, int *seconds) {
    *seconds = 0;
    if (s.n == 1 && (s.p[0] == 'Z' || s.p[0] == 'z')) {
        return 0;
    }
    int hours = digits_at(s, 1, 2), minutes = digits_at(s, 4, 2);
    if (s.n != 6 || (s.p[0] != '+' && s.p[0] != '-') || s.p[3] != ':' || hours < 0 || minutes < 0) {
        return -1;
    }
    *seconds = (s.p[0] == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    return 0;
}

int64_t time_until(struct slice text, int64_t now_unix_ms) {
    text = slice_trim(text);
    struct tm tm = {.tm_year = digits_at(text, 0, 4) - 1900, .tm_mon = digits_at(text, 5, 2) - 1,
                    .tm_mday = digits_at(text, 8, 2), .tm_hour = digits_at(text, 11, 2),
                    .tm_min = digits_at(text, 14, 2), .tm_sec = digits_at(text, 17, 2)};
    if (text.n < 20 || text.p[4] != '-' || text.p[7] != '-' || strchr("Tt ", text.p[10]) == NULL ||
        text.p[13] != ':' || text.p[16] != ':' || tm.tm_year < 0 || tm.tm_mon < 0 || tm.tm_mon > 11 ||
        tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0 ||
        tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60) {
        return -1;
    }
    size_t used = 0;
    double part = text.p[19] == '.' ? number_at(slice_sub(text, 19, text.n), &used) : 0;
    int east;
    if (zone_at(slice_sub(text, 19 + used, text.n), &east) != 0) {
        return -1;
    }
    int64_t ms = ((int64_t)timegm(&tm) - east) * 1000 + (int64_t)(part * 1000) - now_unix_ms;
    return ms < 0 ? 0 : to_ms((double)ms);
}
