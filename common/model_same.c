// Compares two revisions of a model. Invariant: an option that is not in `connection` decides what is asked or how the
// answer is used, so a new one counts as such until it is put there. Called by the coordinator when models change.
#include "common/model_same.h"

#include <math.h>
#include <string.h>

#define SQL_MAX_BYTES (1024 * 1024)

// What is no part of the question. A name that ends with '.' stands for all that begin with it.
static const char *const connection[] = {
    "endpoint",       "api_key", "headers", "http2",   "request.timeout.ms", "worker.lost.ms", "batch.timeout.ms",
    "tokenizer.file", "limit.",  "price.",  "budget.",
};

static bool is_connection(const char *name) {
    for (size_t i = 0; i < sizeof(connection) / sizeof(connection[0]); i++) {
        size_t n = strlen(connection[i]);
        if (connection[i][n - 1] == '.' ? strncmp(name, connection[i], n) == 0 : strcmp(name, connection[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool same_text(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

static bool same_number(double a, double b) {
    return a == b || (isnan(a) && isnan(b));
}

#define SAME_TEXT(a, b) same_text(a, b)
#define SAME_TEMPLATE(a, b) same_text(a, b)
#define SAME_PATH(a, b) same_text(a, b)
#define SAME_SECRET(a, b) same_text(a, b)
#define SAME_JSON(a, b) same_text(a, b)
#define SAME_COUNT(a, b) ((a) == (b))
#define SAME_MS(a, b) ((a) == (b))
#define SAME_NUMBER(a, b) same_number(a, b)
#define SAME_CHOICE(a, b) ((a) == (b))
#define SAME_FLAG(a, b) ((a) == (b))

static bool same_options(const struct model_options *a, const struct model_options *b) {
    bool same = true;
#define MODEL_OPTION(field, name, type, def, least, most, want, text) \
    same = same && (is_connection(name) || SAME_##type(a->field, b->field));
#include "common/model_options.def"
#undef MODEL_OPTION
    return same;
}

// next_partial returns the first setting from *i on that is a template for others to include, or NULL.
static const struct model_setting *next_partial(const struct model *model, size_t *i) {
    while (*i < model->n_settings) {
        const struct model_setting *setting = &model->settings[(*i)++];
        if (strncmp(setting->name, "template.", strlen("template.")) == 0) {
            return setting;
        }
    }
    return NULL;
}

static bool same_partials(const struct model *a, const struct model *b) {
    size_t i = 0, j = 0;
    const struct model_setting *x, *y;
    do {
        x = next_partial(a, &i);
        y = next_partial(b, &j);
        if ((x == NULL) != (y == NULL) ||
            (x != NULL && (strcmp(x->name, y->name) != 0 || strcmp(x->value, y->value) != 0))) {
            return false;
        }
    } while (x != NULL);
    return true;
}

// same_columns compares the statements without their options: every column with its whole type.
static bool same_columns(const struct model *a, const struct model *b) {
    struct model plain[2] = {*a, *b};
    struct buf sql[2];
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        plain[i].comment = NULL;
        plain[i].n_settings = 0;
        buf_init(&sql[i], SQL_MAX_BYTES);
        rc |= model_to_sql(&plain[i], &sql[i]);
    }
    bool same = rc == 0 && sql[0].n == sql[1].n && memcmp(sql[0].p, sql[1].p, sql[0].n) == 0;
    buf_free(&sql[0]);
    buf_free(&sql[1]);
    return same;
}

bool model_asks_same(const struct model *a, const struct model *b) {
    return same_options(&a->options, &b->options) && same_partials(a, b) && same_columns(a, b);
}
