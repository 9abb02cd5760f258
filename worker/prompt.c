// Prompts. Invariant: what a record says stands inside its slot, escaped, and never ends it; the
// number of a slot is its place in the prompt, from 1. Called by the worker's wiring and by tests.
#include "worker/prompt.h"

#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/providers.h"
#include "common/template.h"
#include "proto/record.h"
#include "worker/instruct.h"
#include "worker/parts.h"
#include "worker/schema.h"
#include "worker/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SCHEMA_MAX (256 * 1024)

// One record of the call being rendered.
struct entry {
    size_t index;         // from 1
    struct slice values;  // msgpack array
};

// What a rendering reads. One lives for the time of one prompt_make.
struct rendering {
    const struct model *model;
    const struct prompt_plan *plan;
    struct entry *entries;
    size_t count;
    struct value last;   // the column that get gave last
    struct buf scratch;  // text that get lends until the next call
};

const char *prompt_value_field(const struct model *model, size_t column) {
    const char *field = model->options.response_value_field;
    return model->n_output == 1 && field[0] != '\0' ? field : model->output[column].name;
}

struct names_seen {
    const struct model *model;
    bool records, column;
};

static void on_name(void *arg, struct slice name) {
    struct names_seen *seen = arg;
    seen->records |= slice_is(name, "records");
    seen->column |= model_input_index(seen->model, name) >= 0;
}

int prompt_plan_make(const struct model *model, struct prompt_plan *plan, struct error *why) {
    const struct model_options *o = &model->options;
    *plan = (struct prompt_plan){.batched = o->batch_size > 1 &&
                                              (model->api->tasks & API_TASKS_VECTORS) == 0};
    buf_init(&plan->item_schema, SCHEMA_MAX);
    buf_init(&plan->schema, SCHEMA_MAX);
    if (plan->batched && o->response_format == RESPONSE_TEXT) {
        return error_set(why, -EINVAL,
                         "option 'response.format': got text with 'batch.size' = %" PRId64
                         ", want json (plain text answers one record only)",
                         o->batch_size);
    }
    struct names_seen seen = {.model = model};
    const struct template *t = plan->batched ? model->batch_template : model->prompt_template;
    if (t != NULL) {
        template_names(t, on_name, &seen);
    }
    plan->has_records = seen.records || (!plan->batched && seen.column);
    int rc = schema_add_item(model, plan->batched, &plan->item_schema);
    struct slice item = buf_slice(&plan->item_schema);
    rc = rc != 0 ? rc
         : plan->batched ? schema_add_list(item, &plan->schema)
                         : buf_add_slice(&plan->schema, item);
    return rc != 0 ? error_set(why, rc, "the OUTPUT columns make a schema of more than %d bytes",
                               SCHEMA_MAX)
                   : 0;
}

void prompt_plan_free(struct prompt_plan *plan) {
    buf_free(&plan->item_schema);
    buf_free(&plan->schema);
}

// add_xml escapes text so that it neither ends its element nor its line. XML 1.0 cannot carry most
// control characters: they become U+FFFD. Source: XML 1.0, sections 2.2 and 2.4.
static int add_xml(struct buf *out, struct slice s) {
    static const char *const escapes[256] = {
        ['&'] = "&amp;",  ['<'] = "&lt;",  ['>'] = "&gt;",   ['"'] = "&quot;",
        ['\''] = "&#39;", ['\n'] = "&#10;", ['\r'] = "&#13;", ['\t'] = "&#9;",
    };
    int rc = 0;
    size_t from = 0;
    for (size_t i = 0; rc == 0 && i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        const char *escape = escapes[c];
        if (escape == NULL && (c < 0x20 || c == 0x7f)) {
            escape = "\xEF\xBF\xBD";
        }
        if (escape != NULL) {
            rc = buf_add(out, s.p + from, i - from);
            rc = rc != 0 ? rc : buf_add_str(out, escape);
            from = i + 1;
        }
    }
    return rc != 0 ? rc : buf_add(out, s.p + from, s.n - from);
}

static bool is_name_byte(char c, bool first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0 ||
           (!first && ((c >= '0' && c <= '9') || c == '-' || c == '.'));
}

// add_xml_name writes a column's name as an element's: what a name may not hold becomes '_'.
static int add_xml_name(struct buf *out, const char *name) {
    int rc = is_name_byte(name[0], true) ? 0 : buf_add_byte(out, '_');
    for (const char *c = name; rc == 0 && *c != '\0'; c++) {
        rc = buf_add_byte(out, is_name_byte(*c, false) ? *c : '_');
    }
    return rc;
}

static int add_value_xml(const struct value *value, struct buf *out) {
    if (value->kind != VALUE_ARRAY) {
        return value->kind == VALUE_STRING ? add_xml(out, value->text) : value_add_text(value, out);
    }
    struct buf json;
    buf_init(&json, out->max);
    int rc = value_add_json(value, &json);
    rc = rc != 0 ? rc : add_xml(out, buf_slice(&json));
    buf_free(&json);
    return rc;
}

static bool is_image(const struct model *model, size_t column, const struct value *value) {
    return model->input[column].type == TYPE_IMAGE && value->kind != VALUE_NULL;
}

static int add_json_column(const struct model *model, const struct entry *e, size_t column,
                           const struct value *value, bool first, struct buf *out) {
    int rc = first ? 0 : buf_add_byte(out, ',');
    rc = rc != 0 ? rc : json_add_string(out, slice_of(model->input[column].name));
    rc = rc != 0 ? rc : buf_add_byte(out, ':');
    return rc != 0                           ? rc
           : is_image(model, column, value) ? parts_add_mark(e->index, column, out)
                                            : value_add_json(value, out);
}

static int add_xml_column(const struct model *model, const struct entry *e, size_t column,
                          const struct value *value, struct buf *out) {
    const char *name = model->input[column].name;
    int rc = buf_add_byte(out, '<');
    rc = rc != 0 ? rc : add_xml_name(out, name);
    rc = rc != 0 ? rc : buf_add_byte(out, '>');
    rc = rc != 0                           ? rc
         : is_image(model, column, value) ? parts_add_mark(e->index, column, out)
                                          : add_value_xml(value, out);
    rc = rc != 0 ? rc : buf_add_str(out, "</");
    rc = rc != 0 ? rc : add_xml_name(out, name);
    return rc != 0 ? rc : buf_add_byte(out, '>');
}

static int add_text_column(const struct model *model, const struct entry *e, size_t column,
                           const struct value *value, bool first, struct buf *out) {
    int rc = first ? 0 : buf_add_str(out, ", ");
    if (rc == 0 && model->n_input > 1) {
        rc = buf_addf(out, "%s: ", model->input[column].name);
    }
    return rc != 0                           ? rc
           : is_image(model, column, value) ? parts_add_mark(e->index, column, out)
                                            : value_add_json(value, out);
}

static int slot_open(const struct rendering *r, const struct entry *e, struct buf *out) {
    bool numbered = r->plan->batched;
    switch (r->model->options.input_format) {
    case FORMAT_XML:
        return numbered ? buf_addf(out, "<record index=\"%zu\">", e->index)
                        : buf_add_str(out, "<record>");
    case FORMAT_TEXT:
        return numbered ? buf_addf(out, "[%zu] ", e->index) : 0;
    default:
        return numbered ? buf_addf(out, "{\"index\":%zu", e->index) : buf_add_byte(out, '{');
    }
}

static int slot_close(const struct rendering *r, struct buf *out) {
    switch (r->model->options.input_format) {
    case FORMAT_XML:
        return buf_add_str(out, "</record>");
    case FORMAT_TEXT:
        return 0;
    default:
        return buf_add_byte(out, '}');
    }
}

static int add_column(const struct rendering *r, const struct entry *e, size_t column,
                      const struct value *value, bool first, struct buf *out) {
    switch (r->model->options.input_format) {
    case FORMAT_XML:
        return add_xml_column(r->model, e, column, value, out);
    case FORMAT_TEXT:
        return add_text_column(r->model, e, column, value, first, out);
    default:
        return add_json_column(r->model, e, column, value, first && !r->plan->batched, out);
    }
}

// add_columns writes the columns that are images, or all others. *n counts those of the slot.
static int add_columns(const struct rendering *r, const struct entry *e, bool images, size_t *n,
                       struct buf *out) {
    struct slice rest = e->values;
    int rc = value_array(&rest) == (long)r->model->n_input ? 0 : -EPROTO;
    for (size_t i = 0; rc == 0 && i < r->model->n_input; i++) {
        struct value value;
        rc = value_next(&rest, &value);
        if (rc == 0 && (r->model->input[i].type == TYPE_IMAGE) == images) {
            rc = add_column(r, e, i, &value, (*n)++ == 0, out);
        }
    }
    return rc;
}

// add_slot writes one record on one line. Its images come first, directly behind its number.
static int add_slot(const struct rendering *r, const struct entry *e, struct buf *out) {
    size_t n = 0;
    int rc = slot_open(r, e, out);
    rc = rc == 0 && r->model->n_images > 0 ? add_columns(r, e, true, &n, out) : rc;
    rc = rc != 0 ? rc : add_columns(r, e, false, &n, out);
    return rc != 0 ? rc : slot_close(r, out);
}

static int add_slots(const struct rendering *r, struct buf *out) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->count; i++) {
        rc = i > 0 ? buf_add_byte(out, '\n') : 0;
        rc = rc != 0 ? rc : add_slot(r, &r->entries[i], out);
    }
    return rc;
}

// entry_value finds column i of a record. Returns 0 or -EPROTO.
static int entry_value(const struct entry *e, long i, struct value *value) {
    struct slice rest = e->values;
    long n = value_array(&rest);
    int rc = i < n ? 0 : -EPROTO;
    for (long k = 0; rc == 0 && k <= i; k++) {
        rc = value_next(&rest, value);
    }
    return rc;
}

// add_bare writes the only column of the only record as it is.
static int add_bare(const struct rendering *r, struct buf *out) {
    struct value value;
    int rc = entry_value(&r->entries[0], 0, &value);
    return rc != 0                         ? rc
           : is_image(r->model, 0, &value) ? parts_add_mark(r->entries[0].index, 0, out)
                                           : value_add_text(&value, out);
}

static bool get_column(struct rendering *r, const struct entry *e, struct slice name,
                       struct template_value *out) {
    int i = model_input_index(r->model, name);
    if (i < 0 || entry_value(e, i, &r->last) != 0) {
        return false;
    }
    if (r->last.kind == VALUE_NULL || (r->last.kind == VALUE_BOOL && !r->last.truth)) {
        out->kind = TEMPLATE_FALSE;
        return true;
    }
    buf_clear(&r->scratch);
    if (is_image(r->model, (size_t)i, &r->last)) {
        out->is_raw = true;
        out->kind = TEMPLATE_TEXT;
        bool fits = parts_add_mark(e->index, (size_t)i, &r->scratch) == 0;
        out->text = buf_slice(&r->scratch);
        return fits;
    }
    if (r->last.kind != VALUE_STRING && value_add_text(&r->last, &r->scratch) != 0) {
        return false;
    }
    out->kind = TEMPLATE_TEXT;
    out->text = r->last.kind == VALUE_STRING ? r->last.text : buf_slice(&r->scratch);
    // An array holds a record's text, which JSON's own escapes keep in its place, but not in XML.
    bool is_safe = r->last.kind != VALUE_ARRAY || r->model->options.input_format != FORMAT_XML;
    out->is_raw = r->last.kind != VALUE_STRING && is_safe;
    return true;
}

static int add_now(struct buf *out) {
    time_t seconds = (time_t)(clock_unix_ms() / 1000);
    struct tm tm;
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    return buf_add_str(out, text);
}

static int add_index(const struct rendering *r, struct buf *out) {
    return buf_addf(out, "%zu", r->count > 0 ? r->entries[0].index : 1);
}

static int add_count(const struct rendering *r, struct buf *out) {
    return buf_addf(out, "%zu", r->count);
}

static int add_plan_schema(const struct rendering *r, struct buf *out) {
    return buf_add_slice(out, buf_slice(&r->plan->item_schema));
}

static int add_now_of(const struct rendering *r, struct buf *out) {
    return add_now(out);
}

// Names that mean the same in every template. All are written as they are.
static const struct {
    const char *name;
    int (*add)(const struct rendering *r, struct buf *out);
} shared_names[] = {
    {.name = "index", .add = add_index},
    {.name = "count", .add = add_count},
    {.name = "schema", .add = add_plan_schema},
    {.name = "now", .add = add_now_of},
};

static struct template_value raw_text(const struct rendering *r) {
    return (struct template_value){.kind = TEMPLATE_TEXT, .text = buf_slice(&r->scratch), .is_raw = true};
}

static bool get_shared(struct rendering *r, struct slice name, struct template_value *out) {
    if (slice_is(name, "records")) {
        *out = (struct template_value){.kind = TEMPLATE_LIST, .node = r->entries, .n = r->count};
        return true;
    }
    if (slice_is(name, "labels")) {
        *out = (struct template_value){
            .kind = TEMPLATE_LIST, .node = r->model->labels, .n = r->model->n_labels};
        return true;
    }
    for (size_t i = 0; i < sizeof(shared_names) / sizeof(shared_names[0]); i++) {
        if (slice_is(name, shared_names[i].name)) {
            buf_clear(&r->scratch);
            if (shared_names[i].add(r, &r->scratch) != 0) {
                return false;
            }
            *out = raw_text(r);
            return true;
        }
    }
    return false;
}

// on_get looks a name up: a node is an entry, or the rendering itself at the root.
static bool on_get(void *arg, const void *node, struct slice name, struct template_value *out) {
    struct rendering *r = arg;
    *out = (struct template_value){0};
    if (node == r) {
        if (!r->plan->batched && get_column(r, &r->entries[0], name, out)) {
            return true;
        }
        return get_shared(r, name, out);
    }
    const struct entry *e = node;
    if (!slice_is(name, "index")) { // the number of the slot
        return get_column(r, e, name, out);
    }
    buf_clear(&r->scratch);
    if (buf_addf(&r->scratch, "%zu", e->index) != 0) {
        return false;
    }
    *out = raw_text(r);
    return true;
}

static void on_item(void *arg, const void *list, size_t i, struct template_value *out) {
    const struct rendering *r = arg;
    if (list == r->model->labels) {
        *out = (struct template_value){
            .kind = TEMPLATE_TEXT, .text = slice_of(r->model->labels[i]), .is_raw = true};
        return;
    }
    *out = (struct template_value){.kind = TEMPLATE_NODE, .node = &r->entries[i]};
}

// on_list writes a list where its name stands alone: the slots, or the labels with commas between.
static int on_list(void *arg, const void *list, size_t n, struct buf *out) {
    const struct rendering *r = arg;
    return list == r->model->labels ? instruct_labels(r->model, out) : add_slots(r, out);
}

static int on_escape(void *arg, struct slice text, struct buf *out) {
    const struct rendering *r = arg;
    switch (r->model->options.input_format) {
    case FORMAT_XML:
        return add_xml(out, text);
    case FORMAT_TEXT:
        return r->plan->batched ? json_add_string(out, text) : buf_add_slice(out, text);
    default:
        return json_add_string(out, text);
    }
}

static int render(struct rendering *r, const struct template *t, struct buf *out) {
    struct template_source source = {
        .get = on_get, .item = on_item, .list = on_list, .escape = on_escape, .arg = r};
    r->scratch.max = out->max;
    return template_render(t, &source, r, out);
}

static int add_batch(struct rendering *r, struct buf *out) {
    const struct template *t = r->model->batch_template;
    int rc = t != NULL ? render(r, t, out) : instruct_batch(r->model, out);
    if (rc != 0 || r->plan->has_records) {
        return rc;
    }
    rc = buf_add_str(out, "\n\n");
    return rc != 0 ? rc : add_slots(r, out);
}

static int add_single(struct rendering *r, struct buf *out) {
    const struct template *t = r->model->prompt_template;
    bool one = r->model->n_input == 1;
    if (t == NULL) {
        bool is_bare = r->model->input[0].type == TYPE_STRING || r->model->input[0].type == TYPE_IMAGE;
        return one && is_bare ? add_bare(r, out) : add_slots(r, out);
    }
    int rc = render(r, t, out);
    if (rc != 0 || r->plan->has_records) {
        return rc;
    }
    rc = buf_add_str(out, "\n\n");
    if (rc != 0) {
        return rc;
    }
    return one && r->model->options.input_format == FORMAT_TEXT ? add_bare(r, out) : add_slots(r, out);
}

// is_forged: text that is no UTF-8 could stand for an image.
static bool is_forged(const struct model *model, const struct value *value) {
    return model->n_images > 0 && value->kind == VALUE_STRING && parts_has_mark(value->text);
}

// entries_read lists the records and checks that each has the model's columns.
static int entries_read(struct rendering *r, struct slice records, uint64_t *slots,
                        struct error *why) {
    for (size_t i = 0; i < r->count; i++) {
        struct entry *e = &r->entries[i];
        if (record_next(&records, &slots[i], &e->values) != 1) {
            return error_set(why, -EPROTO, "got %zu records, want %zu", i, r->count);
        }
        e->index = i + 1;
        struct slice rest = e->values;
        long n = value_array(&rest);
        struct value value;
        for (long k = 0; k < n; k++) {
            if (value_next(&rest, &value) != 0 || is_forged(r->model, &value)) {
                return error_set(why, -EPROTO, "record %zu: value %ld cannot be read", i + 1, k + 1);
            }
        }
        if (n != (long)r->model->n_input || rest.n != 0) {
            return error_set(why, -EPROTO, "record %zu: got %ld values, want %zu", i + 1, n,
                             r->model->n_input);
        }
    }
    return records.n == 0 ? 0 : error_set(why, -EPROTO, "got bytes after %zu records", r->count);
}

int prompt_make(const struct model *model, const struct prompt_plan *plan, struct slice records,
                size_t count, uint64_t *slots, struct buf *system, struct buf *user,
                struct error *why) {
    if (count == 0 || (count > 1 && !plan->batched)) {
        return error_set(why, -EPROTO, "got %zu records, want %s", count,
                         plan->batched ? "1 or more" : "1 ('batch.size' is 1)");
    }
    struct entry one; // most single prompts allocate nothing
    struct rendering r = {.model = model, .plan = plan, .count = count, .entries = &one};
    if (count > 1) {
        r.entries = mem_alloc(count * sizeof(*r.entries));
    }
    int rc = entries_read(&r, records, slots, why);
    if (rc == 0 && model->system_template != NULL) {
        rc = render(&r, model->system_template, system);
    }
    if (rc == 0) {
        rc = plan->batched ? add_batch(&r, user) : add_single(&r, user);
    }
    if (rc == -EMSGSIZE) {
        error_set(why, rc, "the prompt of %zu records is longer than %zu bytes", count, user->max);
    } else if (rc == -ELOOP) {
        error_set(why, rc, "a template includes itself without end");
    }
    if (r.entries != &one) {
        free(r.entries);
    }
    buf_free(&r.scratch);
    return rc;
}
