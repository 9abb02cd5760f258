// What the targets parse_*_fuzz.c share: the text of a model that answers, read in one of its formats.
// Input: how it is read (which of the target's models, 0x40: the provider stopped at the token limit), then
// the text. What must hold of any text is here.
#ifndef HEADRACE_TESTS_FUZZ_PARSE_CASE_H
#define HEADRACE_TESTS_FUZZ_PARSE_CASE_H

#include "common/mem.h"
#include "worker/parse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// CASE_MODEL is a model of this OUTPUT with these options; one without 'batch.size' has plain prompts.
#define CASE_MODEL(output, options)                                                                \
    "CREATE MODEL m INPUT (text STRING) OUTPUT (" output ") WITH ('provider' = 'openai', "         \
    "'endpoint' = 'http://127.0.0.1/', 'model' = 'x'" options ");"

#define CASE_MODELS 8 // most models of a target

static inline const struct model *case_model(const char *const *models, size_t i) {
    static struct statements lists[CASE_MODELS];
    assert(i < CASE_MODELS);
    if (lists[i].n == 0) {
        struct error why;
        int rc = model_sql_parse(slice_of(models[i]), "fuzz", &lists[i], &why);
        assert(rc == 0);
    }
    return lists[i].items[0].model;
}

// case_fuzz is a whole target of n models.
static inline int case_fuzz(const char *const *models, size_t n, const uint8_t *data, size_t size) {
    static struct parser *parser;
    static struct parsed parsed;
    static const uint64_t slots[] = {7, 6, 5, 4};
    if (size == 0) {
        return 0;
    }
    if (parser == NULL) {
        parser = parser_new();
        buf_init(&parsed.items, 1 << 20);
    }
    const struct model *model = case_model(models, (data[0] & 0x3f) % n);
    bool batched = model->options.batch_size > 1;
    struct question question = {
        .model = model,
        .batched = batched,
        .cut = (data[0] & 0x40) != 0,
        .slots = slots,
        .count = batched ? 4 : 1,
    };
    char *text = mem_alloc(size); // its own block, so that ASan sees its end
    memcpy(text, data + 1, size - 1);
    parse_answer(parser, &question, (struct slice){.p = text, .n = size - 1}, &parsed);
    assert(parsed.n_items <= question.count);
    assert(parsed.outcome == OUTCOME_OK || parsed.detail[0] != '\0');
    free(text);
    return 0;
}

#define CASE_TARGET(models)                                                                        \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {                                 \
        return case_fuzz(models, sizeof(models) / sizeof((models)[0]), data, size);                \
    }

#endif
