// Option fallback.model: whether one model can stand in for another. Invariant: whatever the one is asked
// the other can be asked too, and whatever the other answers stands in the one's OUTPUT columns, both by
// their places. Called by the coordinator: at CREATE, and when a record is handed on.
#include "common/model.h"

#include <errno.h>
#include <string.h>

// type_holds says whether every value of a type may stand where another type is wanted.
static bool type_holds(const struct type *want, const struct type *got) {
    bool wider = (want->kind == TYPE_BIGINT && got->kind == TYPE_INT) ||
                 (want->kind == TYPE_DOUBLE && got->kind == TYPE_FLOAT);
    if ((want->kind != got->kind && !wider) || (want->not_null && !got->not_null)) {
        return false;
    }
    switch (want->kind) {
    case TYPE_DECIMAL: // digits behind the point are written out, so there are as many
        return want->scale == got->scale && want->precision >= got->precision;
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMP_LTZ:
        return want->precision >= got->precision;
    case TYPE_ARRAY:
    case TYPE_MAP:
        return type_holds(want->inner, got->inner);
    case TYPE_ROW:
        break;
    default:
        return true;
    }
    if (want->n_fields != got->n_fields) {
        return false;
    }
    for (size_t i = 0; i < want->n_fields; i++) {
        if (strcmp(want->fields[i].name, got->fields[i].name) != 0 ||
            !type_holds(want->fields[i].type, got->fields[i].type)) {
            return false;
        }
    }
    return true;
}

// check_lists compares two lists of columns by their places.
static int check_lists(const char *what, const struct column *want, size_t n_want, const struct column *got,
                       size_t n_got, const char *name, struct error *why) {
    if (n_want != n_got) {
        return error_set(why, -EINVAL, "model '%s' has %zu %s columns, want the same %zu", name, n_got, what,
                         n_want);
    }
    for (size_t i = 0; i < n_want; i++) {
        if (strcmp(want[i].name, got[i].name) != 0) {
            return error_set(why, -EINVAL, "model '%s': %s column %zu is '%s', want '%s'", name, what, i + 1,
                             got[i].name, want[i].name);
        }
    }
    return 0;
}

// bad_type is the sentence for a column whose types do not go together.
static int bad_type(const char *what, const struct column *want, const struct column *got,
                    const char *name, struct error *why) {
    struct type a, b;
    struct buf text, other;
    buf_init(&text, 256);
    buf_init(&other, 256);
    int rc = type_add_text(column_full(want, &a), &text) | type_add_text(column_full(got, &b), &other);
    error_set(why, -EINVAL, "model '%s': %s column '%s' is %s%s, want what %s%s can hold", name, what, got->name,
              rc == 0 ? other.p : column_type_name(got->type), got->not_null ? " NOT NULL" : "",
              rc == 0 ? text.p : column_type_name(want->type), want->not_null ? " NOT NULL" : "");
    buf_free(&text);
    buf_free(&other);
    return -EINVAL;
}

int model_check_fallback(const struct model *model, const struct model *other, struct error *why) {
    struct type a, b;
    int rc = check_lists("INPUT", model->input, model->n_input, other->input, other->n_input, other->name, why);
    rc = rc != 0 ? rc
                 : check_lists("OUTPUT", model->output, model->n_output, other->output, other->n_output,
                               other->name, why);
    for (size_t i = 0; rc == 0 && i < model->n_input; i++) { // what is asked goes the other way
        if (!type_holds(column_full(&other->input[i], &a), column_full(&model->input[i], &b))) {
            rc = bad_type("INPUT", &model->input[i], &other->input[i], other->name, why);
        }
    }
    for (size_t i = 0; rc == 0 && i < model->n_output; i++) {
        if (!type_holds(column_full(&model->output[i], &a), column_full(&other->output[i], &b))) {
            rc = bad_type("OUTPUT", &model->output[i], &other->output[i], other->name, why);
        }
    }
    return rc;
}

// is_in says whether a name stands in a chain.
static bool is_in(const struct model *const *chain, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(chain[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

int model_check_chain(const struct model *model, model_find_fn *find, void *arg, struct error *why) {
    const struct model *chain[MODEL_CHAIN_MAX] = {model};
    size_t n = 1;
    while (chain[n - 1]->options.fallback_model[0] != '\0') {
        const char *name = chain[n - 1]->options.fallback_model;
        const struct model *next = is_in(chain, n, name) ? NULL : find(arg, slice_of(name));
        if (is_in(chain, n, name)) {
            return error_set(why, -EINVAL, "option 'fallback.model' of model '%s': got '%s', which leads back to "
                             "itself, want a model that is not before it", chain[n - 1]->name, name);
        }
        if (next == NULL) {
            return error_set(why, -ENOENT, "option 'fallback.model' of model '%s': got '%s', want a model that "
                             "exists", chain[n - 1]->name, name);
        }
        if (n == MODEL_CHAIN_MAX) {
            return error_set(why, -EINVAL, "option 'fallback.model' of model '%s': got '%s', want at most %d "
                             "models behind '%s'", chain[n - 1]->name, name, MODEL_CHAIN_MAX - 1, model->name);
        }
        if (model_check_fallback(model, next, why) != 0) {
            error_prefix(why, "option 'fallback.model': ");
            return -EINVAL;
        }
        chain[n++] = next;
    }
    return 0;
}
