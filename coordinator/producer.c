// How far a producer's sequences are accepted and durable. Invariant: acked <= accepted <= acked +
// window; bit (seq mod window) of `durable` tells for acked < seq <= accepted whether that record is
// in Redis. Records become durable in any order, because they are spread over partitions.
#include "coordinator/producer.h"
#include "common/mem.h"

#include <stdlib.h>

struct producer *producer_get(struct core *core, struct slice name) {
    struct producer *p;
    HASH_FIND(hh, core->producers, name.p, name.n, p);
    if (p == NULL) {
        p = mem_zalloc(sizeof(*p));
        p->name = slice_dup(name);
        p->model_name = mem_dup_str("");
        p->id_column = mem_dup_str("");
        p->key_column = mem_dup_str("");
        p->window = PRODUCER_WINDOW;
        p->recovered = mem_zalloc(core->config->n_partitions * sizeof(*p->recovered));
        HASH_ADD_KEYPTR(hh, core->producers, p->name, name.n, p);
    }
    return p;
}

void producer_free(struct core *core, struct producer *p) {
    HASH_DEL(core->producers, p);
    free(p->name);
    free(p->model_name);
    free((char *)p->options.p);
    free(p->id_column);
    free(p->key_column);
    free(p->durable);
    free(p->recovered);
    free(p);
}

void producer_idle(struct producer *p) {
    if (p->route.n == 0 && p->acked == p->accepted) {
        free(p->durable);
        p->durable = NULL;
    }
}

static uint64_t *word_of(struct producer *p, uint64_t seq, uint64_t *bit) {
    if (p->durable == NULL) {
        p->durable = mem_zalloc(p->window / 8);
    }
    uint64_t i = seq & (p->window - 1);
    *bit = UINT64_C(1) << (i % 64);
    return &p->durable[i / 64];
}

void producer_durable(struct producer *p, uint64_t seq) {
    if (seq <= p->acked || seq > p->accepted) {
        return; // known already
    }
    uint64_t bit;
    uint64_t *word = word_of(p, seq, &bit);
    *word |= bit;
    for (;;) {
        word = word_of(p, p->acked + 1, &bit);
        if (p->acked == p->accepted || (*word & bit) == 0) {
            return;
        }
        *word &= ~bit;
        p->acked++;
    }
}

void producer_start(struct core *core, struct producer *p) {
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        least = p->recovered[i] < least ? p->recovered[i] : least;
    }
    if (least > p->acked) {
        p->acked = least; // acked held the hint
    }
    p->accepted = p->acked;
}
