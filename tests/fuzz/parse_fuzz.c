// The text of a model that answers. The first byte picks how it is read; the rest is the text. (The HTTP
// answer around it: answer_fuzz.c.)
#include "common/mem.h"
#include "worker/parse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define MODEL(output, options)                                                                     \
    "CREATE MODEL m INPUT (text STRING) OUTPUT (" output ") WITH ('provider' = 'openai', "         \
    "'endpoint' = 'http://127.0.0.1/', 'model' = 'x'" options ");"

static const char *const models[] = {
    MODEL("sentiment STRING", ", 'batch.size' = '4'"),
    MODEL("a INT, b DOUBLE NOT NULL, c BOOLEAN",
          ", 'batch.size' = '4', 'response.path' = '$..items[*]', 'response.best.effort' = 'on'"),
    MODEL("sentiment STRING", ""),
    MODEL("a STRING, b INT", ", 'batch.size' = '4', 'response.format' = 'xml'"),
    MODEL("a STRING", ", 'batch.size' = '4', 'response.format' = 'xml', 'response.path' = '//*[a]'"),
    MODEL("a STRING, b INT", ", 'batch.size' = '4', 'response.format' = 'delimited'"),
    MODEL("a STRING", ", 'batch.size' = '4', 'response.format' = 'delimited', 'response.delimiter' "
                      "= '\\t', 'response.index.field' = '1', 'response.value.field' = '2'"),
    MODEL("a STRING", ", 'batch.size' = '4', 'response.format' = 'regex', 'batch.prompt.template' = "
                      "'x', 'response.pattern' = '(?<index>\\d+)[=:](?<a>\\w*)'"),
    MODEL("d DECIMAL(6, 2), t TIMESTAMP(3), e DATE, b BYTES, a ARRAY<INT NOT NULL>, m MAP<STRING, "
          "ROW<x TIMESTAMP_LTZ>>", ", 'batch.size' = '4'"),
    MODEL("a ARRAY<STRING>, r ROW<x INT, y ARRAY<DATE>>", ", 'batch.size' = '4', 'response.format' "
                                                        "= 'xml'"),
};
#define N_MODELS (sizeof(models) / sizeof(models[0]))

static void fuzz_text(unsigned how, struct slice text) {
    static struct statements lists[N_MODELS];
    static struct parser *parser;
    static struct parsed parsed;
    static const uint64_t slots[] = {7, 6, 5, 4};
    size_t i = (how & 0x3f) % N_MODELS;
    if (parser == NULL) {
        parser = parser_new();
        buf_init(&parsed.items, 1 << 20);
    }
    if (lists[i].n == 0) {
        struct error why;
        int rc = model_sql_parse(slice_of(models[i]), "fuzz", &lists[i], &why);
        assert(rc == 0);
    }
    bool batched = i != 2;
    struct question question = {
        .model = lists[i].items[0].model,
        .batched = batched,
        .cut = (how & 0x40) != 0,
        .slots = slots,
        .count = batched ? 4 : 1,
    };
    parse_answer(parser, &question, text, &parsed);
    assert(parsed.n_items <= question.count);
    assert(parsed.outcome == OUTCOME_OK || parsed.detail[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    fuzz_text(data[0], (struct slice){.p = (const char *)data + 1, .n = size - 1});
    return 0;
}
