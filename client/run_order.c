// Rows on their way: a list in input order and a list of results per partition.
//
// Invariant: a held row is in the input list until it is written; an ack entry is in its partition's
// list until it and all before it are written. Called by run.c.
#include "client/run_order.h"

#include "common/mem.h"

#include <assert.h>
#include <uthash.h>
#include <utlist.h>

// Sequences are consecutive, so their last bits tell rows apart without a hash function; in a
// window of so many rows each has a bucket of its own.
#define N_BUCKETS 65536

// A result that arrived and is not acked yet.
struct ack_entry {
    uint64_t oseq;
    uint32_t partition;
    bool is_written;
    struct ack_entry *prev, *next;
};

struct kept {
    uint64_t seq;
    struct ack_entry *entry;
    struct slice json; // owned
    UT_hash_handle hh; // by seq
};

struct run_order {
    bool ordered;
    struct run_order_handlers handlers;
    struct held *list;    // input order
    struct held **by_seq; // N_BUCKETS chains of those that are not done
    struct kept *kept;    // results whose rows were not read yet
    struct ack_entry **partitions;
    size_t n_partitions;
    size_t n_held, n_bytes;
};

struct run_order *run_order_new(bool ordered, const struct run_order_handlers *handlers) {
    struct run_order *order = mem_zalloc(sizeof(*order));
    order->ordered = ordered;
    order->handlers = *handlers;
    order->by_seq = mem_zalloc(N_BUCKETS * sizeof(*order->by_seq));
    return order;
}

static void held_free(struct held *held) {
    free(held->text);
    free(held->why);
    free(held->out);
    free(held);
}

static void kept_free(struct kept *kept) {
    free((char *)kept->json.p);
    free(kept);
}

void run_order_free(struct run_order *order) {
    if (order == NULL) {
        return;
    }
    struct kept *kept, *kept_next;
    HASH_ITER(hh, order->kept, kept, kept_next) {
        HASH_DEL(order->kept, kept);
        kept_free(kept);
    }
    struct held *held, *next;
    DL_FOREACH_SAFE(order->list, held, next) {
        held_free(held);
    }
    for (size_t i = 0; i < order->n_partitions; i++) {
        struct ack_entry *entry, *after;
        DL_FOREACH_SAFE(order->partitions[i], entry, after) {
            free(entry);
        }
    }
    free(order->partitions);
    free(order->by_seq);
    free(order);
}

// ack_written acks what is written at the front of a partition's results.
static void ack_written(struct run_order *order, uint32_t partition) {
    uint64_t upto = 0;
    struct ack_entry **list = &order->partitions[partition];
    while (*list != NULL && (*list)->is_written) {
        struct ack_entry *entry = *list;
        upto = entry->oseq;
        DL_DELETE(*list, entry);
        free(entry);
    }
    if (upto > 0) {
        order->handlers.ack(order->handlers.arg, partition, upto);
    }
}

static void write_held(struct run_order *order, struct held *held) {
    order->handlers.write(order->handlers.arg, held);
    DL_DELETE(order->list, held);
    order->n_held--;
    order->n_bytes -= held->n_text + held->n_out;
    if (held->ack != NULL) {
        uint32_t partition = held->ack->partition;
        held->ack->is_written = true;
        ack_written(order, partition);
    }
    held_free(held);
}

static void write_ready(struct run_order *order) {
    while (order->list != NULL && order->list->out != NULL) {
        write_held(order, order->list);
    }
}

// place_of returns the link to the row of a sequence, or to NULL at the end of its chain.
static struct held **place_of(struct run_order *order, uint64_t seq) {
    struct held **at = &order->by_seq[seq % N_BUCKETS];
    while (*at != NULL && (*at)->seq != seq) {
        at = &(*at)->same;
    }
    return at;
}

void run_order_add(struct run_order *order, struct held **taken) {
    struct held *held = *taken;
    *taken = NULL;
    DL_APPEND(order->list, held);
    order->n_held++;
    order->n_bytes += held->n_text + held->n_out;
    if (held->out == NULL) {
        assert(held->seq > 0);
        struct held **at = place_of(order, held->seq);
        assert(*at == NULL);
        *at = held;
        held->same = NULL;
    } else if (order->ordered) {
        write_ready(order);
    } else {
        write_held(order, held);
    }
}

struct held *run_order_find(struct run_order *order, uint64_t seq) {
    return *place_of(order, seq);
}

static struct ack_entry *add_entry(struct run_order *order, uint32_t partition, uint64_t oseq) {
    if (partition >= order->n_partitions) {
        size_t n = partition + 1;
        order->partitions = mem_realloc(order->partitions, n * sizeof(*order->partitions));
        while (order->n_partitions < n) {
            order->partitions[order->n_partitions++] = NULL;
        }
    }
    struct ack_entry *entry = mem_zalloc(sizeof(*entry));
    entry->oseq = oseq;
    entry->partition = partition;
    DL_APPEND(order->partitions[partition], entry);
    return entry;
}

static void done(struct run_order *order, struct held *held, struct ack_entry *entry) {
    if (held == NULL) {
        entry->is_written = true;
        ack_written(order, entry->partition);
        return;
    }
    assert(held->out != NULL && held->ack == NULL);
    struct held **at = place_of(order, held->seq);
    assert(*at == held);
    *at = held->same;
    held->ack = entry;
    order->n_bytes += held->n_out;
    order->n_bytes -= held->n_text;
    free(held->text);
    held->text = NULL;
    held->n_text = 0;
    if (!order->ordered) {
        write_held(order, held);
    } else {
        write_ready(order);
    }
}

void run_order_done(struct run_order *order, struct held *held, uint32_t partition, uint64_t oseq) {
    done(order, held, add_entry(order, partition, oseq));
}

void run_order_keep(struct run_order *order, uint64_t seq, struct slice json, uint32_t partition,
                    uint64_t oseq) {
    struct kept *kept = mem_zalloc(sizeof(*kept));
    kept->seq = seq;
    kept->entry = add_entry(order, partition, oseq);
    kept->json = (struct slice){.p = slice_dup(json), .n = json.n};
    HASH_ADD(hh, order->kept, seq, sizeof(kept->seq), kept);
}

struct kept *run_order_kept(struct run_order *order, uint64_t seq) {
    struct kept *kept = NULL;
    HASH_FIND(hh, order->kept, &seq, sizeof(seq), kept);
    return kept;
}

struct slice kept_json(const struct kept *kept) {
    return kept->json;
}

void run_order_done_kept(struct run_order *order, struct held *held, struct kept **taken) {
    struct kept *kept = *taken;
    *taken = NULL;
    HASH_DEL(order->kept, kept);
    done(order, held, kept->entry);
    kept_free(kept);
}

void run_order_flush(struct run_order *order) {
    struct held *held, *next;
    DL_FOREACH_SAFE(order->list, held, next) {
        if (held->out != NULL) {
            write_held(order, held);
        }
    }
}

size_t run_order_held(const struct run_order *order) {
    return order->n_held;
}

size_t run_order_held_bytes(const struct run_order *order) {
    return order->n_bytes;
}
