// Decimal numbers, dates and timestamps in text. Invariant: digits are never lost without being
// rounded, and no day that is not in the calendar gets through. Called by cast.c.
#include "common/cast.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DIGITS_MAX   128 // of a number as it is written
#define EXPONENT_MAX 100

// ---- Decimal ------------------------------------------------------------------------------------

// A number taken apart: 0.d1d2d3... times ten to the point.
struct decimal {
    bool negative;
    char digits[DIGITS_MAX];
    int n;     // digits, without zeros at the front
    int point; // digits before the point; may be negative
};

static bool read_exponent(struct slice text, int *exponent) {
    bool minus = text.n > 0 && text.p[0] == '-';
    size_t i = text.n > 0 && (minus || text.p[0] == '+') ? 1 : 0, from = i;
    *exponent = 0;
    for (; i < text.n && text.p[i] >= '0' && text.p[i] <= '9' && *exponent <= EXPONENT_MAX; i++) {
        *exponent = *exponent * 10 + (text.p[i] - '0');
    }
    bool good = i > from && i == text.n && *exponent <= EXPONENT_MAX;
    *exponent = minus ? -*exponent : *exponent;
    return good;
}

static int read_decimal(struct slice text, struct decimal *d) {
    size_t i = 0;
    bool any = false, behind = false;
    *d = (struct decimal){.negative = text.n > 0 && text.p[0] == '-'};
    i += text.n > 0 && (text.p[0] == '-' || text.p[0] == '+') ? 1 : 0;
    for (; i < text.n && ((text.p[i] >= '0' && text.p[i] <= '9') || (text.p[i] == '.' && !behind)); i++) {
        if (text.p[i] == '.') {
            behind = true;
            continue;
        }
        any = true;
        bool leading = d->n == 0 && text.p[i] == '0';
        if (!leading && d->n == DIGITS_MAX) {
            return -EINVAL;
        }
        if (!leading) {
            d->digits[d->n++] = text.p[i];
        }
        d->point += behind ? (leading ? -1 : 0) : leading ? 0 : 1;
    }
    int exponent = 0;
    if (any && i < text.n && (text.p[i] == 'e' || text.p[i] == 'E')) {
        any = read_exponent(slice_sub(text, i + 1, text.n), &exponent);
        i = text.n;
    }
    d->point += exponent;
    return any && i == text.n ? 0 : -EINVAL;
}

// round_to cuts a number behind scale digits after the point.
static void round_to(struct decimal *d, int scale) {
    int keep = d->point + scale;
    if (keep >= d->n) {
        return;
    }
    bool up = keep >= 0 && d->digits[keep] >= '5';
    d->n = keep > 0 ? keep : 0;
    for (int i = d->n - 1; up && i >= 0; i--) {
        up = d->digits[i] == '9';
        d->digits[i] = up ? '0' : (char)(d->digits[i] + 1);
    }
    if (up) { // 9.99 became 10.00, or 0.5 became 1
        memmove(d->digits + 1, d->digits, (size_t)d->n);
        d->digits[0] = '1';
        d->n++;
        d->point++;
    }
    if (d->n == 0) {
        d->point = -scale;
        d->negative = false;
    }
}

int cast_decimal(struct slice text, int precision, int scale, char *into, size_t size) {
    struct decimal d;
    if (read_decimal(slice_trim(text), &d) != 0) {
        return -EINVAL;
    }
    if (d.n > 0 && d.point > precision - scale) {
        return -ERANGE;
    }
    round_to(&d, scale);
    if (d.n > 0 && d.point > precision - scale) {
        return -ERANGE;
    }
    struct buf out;
    buf_init(&out, size - 1);
    int rc = d.negative && d.n > 0 ? buf_add_byte(&out, '-') : 0;
    int whole = d.n > 0 && d.point > 0 ? d.point : 0;
    rc = rc == 0 && whole == 0 ? buf_add_byte(&out, '0') : rc;
    for (int i = -whole; rc == 0 && i < scale; i++) {
        int k = (d.n > 0 ? d.point : 0) + i;
        rc = i == 0 ? buf_add_byte(&out, '.') : 0;
        rc = rc != 0 ? rc : buf_add_byte(&out, k >= 0 && k < d.n ? d.digits[k] : '0');
    }
    if (rc == 0) {
        slice_copy(buf_slice(&out), into, size);
    }
    buf_free(&out);
    return rc == 0 ? 0 : -ERANGE;
}

// ---- Dates --------------------------------------------------------------------------------------

struct moment {
    int year, month, day, hour, minute, second;
    char fraction[TIMESTAMP_PRECISION_MAX + 1];
};

// take_digits reads exactly n digits at *at.
static bool take_digits(struct slice text, size_t *at, size_t n, int *value) {
    *value = 0;
    for (size_t i = 0; i < n; i++, (*at)++) {
        if (*at >= text.n || text.p[*at] < '0' || text.p[*at] > '9') {
            return false;
        }
        *value = *value * 10 + (text.p[*at] - '0');
    }
    return true;
}

static bool take_byte(struct slice text, size_t *at, const char *any) {
    if (*at < text.n && text.p[*at] != '\0' && strchr(any, text.p[*at]) != NULL) {
        (*at)++;
        return true;
    }
    return false;
}

static int days_of(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

static bool read_date(struct slice text, size_t *at, struct moment *m) {
    return take_digits(text, at, 4, &m->year) && take_byte(text, at, "-") &&
           take_digits(text, at, 2, &m->month) && take_byte(text, at, "-") &&
           take_digits(text, at, 2, &m->day) && m->year >= 1 && m->month >= 1 && m->month <= 12 &&
           m->day >= 1 && m->day <= days_of(m->year, m->month);
}

int cast_date(struct slice text, char *into, size_t size) {
    struct moment m = {0};
    size_t at = 0;
    text = slice_trim(text);
    if (!read_date(text, &at, &m) || at != text.n) {
        return -EINVAL;
    }
    snprintf(into, size, "%04d-%02d-%02d", m.year, m.month, m.day);
    return 0;
}

static bool read_time(struct slice text, size_t *at, struct moment *m) {
    if (!take_digits(text, at, 2, &m->hour) || !take_byte(text, at, ":") ||
        !take_digits(text, at, 2, &m->minute)) {
        return false;
    }
    if (take_byte(text, at, ":")) {
        if (!take_digits(text, at, 2, &m->second)) {
            return false;
        }
        size_t n = 0;
        bool point = take_byte(text, at, ".,");
        while (point && *at < text.n && text.p[*at] >= '0' && text.p[*at] <= '9' && n < 18) {
            if (n < TIMESTAMP_PRECISION_MAX) {
                m->fraction[n] = text.p[*at];
            }
            n++;
            (*at)++;
        }
        if (point && n == 0) {
            return false;
        }
    }
    return m->hour <= 23 && m->minute <= 59 && m->second <= 59;
}

// read_zone reads Z, +HH:MM or -HHMM as minutes east of UTC.
static bool read_zone(struct slice text, size_t *at, int *minutes) {
    int hour, minute = 0;
    *minutes = 0;
    if (*at == text.n || take_byte(text, at, "Zz")) {
        return true;
    }
    bool west = text.p[*at] == '-';
    if (!take_byte(text, at, "+-") || !take_digits(text, at, 2, &hour)) {
        return false;
    }
    take_byte(text, at, ":");
    if (*at < text.n && !take_digits(text, at, 2, &minute)) {
        return false;
    }
    *minutes = (hour * 60 + minute) * (west ? -1 : 1);
    return hour <= 14 && minute <= 59;
}

// move_day goes to the next or the previous day.
static void move_day(struct moment *m, int by) {
    m->day += by;
    if (m->day < 1) {
        m->month--;
        if (m->month < 1) {
            m->month = 12;
            m->year--;
        }
        m->day = days_of(m->year, m->month);
    } else if (m->day > days_of(m->year, m->month)) {
        m->day = 1;
        m->month++;
        if (m->month > 12) {
            m->month = 1;
            m->year++;
        }
    }
}

static void to_utc(struct moment *m, int minutes_east) {
    int minutes = m->hour * 60 + m->minute - minutes_east;
    if (minutes < 0) {
        minutes += 24 * 60;
        move_day(m, -1);
    } else if (minutes >= 24 * 60) {
        minutes -= 24 * 60;
        move_day(m, 1);
    }
    m->hour = minutes / 60;
    m->minute = minutes % 60;
}

int cast_timestamp(struct slice text, int precision, char *into, size_t size) {
    struct moment m = {0};
    size_t at = 0;
    int minutes = 0;
    text = slice_trim(text);
    if (!read_date(text, &at, &m)) {
        return -EINVAL;
    }
    if (at < text.n) {
        if (!take_byte(text, &at, "Tt ") || !read_time(text, &at, &m)) {
            return -EINVAL;
        }
        take_byte(text, &at, " ");
        if (!read_zone(text, &at, &minutes) || at != text.n) {
            return -EINVAL;
        }
    }
    to_utc(&m, minutes);
    if (m.year < 1 || m.year > 9999) {
        return -EINVAL;
    }
    m.fraction[precision] = '\0';
    for (size_t n = strlen(m.fraction); n > 0 && m.fraction[n - 1] == '0'; n--) {
        m.fraction[n - 1] = '\0';
    }
    snprintf(into, size, "%04d-%02d-%02dT%02d:%02d:%02d%s%s", m.year, m.month, m.day, m.hour, m.minute,
             m.second, m.fraction[0] != '\0' ? "." : "", m.fraction);
    return 0;
}
