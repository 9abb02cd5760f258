// What the simulated model says. Invariant: the value for a record depends on its text and its
// field alone; only a fault spoils it. Called by serve for each chat.
#include "tests/provider/answer.h"
#include "common/json.h"
#include "tests/provider/form.h"
#include "tests/provider/sentiment.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include <xxhash.h>

uint64_t answer_hash(struct slice text) {
    return XXH3_64bits(text.n > 0 ? text.p : "", text.n);
}

static const char *find_choice(const struct chat_field *field, const char *word) {
    for (size_t i = 0; i < field->n_choices; i++) {
        if (strcasecmp(field->choices[i], word) == 0) {
            return field->choices[i];
        }
    }
    return NULL;
}

static int add_value(const struct chat_field *field, struct slice text, bool quoted,
                     struct buf *out) {
    uint64_t hash = answer_hash(text);
    if (field->type == 'i' || field->type == 'n') {
        return buf_addf(out, "%d", (int)(hash % 100));
    }
    if (field->type == 'b') {
        return buf_add_str(out, hash % 2 == 1 ? "true" : "false");
    }
    char echo[32];
    snprintf(echo, sizeof(echo), "h:%016" PRIx64, hash);
    const char *value = echo;
    if (find_choice(field, "positive") != NULL && find_choice(field, "negative") != NULL) {
        value = find_choice(field, sentiment_name(sentiment_of(text)));
        value = value != NULL ? value : field->choices[0];
    } else if (field->n_choices > 0) {
        value = field->choices[hash % field->n_choices];
    }
    return quoted ? json_add_string(out, slice_of(value)) : buf_add_str(out, value);
}

static int add_object(const struct chat *chat, int64_t index, struct slice text, bool wrong,
                      struct buf *out) {
    int rc = buf_add_byte(out, '{');
    if (rc == 0 && chat->batched) {
        rc = json_add_string(out, slice_of(chat->index_field));
        rc = rc != 0 ? rc : buf_addf(out, ":%lld", (long long)index);
    }
    for (size_t i = 0; rc == 0 && i < chat->n_fields; i++) {
        rc = i > 0 || chat->batched ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : json_add_string(out, slice_of(chat->fields[i].name));
        rc = rc != 0 ? rc : buf_add_byte(out, ':');
        rc = rc != 0 ? rc
             : wrong ? buf_add_str(out, "{\"wrong\":[1]}")
                     : add_value(&chat->fields[i], text, true, out);
    }
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

// add_shaped adds an item of a form other than JSON; a wrong one has no value.
static int add_shaped(const struct chat *chat, int64_t index, struct slice text, bool wrong, struct buf *out) {
    struct slice values[CHAT_FIELDS_MAX] = {SLICE_NONE};
    struct buf scratch;
    size_t ends[CHAT_FIELDS_MAX];
    int rc = 0;
    buf_init(&scratch, CHAT_FIELDS_MAX * sizeof(chat->fields[0].choices[0]));
    for (size_t i = 0; rc == 0 && i < chat->n_fields; i++) {
        rc = add_value(&chat->fields[i], text, false, &scratch);
        ends[i] = scratch.n;
    }
    for (size_t i = 0, from = 0; rc == 0 && i < chat->n_fields; from = ends[i++]) {
        values[i] = slice_sub(buf_slice(&scratch), from, ends[i] - from);
    }
    rc = rc != 0 ? rc : form_item(chat, index, wrong ? NULL : values, out);
    buf_free(&scratch);
    return rc;
}

static int add_item(const struct chat *chat, int64_t index, struct slice text, bool wrong,
                    struct buf *out) {
    return chat->form == FORM_JSON ? add_object(chat, index, text, wrong, out)
                                   : add_shaped(chat, index, text, wrong, out);
}

static int add_items(struct chat *chat, enum fault fault, size_t struck, struct buf *out) {
    int rc = 0;
    bool first = true;
    int64_t last = chat->slots[chat->n_slots - 1].index;
    for (size_t i = 0; rc == 0 && i < chat->n_slots; i++) {
        struct chat_slot *slot = &chat->slots[i];
        int64_t index = slot->index - (fault == FAULT_SHIFTED);
        bool hit = i == struck;
        if (hit && fault == FAULT_MISSING) {
            continue;
        }
        if (hit && fault == FAULT_OUT_OF_RANGE) {
            index = last + 7;
        } else if (hit && fault == FAULT_DUPLICATE) {
            index = chat->slots[(i + 1) % chat->n_slots].index;
        }
        rc = first || chat->form != FORM_JSON ? 0 : buf_add_byte(out, ',');
        first = false;
        rc = rc != 0 ? rc
                     : add_item(chat, index, chat_text(chat, slot),
                                hit && fault == FAULT_WRONG_TYPE, out);
        bool right = index == slot->index && !(hit && fault == FAULT_WRONG_TYPE) &&
                     !(fault == FAULT_DUPLICATE && i == (struck + 1) % chat->n_slots);
        slot->item_end = right ? out->n : 0;
    }
    return rc;
}

static int add_right(struct chat *chat, enum fault fault, size_t struck, struct buf *out) {
    if (!chat->batched) {
        struct chat_slot *slot = &chat->slots[0];
        bool wrong = fault == FAULT_WRONG_TYPE;
        int rc = fault == FAULT_MISSING ? buf_add_str(out, "{}")
                 : chat->json || wrong
                     ? add_item(chat, 1, chat_text(chat, slot), wrong, out)
                     : add_value(&chat->fields[0], chat_text(chat, slot), false, out);
        slot->item_end = fault == FAULT_MISSING || wrong ? 0 : out->n;
        return rc;
    }
    if (chat->form != FORM_JSON) {
        int rc = form_begin(chat, out);
        rc = rc != 0 ? rc : add_items(chat, fault, struck, out);
        return rc != 0 ? rc : form_end(chat, out);
    }
    int rc = 0;
    if (chat->wrapper[0] != '\0') {
        rc = buf_add_byte(out, '{');
        rc = rc != 0 ? rc : json_add_string(out, slice_of(chat->wrapper));
        rc = rc != 0 ? rc : buf_add_byte(out, ':');
    }
    rc = rc != 0 ? rc : buf_add_byte(out, '[');
    rc = rc != 0 ? rc : add_items(chat, fault, struck, out);
    rc = rc != 0 ? rc : buf_add_byte(out, ']');
    return rc != 0 || chat->wrapper[0] == '\0' ? rc : buf_add_byte(out, '}');
}

// cut_to shortens the answer; items that reach past the cut are right no more.
static void cut_to(struct chat *chat, struct buf *out, size_t n) {
    out->n = n;
    out->p[n] = '\0';
    for (size_t i = 0; i < chat->n_slots; i++) {
        if (chat->slots[i].item_end > n) {
            chat->slots[i].item_end = 0;
        }
    }
}

int answer_write(struct chat *chat, enum fault fault, uint64_t draw, struct buf *out) {
    int rc = 0;
    if (fault == FAULT_FENCED) {
        rc = buf_addf(out, "```%s\n", form_name(chat));
    } else if (fault == FAULT_PROSE) {
        rc = buf_add_str(out, "Sure! Here is what you asked for:\n\n");
    }
    rc = rc != 0 ? rc : add_right(chat, fault, (size_t)(draw % chat->n_slots), out);
    if (rc != 0) {
        return rc;
    }
    switch (fault) {
    case FAULT_FENCED:
        return buf_add_str(out, "\n```");
    case FAULT_PROSE:
        return buf_add_str(out, "\n\nLet me know if you need anything else.");
    case FAULT_TRUNCATED:
    case FAULT_LENGTH:
        cut_to(chat, out, out->n * 2 / 3);
        return 0;
    case FAULT_MALFORMED:
        cut_to(chat, out, 0);
        return buf_add_str(out, "{{\"items\": [{index 1: oops,,");
    case FAULT_EMPTY:
    case FAULT_FILTER:
    case FAULT_REFUSAL:
        cut_to(chat, out, 0);
        return 0;
    default:
        return 0;
    }
}
