// Answers into items. Invariant: a value reaches a record only by the number that its item carries;
// where the numbers leave a doubt, nothing is kept and the record is asked again. Reads in three
// passes: the format's reader lists the items; their numbers are judged; then each value is cast.
// Called by the worker's wiring, tests and the fuzz target; never keeps a pointer into the text.
#include "worker/parse.h"
#include "worker/parse_items.h"

#include "common/mem.h"
#include "common/plant.h"
#include "proto/record.h"
#include "common/cast.h"
#include "worker/prompt.h"
#include "worker/value.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAYLOAD_MAX (16 * 1024 * 1024) // one record's values

struct parser *parser_new(void) {
    struct parser *p = mem_zalloc(sizeof(*p));
    buf_init(&p->payload, PAYLOAD_MAX);
    buf_init(&p->scratch, PAYLOAD_MAX);
    return p;
}

static void parser_clear(struct parser *p) {
    for (size_t i = 0; i < p->n_roots; i++) {
        json_object_put(p->roots[i]);
    }
    p->n_roots = 0;
    p->n_items = 0;
    p->overflow = false;
}

void parser_free(struct parser *parser) {
    if (parser != NULL) {
        parser_clear(parser);
        buf_free(&parser->payload);
        buf_free(&parser->scratch);
        free(parser);
    }
}

// ---- The numbers ------------------------------------------------------------------------------

struct span {
    size_t n;           // items with a number
    int64_t least, most;
};

static struct span span_of(const struct parser *p) {
    struct span s = {0};
    for (size_t i = 0; i < p->n_items; i++) {
        const struct item *item = &p->items[i];
        if (item->has_index) {
            s.least = s.n == 0 || item->index < s.least ? item->index : s.least;
            s.most = s.n == 0 || item->index > s.most ? item->index : s.most;
            s.n++;
        }
    }
    return s;
}

// numbers_shift puts right numbers that are all off by the same. True when every record has exactly
// one item then.
static bool numbers_shift(struct parser *p, size_t count, int64_t shift) {
    bool seen[MODEL_BATCH_MAX] = {0};
    for (size_t i = 0; i < p->n_items; i++) {
        int64_t k = p->items[i].index - shift - 1;
        if (!p->items[i].has_index || k < 0 || k >= (int64_t)count || seen[k]) {
            return false;
        }
        seen[k] = true;
    }
    for (size_t i = 0; i < p->n_items; i++) {
        p->items[i].index -= shift;
    }
    return true;
}

// numbers_judge decides whether the numbers can be believed. Numbers of which some lie outside
// 1..count, but which all fit into count places, may be the right ones moved along: then no item
// is sure. (A rotation, or a shift of a part, cannot be seen from the numbers.)
// One item that answers a call for one record can be no other record's, whatever its number.
static bool numbers_judge(struct parser *p, const struct question *q, struct parsed *out) {
    struct span s = span_of(p);
    int effort = q->model->options.response_best_effort;
    if (effort != BEST_EFFORT_OFF && q->count == 1 && p->n_items == 1 && (s.n == 0 || s.least != 1)) {
        parse_warn(out, "lone-index");
        p->items[0].has_index = true;
        p->items[0].index = 1;
        return true;
    }
    if (s.n == 0) {
        parse_fail(out, OUTCOME_UNREADABLE, "");
        snprintf(out->detail, sizeof(out->detail), "got %zu items, none of which has a number in '%.64s'",
                 p->n_items, q->model->options.response_index_field);
        return false;
    }
    bool outside = s.least < 1 || s.most > (int64_t)q->count;
    bool fits = (uint64_t)s.most - (uint64_t)s.least < q->count;
    if (!outside || !fits) {
        return true;
    }
    int64_t shift = s.least - 1;
    if (effort == BEST_EFFORT_ON && p->n_items == q->count &&
        numbers_shift(p, q->count, shift)) {
        char name[48];
        snprintf(name, sizeof(name), "shifted-index by %+" PRId64, shift);
        parse_warn(out, name);
        return true;
    }
    parse_fail(out, OUTCOME_SHIFTED, "");
    snprintf(out->detail, sizeof(out->detail),
             "got item numbers from %" PRId64 " to %" PRId64 ", want 1 to %zu", s.least, s.most,
             q->count);
    return false;
}

// ---- The values -------------------------------------------------------------------------------

static struct json_object *item_value(const struct question *q, const struct item *item, size_t column,
                                      bool *there) {
    struct json_object *value = NULL;
    *there = json_object_is_type(item->json, json_type_object) &&
             json_object_object_get_ex(item->json, prompt_value_field(q->model, column), &value);
    return value;
}

static bool is_same_answer(const struct question *q, const struct item *a, const struct item *b) {
    for (size_t i = 0; i < q->model->n_output; i++) {
        bool there_a, there_b;
        struct json_object *x = item_value(q, a, i, &there_a), *y = item_value(q, b, i, &there_b);
        if (there_a != there_b || !json_object_equal(x, y)) {
            return false;
        }
    }
    return true;
}

// items_assign gives each item to the record of its number.
static void items_assign(struct parser *p, const struct question *q, struct parsed *out) {
    memset(p->first, 0, q->count * sizeof(p->first[0]));
    memset(p->clash, 0, q->count * sizeof(p->clash[0]));
    for (size_t i = 0; i < p->n_items; i++) {
        struct item *item = &p->items[i];
        if (!item->has_index) {
            parse_warn(out, "no-index");
            continue;
        }
        if (item->index < 1 || item->index > (int64_t)q->count) {
            parse_warn(out, "out-of-range");
            continue;
        }
        size_t k = PLANT(MATCH_BY_POSITION) ? i % q->count : (size_t)item->index - 1;
        if (p->first[k] == NULL) {
            p->first[k] = item;
        } else if (is_same_answer(q, p->first[k], item)) {
            parse_warn(out, "repeated");
        } else {
            p->clash[k] = true;
        }
    }
}

static void add_item(struct parsed *out, uint64_t slot, enum outcome outcome, struct slice payload) {
    if (item_pack(&out->items, slot, outcome, payload) != 0) {
        parse_fail(out, OUTCOME_UNREADABLE, "the answer's items are longer than a report may be");
        return;
    }
    out->n_items++;
}

// cast_item packs one record's values, or says why not.
static int cast_item(struct parser *p, const struct question *q, const struct item *item,
                     struct error *why) {
    buf_clear(&p->payload);
    int rc = value_pack_array(&p->payload, q->model->n_output);
    for (size_t i = 0; rc == 0 && i < q->model->n_output; i++) {
        bool there;
        struct json_object *value = item_value(q, item, i, &there);
        if (!there) {
            return error_set(why, -EINVAL, "column '%s': the item has no field '%s'",
                             q->model->output[i].name, prompt_value_field(q->model, i));
        }
        rc = i == 0 && q->model->n_labels > 0
                 ? cast_label(q->model, value, &p->payload, why)
                 : cast_answer(&q->model->output[i], value, &p->payload, why);
    }
    return rc == -EMSGSIZE ? error_set(why, rc, "the values are longer than %d bytes", PAYLOAD_MAX) : rc;
}

static void pack_record(struct parser *p, const struct question *q, size_t k, struct parsed *out) {
    if (p->clash[k]) {
        add_item(out, q->slots[k], OUTCOME_DUPLICATE, slice_of("the answer has different items for this record"));
        return;
    }
    if (p->first[k] == NULL) {
        return;
    }
    struct error why = {0};
    if (cast_item(p, q, p->first[k], &why) == 0) {
        add_item(out, q->slots[k], OUTCOME_OK, buf_slice(&p->payload));
    } else {
        add_item(out, q->slots[k], OUTCOME_BAD_VALUE, slice_of(why.text));
    }
}

// ---- Whole answers ----------------------------------------------------------------------------

// single_judge: the answer to a single prompt needs no number, but must be the only one.
static void single_judge(struct parser *p) {
    for (size_t i = 0; i < p->n_items; i++) {
        p->items[i].has_index = true;
        p->items[i].index = 1;
    }
}

// judge turns listed items into a report's items.
static void judge(struct parser *p, const struct question *q, struct parsed *out) {
    if (!q->batched) {
        single_judge(p);
    } else if (!numbers_judge(p, q, out)) {
        return;
    }
    items_assign(p, q, out);
    for (size_t k = 0; k < q->count && out->outcome == OUTCOME_OK; k++) {
        pack_record(p, q, k, out);
    }
}

// What response.format may be: a file and a row each.
static const struct format formats[] = {
    [RESPONSE_JSON] = {.name = "json", .read = parse_json},
    [RESPONSE_TEXT] = {.name = "text", .read = parse_text},
    [RESPONSE_XML] = {.name = "xml", .read = parse_xml},
    [RESPONSE_DELIMITED] = {.name = "delimited", .read = parse_delimited, .with_blanks = true},
    [RESPONSE_REGEX] = {.name = "regex", .read = parse_regex},
};

// read_items lists the answer's items and judges them.
static void read_items(struct parser *p, const struct question *q, struct slice text,
                       struct parsed *out) {
    const struct format *format = &formats[q->model->options.response_format];
    format->read(p, q, format->with_blanks ? text : slice_trim(text), out);
    if (p->overflow) {
        parse_fail(out, OUTCOME_UNREADABLE, "the answer has more items than can be meant");
    }
    if (out->outcome == OUTCOME_OK) {
        judge(p, q, out);
    }
}

void parse_answer(struct parser *parser, const struct question *question, struct slice text,
                  struct parsed *out) {
    assert(question->count >= 1 && question->count <= MODEL_BATCH_MAX);
    out->outcome = OUTCOME_OK;
    out->n_items = 0;
    out->detail[0] = out->warning[0] = '\0';
    buf_clear(&out->items);
    parser_clear(parser);
    if (slice_starts(text, "\xEF\xBB\xBF")) {
        parse_warn(out, "byte-order-mark");
        text = slice_sub(text, 3, text.n);
    }
    if (slice_trim(text).n == 0) {
        parse_fail(out, OUTCOME_EMPTY, "the answer has no text");
    } else if (slice_utf8_error(text) >= 0) {
        parse_fail(out, OUTCOME_UNREADABLE, "the answer is not UTF-8");
    } else {
        read_items(parser, question, text, out);
    }
    parser_clear(parser);
    bool all = out->outcome == OUTCOME_OK && out->n_items == question->count;
    if (question->cut && !all) {
        if (out->outcome == OUTCOME_SHIFTED) {
            buf_clear(&out->items);
            out->n_items = 0;
        }
        parse_fail(out, OUTCOME_TRUNCATED, "the answer ended at the token limit");
    }
}
