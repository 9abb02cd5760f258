// An input row and its result make one line of output. Invariant: no output object has two members
// of one name that headrace added, and the user's own text is never printed anew. Called by run.c.
#include "client/merge.h"

#include "common/json.h"
#include "common/model.h"

#include <string.h>

// string_end returns the offset after the closing quote of the string that begins at `at`.
static size_t string_end(struct slice text, size_t at) {
    size_t i = at + 1;
    while (i < text.n && text.p[i] != '"') {
        i += text.p[i] == '\\' ? 2 : 1;
    }
    return i + 1 < text.n ? i + 1 : text.n;
}

// value_end returns the offset of the ',' or '}' after the value that begins at `at`.
static size_t value_end(struct slice text, size_t at) {
    size_t i = at, depth = 0;
    while (i < text.n) {
        char c = text.p[i];
        if (c == '"') {
            i = string_end(text, i);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}')) {
            break;
        }
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        i++;
    }
    return i;
}

// is_dropped_name asks about a quoted name, which may hold escapes.
static bool is_dropped_name(struct slice quoted, json_is_dropped *is_dropped, const void *arg) {
    if (memchr(quoted.p, '\\', quoted.n) == NULL) {
        return is_dropped(arg, slice_sub(quoted, 1, quoted.n - 2));
    }
    struct json_object *name = NULL;
    bool dropped = json_parse(quoted, &name, NULL) == 0 && is_dropped(arg, json_text(name));
    json_object_put(name);
    return dropped;
}

long json_drop_members(struct slice object, json_is_dropped *is_dropped, const void *arg,
                       struct buf *out) {
    size_t before = out->n;
    object = slice_trim(object);
    int status = buf_add_byte(out, '{');
    long kept = 0;
    size_t at = 1, from = 1; // from: what follows the last comma or the opening brace
    while (status == 0 && at < object.n) {
        const char *quote = memchr(object.p + at, '"', object.n - at);
        if (quote == NULL) {
            break; // an empty object
        }
        size_t name_at = (size_t)(quote - object.p);
        size_t name_end = string_end(object, name_at);
        size_t end = value_end(object, name_end);
        struct slice name = slice_sub(object, name_at, name_end - name_at);
        if (!is_dropped_name(name, is_dropped, arg)) {
            struct slice member = slice_sub(object, from, end - from);
            if (end + 1 >= object.n || object.p[end] == '}') {
                while (member.n > 0 && memchr(" \t\r\n", member.p[member.n - 1], 4) != NULL) {
                    member.n--;
                }
            }
            status = kept > 0 ? buf_add_byte(out, ',') : 0;
            status = status ? status : buf_add_slice(out, member);
            kept++;
        }
        at = from = end + 1;
    }
    if (status < 0) {
        out->n = before;
        return status;
    }
    return kept;
}

static bool is_ours(const void *arg, struct slice name) {
    const struct merge *merge = arg;
    if (slice_is(name, "error") || (merge->meta && slice_is(name, "meta"))) {
        return true;
    }
    for (size_t i = 0; i < merge->model->n_output; i++) {
        if (slice_is(name, merge->model->output[i].name)) {
            return true;
        }
    }
    for (int i = 0; i < N_METADATA; i++) {
        if (MODEL_HAS(merge->model->metadata, i) && slice_is(name, model_metadata_name(i))) {
            return true;
        }
    }
    return false;
}

// What stands in an error: of a result or of a row that could not be read.
struct failure {
    struct slice code, message;
    int64_t attempts;
    const struct rows_row *row; // file and line stand before the message; NULL: they are in it
};

static int add_member_name(struct buf *out, bool first, const char *name) {
    int status = first ? 0 : buf_add_str(out, ", ");
    status = status ? status : json_add_string(out, slice_of(name));
    return status ? status : buf_add_str(out, ": ");
}

static int message_text(const struct failure *failure, struct buf *text) {
    int status = 0;
    if (failure->row != NULL) {
        status = buf_addf(text, "%s:%llu: ", failure->row->file,
                          (unsigned long long)failure->row->line);
    }
    return status ? status : buf_add_slice(text, failure->message);
}

static int add_failure(struct buf *out, const struct failure *failure) {
    struct buf text;
    buf_init(&text, 64 * 1024);
    int status = message_text(failure, &text);
    status = status ? status : buf_add_str(out, "{\"code\": ");
    status = status ? status : json_add_string(out, failure->code);
    status = status ? status : buf_add_str(out, ", \"message\": ");
    status = status ? status : json_add_string(out, buf_slice(&text));
    status = status ? status : buf_addf(out, ", \"attempts\": %lld}", (long long)failure->attempts);
    buf_free(&text);
    return status;
}

// add_tail appends OUTPUT columns, error, meta, the closing brace and the line break.
static int add_tail(const struct merge *merge, bool first, struct json_object *result,
                    const struct failure *failure, struct buf *out) {
    int status = 0;
    for (size_t i = 0; status == 0 && i < merge->model->n_output; i++) {
        const char *name = merge->model->output[i].name;
        status = add_member_name(out, first, name);
        status = status ? status : json_add(out, json_get(result, name));
        first = false;
    }
    for (int i = 0; status == 0 && i < N_METADATA; i++) {
        if (MODEL_HAS(merge->model->metadata, i)) {
            status = add_member_name(out, first, model_metadata_name(i));
            status = status ? status : json_add(out, json_get(result, model_metadata_name(i)));
        }
    }
    status = status ? status : add_member_name(out, first, "error");
    status = status ? status
                    : (failure != NULL ? add_failure(out, failure) : buf_add_str(out, "null"));
    if (merge->meta) {
        status = status ? status : add_member_name(out, false, "meta");
        status = status ? status : json_add(out, json_get(result, "meta"));
    }
    return status ? status : buf_add_str(out, "}\n");
}

// failure_of reads a result's error. Returns false when there is none.
static bool failure_of(const struct rows_row *row, struct json_object *result,
                       struct failure *failure) {
    struct json_object *error = json_get(result, "error");
    if (error == NULL) {
        return false;
    }
    struct json_object *attempts = json_get(error, "attempts");
    *failure = (struct failure){
        .code = json_text(json_get(error, "code")),
        .message = json_text(json_get(error, "message")),
        .attempts = attempts != NULL ? json_object_get_int64(attempts) : 0,
        .row = row,
    };
    return true;
}

// ---- CSV --------------------------------------------------------------------------------------

static bool is_kept_column(const struct merge *merge, size_t i) {
    return i < merge->n_header && !is_ours(merge, slice_of(merge->header[i]));
}

static int add_csv_cell(const struct merge *merge, bool *first, struct slice text, struct buf *out) {
    int status = *first ? 0 : buf_add_byte(out, merge->delimiter);
    *first = false;
    return status ? status : csv_add_field(out, merge->delimiter, text);
}

static int add_csv_own(const struct merge *merge, struct slice record, bool *first, struct buf *out) {
    struct buf field;
    buf_init(&field, record.n + 1);
    bool more = true;
    int status = 0;
    for (size_t i = 0; status == 0 && i < merge->n_header; i++) {
        buf_clear(&field);
        if (more && csv_field(&record, &more, merge->delimiter, &field, NULL) < 0) {
            more = false;
            buf_clear(&field);
        }
        if (is_kept_column(merge, i)) {
            status = add_csv_cell(merge, first, buf_slice(&field), out);
        }
    }
    buf_free(&field);
    return status;
}

// add_csv_value appends a JSON value as a cell: text without quotes, null as nothing.
static int add_csv_value(const struct merge *merge, bool *first, struct json_object *value,
                         struct buf *out) {
    if (value == NULL || json_object_is_type(value, json_type_string)) {
        return add_csv_cell(merge, first, json_text(value), out);
    }
    struct buf text;
    buf_init(&text, out->max);
    int status = json_add(&text, value);
    status = status ? status : add_csv_cell(merge, first, buf_slice(&text), out);
    buf_free(&text);
    return status;
}

static int add_csv(const struct merge *merge, struct slice record, struct json_object *result,
                   const struct failure *failure, struct buf *out) {
    bool first = true;
    int status = add_csv_own(merge, record, &first, out);
    for (size_t i = 0; status == 0 && i < merge->model->n_output; i++) {
        status = add_csv_value(merge, &first, json_get(result, merge->model->output[i].name), out);
    }
    for (int i = 0; status == 0 && i < N_METADATA; i++) {
        if (MODEL_HAS(merge->model->metadata, i)) {
            status = add_csv_value(merge, &first, json_get(result, model_metadata_name(i)), out);
        }
    }
    struct buf text;
    buf_init(&text, 64 * 1024);
    if (status == 0 && failure != NULL) {
        status = buf_add_slice(&text, failure->code);
        status = status ? status : buf_add_str(&text, ": ");
        status = status ? status : message_text(failure, &text);
    }
    status = status ? status : add_csv_cell(merge, &first, buf_slice(&text), out);
    buf_free(&text);
    if (merge->meta) {
        status = status ? status : add_csv_value(merge, &first, json_get(result, "meta"), out);
    }
    return status ? status : buf_add_byte(out, '\n');
}

int merge_header(const struct merge *merge, struct buf *out) {
    if (!merge->csv) {
        return 0;
    }
    bool first = true;
    int status = 0;
    for (size_t i = 0; status == 0 && i < merge->n_header; i++) {
        if (is_kept_column(merge, i)) {
            status = add_csv_cell(merge, &first, slice_of(merge->header[i]), out);
        }
    }
    for (size_t i = 0; status == 0 && i < merge->model->n_output; i++) {
        status = add_csv_cell(merge, &first, slice_of(merge->model->output[i].name), out);
    }
    for (int i = 0; status == 0 && i < N_METADATA; i++) {
        if (MODEL_HAS(merge->model->metadata, i)) {
            status = add_csv_cell(merge, &first, slice_of(model_metadata_name(i)), out);
        }
    }
    status = status ? status : add_csv_cell(merge, &first, SLICE_LIT("error"), out);
    if (merge->meta) {
        status = status ? status : add_csv_cell(merge, &first, SLICE_LIT("meta"), out);
    }
    return status ? status : buf_add_byte(out, '\n');
}

// ---- Lines ------------------------------------------------------------------------------------

// undo makes a failed line leave no trace.
static int undo(struct buf *out, size_t before, int status) {
    if (status < 0) {
        out->n = before;
    }
    return status < 0 ? status : 0;
}

int merge_result(const struct merge *merge, const struct rows_row *row, struct json_object *result,
                 struct buf *out) {
    size_t before = out->n;
    struct failure failure;
    const struct failure *failed = failure_of(row, result, &failure) ? &failure : NULL;
    if (merge->csv) {
        return undo(out, before, add_csv(merge, row->csv, result, failed, out));
    }
    long kept = json_drop_members(row->json, is_ours, merge, out);
    int status = kept < 0 ? (int)kept : add_tail(merge, kept == 0, result, failed, out);
    return undo(out, before, status);
}

int merge_bad(const struct merge *merge, const struct rows_row *row, struct buf *out) {
    size_t before = out->n;
    struct failure failure = {
        .code = slice_of(outcome_of(row->outcome)->text),
        .message = slice_of(row->why.text),
    };
    if (merge->csv) {
        return undo(out, before, add_csv(merge, SLICE_NONE, NULL, &failure, out));
    }
    int status = buf_add_str(out, "{\"file\": ");
    status = status ? status : json_add_string(out, slice_of(row->file));
    status = status ? status : buf_addf(out, ", \"line\": %llu", (unsigned long long)row->line);
    status = status ? status : add_tail(merge, false, NULL, &failure, out);
    return undo(out, before, status);
}
