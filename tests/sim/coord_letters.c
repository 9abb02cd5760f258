// What a coordinator's letters.c asks of its store. Invariant: as there: each reading is answered once,
// with the connection's end at the latest. Called by coordinator/letters.c and coord.
#include "tests/sim/sim.h"
#include "common/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

// number_of reads "-", "+", "7-0" or "(7-0" as XRANGE does; beyond: what "(" adds.
static uint64_t number_of(struct slice text, uint64_t beyond) {
    char copy[32];
    slice_copy(text, copy, sizeof(copy));
    return copy[0] == '-'   ? 0
           : copy[0] == '+' ? UINT64_MAX
           : copy[0] == '(' ? strtoull(copy + 1, NULL, 10) + beyond
                            : strtoull(copy, NULL, 10);
}

// store_read_letters stands in for that of coordinator/store.c; the store of a coordinator is itself.
void store_read_letters(struct store *store, uint32_t partition, struct slice from, struct slice to, size_t n,
                        store_letters_fn *done, void *arg) {
    struct coord *c = (struct coord *)store;
    if (!c->conn.on) {
        done(arg, false, NULL, 0);
        return;
    }
    c->letters_done = done;
    c->letters_arg = arg;
    coord_ask(c->sim, c, (struct redis_request){.op = REDIS_LETTERS, .part = partition, .n_most = n,
                                                .from = number_of(from, 1),
                                                .upto = number_of(to, (uint64_t)-1)});
}

void coord_letters_read(struct coord *c, const struct redis_request *r) {
    store_letters_fn *done = c->letters_done;
    size_t n = r != NULL ? r->n_entries : 0;
    if (done == NULL) {
        return;
    }
    c->letters_done = NULL;
    struct store_letter *letters = mem_zalloc((n + 1) * sizeof(*letters));
    char(*ids)[24] = mem_zalloc((n + 1) * sizeof(*ids));
    for (size_t i = 0; i < n; i++) {
        snprintf(ids[i], sizeof(ids[i]), "%" PRIu64 "-0", r->entries[i].last_oseq);
        letters[i] = (struct store_letter){.id = slice_of(ids[i]), .blob = r->entries[i].blob};
    }
    done(c->letters_arg, r != NULL, letters, n);
    free(letters);
    free(ids);
}
