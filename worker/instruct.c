// What a prompt says beside the model's templates and the records. Invariant: it is made of the model's
// own words alone, never of a record's or an answer's. Called by prompt and by the prompt step.
#include "worker/instruct.h"

#include "common/json.h"
#include "proto/record.h"
#include "worker/prompt.h"

#include <string.h>

int instruct_labels(const struct model *model, struct buf *out) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < model->n_labels; i++) {
        rc = buf_addf(out, "%s%s", i > 0 ? ", " : "", model->labels[i]);
    }
    return rc;
}

// add_wanted says what a column's value is to be.
static int add_wanted(const struct model *model, size_t column, struct buf *out) {
    struct type plain;
    if (column == 0 && model->n_labels > 0) {
        int rc = buf_add_str(out, "one of: ");
        return rc != 0 ? rc : instruct_labels(model, out);
    }
    return type_add_text(column_full(&model->output[column], &plain), out);
}

static int instruct_json(const struct model *model, struct buf *out) {
    int rc = buf_add_str(out, "a JSON array with exactly one object per record: [{");
    rc = rc != 0 ? rc : json_add_string(out, slice_of(model->options.response_index_field));
    rc = rc != 0 ? rc : buf_add_str(out, ": <number of the record>");
    for (size_t i = 0; rc == 0 && i < model->n_output; i++) {
        rc = buf_add_str(out, ", ");
        rc = rc != 0 ? rc : json_add_string(out, slice_of(prompt_value_field(model, i)));
        rc = rc != 0 ? rc : buf_add_str(out, ": <");
        rc = rc != 0 ? rc : add_wanted(model, i, out);
        rc = rc != 0 ? rc : buf_add_byte(out, '>');
    }
    return rc != 0 ? rc : buf_add_str(out, "}, ...]");
}

static int instruct_xml(const struct model *model, struct buf *out) {
    int rc = buf_addf(out, "XML with exactly one element per record: <items><item %s=\"number of "
                           "the record\">", model->options.response_index_field);
    for (size_t i = 0; rc == 0 && i < model->n_output; i++) {
        const char *field = prompt_value_field(model, i);
        rc = buf_addf(out, "<%s>", field);
        rc = rc != 0 ? rc : add_wanted(model, i, out);
        rc = rc != 0 ? rc : buf_addf(out, "</%s>", field);
    }
    return rc != 0 ? rc : buf_add_str(out, "</item>...</items>");
}

// instruct_delimited: a header line, which also serves where the fields go by number.
static int instruct_delimited(const struct model *model, struct buf *out) {
    const struct model_options *o = &model->options;
    bool tab = strcmp(o->response_delimiter, "\\t") == 0;
    const char *delimiter = tab ? "\t" : o->response_delimiter;
    int rc = buf_addf(out, "lines with '%s' between fields%s%s%s, exactly one per record, under this "
                           "header:\n%s",
                      tab ? "a tab" : delimiter,
                      o->response_quote[0] != '\0' ? " (a field that holds it stands in " : "",
                      o->response_quote, o->response_quote[0] != '\0' ? ")" : "",
                      o->response_index_field);
    for (size_t i = 0; rc == 0 && i < model->n_output; i++) {
        rc = buf_add_str(out, delimiter);
        rc = rc != 0 ? rc : buf_add_str(out, prompt_value_field(model, i));
    }
    return rc;
}

int instruct_batch(const struct model *model, struct buf *out) {
    int rc = buf_add_str(out, "Answer for each numbered record below. Return only ");
    switch (rc == 0 ? model->options.response_format : -1) {
    case RESPONSE_JSON:
        return instruct_json(model, out);
    case RESPONSE_XML:
        return instruct_xml(model, out);
    case RESPONSE_DELIMITED:
        return instruct_delimited(model, out);
    default:
        return rc; // the others have a template, CREATE MODEL made sure
    }
}

// add_correction writes one line; the sentence is the worker's own, and yet kept to its line.
static int add_correction(bool numbered, size_t index, struct slice sentence,
                          struct buf *user) {
    int rc = numbered ? buf_addf(user, "\nrecord %zu: ", index) : buf_add_byte(user, '\n');
    for (size_t i = 0; rc == 0 && i < sentence.n; i++) {
        bool control = (unsigned char)sentence.p[i] < 0x20;
        rc = buf_add_byte(user, control ? ' ' : sentence.p[i]);
    }
    return rc;
}

int instruct_correct(bool numbered, struct slice corrections, const uint64_t *slots, size_t count,
                     struct buf *user) {
    struct slice sentence;
    enum outcome outcome;
    uint64_t slot;
    bool any = false;
    int rc;
    while ((rc = item_next(&corrections, &slot, &outcome, &sentence)) == 1) {
        size_t k = 0;
        while (k < count && slots[k] != slot) {
            k++;
        }
        if (k == count) {
            continue;
        }
        if (!any && (rc = buf_add_str(user, "\n\nAn earlier answer had values that do not fit. "
                                            "Answer with values that do:")) != 0) {
            return rc;
        }
        any = true;
        rc = add_correction(numbered, k + 1, sentence, user);
        if (rc != 0) {
            return rc;
        }
    }
    return rc;
}
