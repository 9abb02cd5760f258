// The option table of models: names and aliases, values and bounds. Invariant: a default is text
// and passes the same parser as a written value. Called by model_check.c, model_sql_read.c and
// model.c.
#include "common/model_parts.h"

#include "common/json.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_SHOWN 60      // bytes of a wrong value that an error repeats
#define PARTIAL_NAME_MAX 64 // bytes of the NAME of template.NAME

static const struct option_row rows[] = {
#define MODEL_OPTION(field_, name_, type_, def_, least_, most_, want_, text_)                      \
    {.name = name_,                                                                                \
     .type = OPTION_##type_,                                                                       \
     .def = def_,                                                                                  \
     .least = least_,                                                                              \
     .most = most_,                                                                                \
     .want = want_,                                                                                \
     .offset = offsetof(struct model_options, field_)},
#include "common/model_options.def"
#undef MODEL_OPTION
};

// Names that others use for the same thing, squashed. Source: Flink 2.x, model providers; Confluent
// Cloud, CREATE MODEL.
static const struct {
    const char *alias, *name;
} aliases[] = {
    {"maxcontextsize", "context.size"},
    {"retrynum", "max.retries"},
    {"modelname", "model"},
    {"modelversion", "model"},
    {"dimension", "dimensions"},
    {"timeout", "request.timeout.ms"},
    {"costinput", "price.input"}, // as these were called at first
    {"costcached", "price.cached"},
    {"costoutput", "price.output"},
};

const struct option_row *option_rows(size_t *n) {
    *n = sizeof(rows) / sizeof(rows[0]);
    return rows;
}

const struct option_row *option_exact(const char *name) {
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

bool option_squash(struct slice name, char *into, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (c == '.' || c == '-' || c == '_') {
            continue;
        }
        if (c >= 0x80 || !isalnum(c) || n + 1 >= size) {
            return false;
        }
        into[n++] = (char)tolower(c);
    }
    into[n] = '\0';
    return n > 0;
}

static const struct option_row *find_squashed(struct slice name) {
    char wanted[64], own[64];
    if (!option_squash(name, wanted, sizeof(wanted))) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (option_squash(slice_of(rows[i].name), own, sizeof(own)) && strcmp(own, wanted) == 0) {
            return &rows[i];
        }
    }
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
        if (strcmp(aliases[i].alias, wanted) == 0) {
            return option_exact(aliases[i].name);
        }
    }
    return NULL;
}

// cut_prefix takes "openai." or "params." off, whatever its case.
static bool cut_prefix(struct slice *name, const char *prefix) {
    size_t n = strlen(prefix);
    if (!slice_is_nocase(slice_sub(*name, 0, n), prefix) || name->n == n) {
        return false;
    }
    *name = slice_sub(*name, n, name->n);
    return true;
}

bool option_partial(struct slice name, struct slice *partial) {
    *partial = name;
    if (!cut_prefix(partial, "template.") || partial->n > PARTIAL_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < partial->n; i++) {
        unsigned char c = (unsigned char)partial->p[i];
        if (c >= 0x80 || (!isalnum(c) && strchr("-_.", c) == NULL)) {
            return false;
        }
    }
    return true;
}

// distance is the number of letters to add, drop or change between two squashed names, at most
// a little over 3 (Levenshtein).
static size_t distance(const char *a, const char *b) {
    size_t n_a = strlen(a), n_b = strlen(b);
    size_t row[65];
    if (n_a > 64 || n_b > 64) {
        return 99;
    }
    for (size_t j = 0; j <= n_b; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[n_b];
}

// nearest returns the option whose name is at most two slips away, or NULL.
static const char *nearest(struct slice name) {
    char wanted[64], own[64];
    if (!option_squash(name, wanted, sizeof(wanted))) {
        return NULL;
    }
    const char *best = NULL;
    size_t best_distance = 3;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!option_squash(slice_of(rows[i].name), own, sizeof(own))) {
            continue;
        }
        size_t d = distance(wanted, own);
        if (d < best_distance) {
            best_distance = d;
            best = rows[i].name;
        }
    }
    return best;
}

const struct option_row *option_find(struct slice name, struct error *why) {
    const struct option_row *row = find_squashed(name);
    struct slice rest = name;
    if (row == NULL && cut_prefix(&rest, "openai.")) {
        row = find_squashed(rest);
    }
    if (row == NULL && cut_prefix(&rest, "params.")) {
        row = find_squashed(rest);
    }
    if (row != NULL) {
        return row;
    }
    char shown[VALUE_SHOWN];
    slice_copy(name, shown, sizeof(shown));
    const char *near = nearest(rest);
    if (near != NULL) {
        error_set(why, -EINVAL, "option '%s': not known; want '%s'?", shown, near);
    } else {
        error_set(
            why, -EINVAL,
            "option '%s': not known; want one of the options in docs/models.md; a field of the "
            "provider's own goes into 'params'",
            shown);
    }
    return NULL;
}

// ---- Values -------------------------------------------------------------------------------------

// list_choices writes "a|b|c" as "'a', 'b', 'c'".
static void list_choices(const char *names, char *into, size_t size) {
    size_t used = 0;
    for (const char *p = names; p != NULL && used < size;) {
        size_t n = strcspn(p, "|");
        used +=
            (size_t)snprintf(into + used, size - used, "%s'%.*s'", used > 0 ? ", " : "", (int)n, p);
        p = p[n] == '|' ? p + n + 1 : NULL;
    }
}

// got_value is the sentence for a value that is not what it should be.
static int got_value(const struct option_row *row, const char *value, struct error *why) {
    char shown[VALUE_SHOWN], want[256];
    const char *dots = slice_copy(slice_of(value), shown, sizeof(shown)) ? "" : "...";
    if (row->type == OPTION_CHOICE) {
        list_choices(row->want, want, sizeof(want));
        return error_set(why, -EINVAL, "option '%s': got '%s%s', want %s%s", row->name, shown, dots,
                         strchr(row->want, '|') != NULL ? "one of " : "", want);
    }
    if (row->type == OPTION_FLAG) {
        return error_set(why, -EINVAL, "option '%s': got '%s%s', want %s", row->name, shown, dots,
                         row->want);
    }
    return error_set(why, -EINVAL, "option '%s': got '%s%s', want %s, %.17g to %.17g", row->name,
                     shown, dots, row->want, row->least, row->most);
}

// read_whole reads digits, with a minus before them, within the bounds.
static bool read_whole(struct slice text, const struct option_row *row, int64_t scale,
                       int64_t *out) {
    size_t digits = text.n > 0 && text.p[0] == '-' ? text.n - 1 : text.n;
    if (digits == 0 || digits > 18) {
        return false;
    }
    for (size_t i = text.n - digits; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') {
            return false;
        }
    }
    char copy[24];
    slice_copy(text, copy, sizeof(copy));
    double value = (double)strtoll(copy, NULL, 10) * (double)scale;
    *out = (int64_t)strtoll(copy, NULL, 10) * (value > row->most ? 0 : scale);
    return value >= row->least && value <= row->most;
}

// read_ms reads a time: milliseconds, or a number with a unit behind it. Units: Flink's TimeUtils.
static bool read_ms(const struct option_row *row, const char *value, int64_t *out) {
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {
        {"", 1},           {"ms", 1},           {"milli", 1},         {"millis", 1},
        {"millisecond", 1}, {"milliseconds", 1}, {"s", 1000},          {"sec", 1000},
        {"secs", 1000},    {"second", 1000},    {"seconds", 1000},    {"m", 60000},
        {"min", 60000},    {"mins", 60000},     {"minute", 60000},    {"minutes", 60000},
        {"h", 3600000},    {"hour", 3600000},   {"hours", 3600000},   {"d", 86400000},
        {"day", 86400000}, {"days", 86400000},
    };
    struct slice text = slice_trim(slice_of(value));
    size_t n = 0;
    while (n < text.n && ((text.p[n] >= '0' && text.p[n] <= '9') || (n == 0 && text.p[n] == '-'))) {
        n++;
    }
    struct slice unit = slice_trim(slice_sub(text, n, text.n));
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (slice_is_nocase(unit, units[i].unit)) {
            return read_whole(slice_sub(text, 0, n), row, units[i].ms, out);
        }
    }
    return false;
}

static bool read_number(const struct option_row *row, const char *value, double *out) {
    if (value[0] == '\0' || strspn(value, "0123456789+-.eE") != strlen(value)) {
        return false; // strtod also takes "nan", "inf", hexadecimal
    }
    char *end;
    *out = strtod(value, &end);
    return *end == '\0' && isfinite(*out) && *out >= row->least && *out <= row->most;
}

// read_choice finds value among "a|b|c"; '-' and '_' are alike, and case is not minded.
static int read_choice(const char *names, const char *value) {
    char wanted[64], own[64];
    if (!option_squash(slice_of(value), wanted, sizeof(wanted))) {
        return -1;
    }
    int i = 0;
    for (const char *p = names; p != NULL; i++) {
        size_t n = strcspn(p, "|");
        if (option_squash((struct slice){p, n}, own, sizeof(own)) && strcmp(own, wanted) == 0) {
            return i;
        }
        p = p[n] == '|' ? p + n + 1 : NULL;
    }
    return -1;
}

static int read_flag(const char *value) {
    struct slice v = slice_of(value);
    if (slice_is_nocase(v, "on") || slice_is_nocase(v, "true")) {
        return 1;
    }
    return slice_is_nocase(v, "off") || slice_is_nocase(v, "false") ? 0 : -1;
}

// read_text checks the length only; what the text means is checked with the whole model.
static int read_text(const struct option_row *row, const char *value, const char **out,
                     struct error *why) {
    size_t n = strlen(value);
    if ((double)n < row->least && n == 0) {
        return error_set(why, -EINVAL, "option '%s': got '', want %s", row->name, row->want);
    }
    if ((double)n < row->least || (double)n > row->most) {
        return error_set(why, -EINVAL, "option '%s': got %zu bytes, want %s, %.17g to %.17g bytes",
                         row->name, n, row->want, row->least, row->most);
    }
    *out = value;
    return 0;
}

// set_unset writes "not given".
static void set_unset(const struct option_row *row, void *field) {
    switch (row->type) {
    case OPTION_COUNT:
    case OPTION_MS:
        *(int64_t *)field = MODEL_UNSET;
        return;
    case OPTION_NUMBER:
        *(double *)field = NAN;
        return;
    case OPTION_CHOICE:
    case OPTION_FLAG:
        *(int *)field = 0;
        return;
    default:
        *(const char **)field = "";
    }
}

int option_read(const struct option_row *row, const char *value, struct model_options *options,
                struct error *why) {
    void *field = (char *)options + row->offset;
    if (value == row->def && value[0] == '\0') {
        set_unset(row, field);
        return 0;
    }
    switch (row->type) {
    case OPTION_COUNT:
        return read_whole(slice_trim(slice_of(value)), row, 1, field) ? 0
                                                                      : got_value(row, value, why);
    case OPTION_MS:
        return read_ms(row, value, field) ? 0 : got_value(row, value, why);
    case OPTION_NUMBER:
        return read_number(row, value, field) ? 0 : got_value(row, value, why);
    case OPTION_CHOICE:
        *(int *)field = read_choice(row->want, value);
        return *(int *)field >= 0 ? 0 : got_value(row, value, why);
    case OPTION_FLAG:
        *(int *)field = read_flag(value);
        return *(int *)field >= 0 ? 0 : got_value(row, value, why);
    default:
        return read_text(row, value, field, why);
    }
}

// text_array writes "a,b" as ["a","b"].
static char *text_array(struct slice value) {
    struct buf out;
    buf_init(&out,
             value.n * 6 + 3 * value.n + 8); // six bytes a control byte, quotes and comma a word
    int rc = buf_add_byte(&out, '[');
    for (size_t from = 0; rc == 0 && from <= value.n;) {
        struct slice rest = slice_sub(value, from, value.n);
        const char *comma = rest.n > 0 ? memchr(rest.p, ',', rest.n) : NULL;
        size_t n = comma != NULL ? (size_t)(comma - rest.p) : rest.n;
        rc = from > 0 ? buf_add_byte(&out, ',') : 0;
        rc = rc != 0 ? rc : json_add_string(&out, slice_trim(slice_sub(rest, 0, n)));
        from += n + 1;
    }
    rc = rc != 0 ? rc : buf_add_byte(&out, ']');
    if (rc != 0) {
        buf_free(&out);
        return slice_dup(value);
    }
    return buf_take(&out);
}

char *option_canonical(const struct option_row *row, struct slice value) {
    bool is_list = row->offset == offsetof(struct model_options, stop) ||
                   row->offset == offsetof(struct model_options, labels);
    if (is_list && slice_trim(value).n > 0 && slice_trim(value).p[0] != '[') {
        return text_array(value);
    }
    return slice_dup(value);
}
