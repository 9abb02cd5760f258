// What the targets batch_*_fuzz.c share: a step of each provider's batch API.
#ifndef HEADRACE_TESTS_FUZZ_BATCH_CASE_H
#define HEADRACE_TESTS_FUZZ_BATCH_CASE_H

#include "common/mem.h"
#include "common/secrets.h"
#include "worker/batch.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CASE_PROVIDERS 5

// case_held makes the model of one provider, once.
static inline struct held *case_held(size_t i) {
    static const char *const with[CASE_PROVIDERS] = {
        "'provider' = 'openai'",
        ("'provider' = 'azure-openai', 'endpoint' = "
         "'https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21'"),
        "'provider' = 'anthropic', 'max.tokens' = '9'",
        "'provider' = 'gemini'",
        "'provider' = 'gemini', 'task' = 'embedding'",
    };
    static struct held_cache models;
    static struct held *held[CASE_PROVIDERS];
    if (models.most == 0) {
        struct error why = {0};
        setenv("FUZZ_KEY", "a-key", 1);
        held_init(&models, secrets_load(NULL, &why), CASE_PROVIDERS);
    }
    if (held[i] == NULL) {
        char sql[512];
        struct error why = {0};
        snprintf(sql, sizeof(sql), "CREATE MODEL m INPUT (t STRING) OUTPUT (s %s) WITH (%s, 'model' = 'x', 'api_key' = '${FUZZ_KEY}');",
                 strstr(with[i], "embedding") != NULL ? "ARRAY<FLOAT>" : "STRING", with[i]);
        held_add(&models, SLICE_LIT("m"), (uint32_t)i + 1, slice_of(sql));
        int rc = held_take(&models, SLICE_LIT("m"), (uint32_t)i + 1, SLICE_NONE, &held[i], &why);
        assert(rc == 0);
    }
    return held[i];
}

// case_step makes a step of it; batch_step_free frees it.
static inline const struct batch_provider *case_step(size_t i, enum batch_order order, struct batch_step *step) {
    const struct batch_api *facts;
    struct held *held = case_held(i);
    batch_step_init(step, held, order);
    step->name = SLICE_LIT("hr-job-7");
    step->file = SLICE_LIT("files/abc");
    step->id = SLICE_LIT("batches/b1");
    step->n_lines = 3;
    step->since_unix_ms = 1764000000000;
    int rc = batch_place_of(held, &step->place);
    assert(rc == 0);
    return batch_provider_of(held->model, &facts);
}

// case_copy puts a stranger's bytes into a block of their own, so that ASan sees their end.
static inline struct slice case_copy(const uint8_t *data, size_t size) {
    char *p = mem_alloc(size + 1);
    memcpy(p, data, size);
    return (struct slice){.p = p, .n = size};
}

#endif
