// The acked dialogue of who takes results out.
//
// Invariant: seen of a partition is the last result handed on; it only grows, by one each time, but
// for the first result, where the coordinator says where this consumer stands.
#include "client/taker.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AGAIN_MS 1000       // SUBSCRIBE is said again when nobody answers
#define PARTITIONS_MAX 4096 // bound of the wire

struct position {
    uint64_t seen;   // 0: nothing yet
    uint64_t used;   // noted by taker_ack
    uint64_t got;    // last result that came since SUBSCRIBE: only that may be acked
    uint64_t acked;  // said since SUBSCRIBE
};

struct taker {
    struct taker_config config;
    struct taker_handlers handlers;
    char *name;
    uint64_t incarnation;       // larger at each start
    struct dialogue *dialogue;
    struct loop_timer *again;
    struct position *positions; // n_positions, by partition
    size_t n_positions;
    bool is_refused, is_subscribed;
    uint64_t n_dropped;
};

static void send_message(struct taker *taker, const struct message *message) {
    int status = dialogue_send(taker->dialogue, message);
    assert(status == 0); // a few dozen bytes
}

static void say_subscribe(void *arg) {
    struct taker *taker = arg;
    for (size_t i = 0; i < taker->n_positions; i++) {
        // Acks on their way may be lost; results not acked come again, and so do their acks.
        taker->positions[i].acked = taker->positions[i].got = 0;
    }
    struct message subscribe = {
        .kind = MESSAGE_SUBSCRIBE,
        .subscribe = {
            .consumer = slice_of(taker->name),
            .credit = taker->config.credit,
            .format = SLICE_LIT("json"),
            .meta = taker->config.meta,
            .incarnation = taker->incarnation,
        },
    };
    send_message(taker, &subscribe);
    loop_timer_start(taker->again, AGAIN_MS, 0);
}

static void on_up(void *arg) {
    struct taker *taker = arg;
    if (!taker->is_refused) {
        say_subscribe(taker);
    }
}

static struct position *position_of(struct taker *taker, uint64_t partition) {
    if (partition >= PARTITIONS_MAX) {
        return NULL;
    }
    if (partition >= taker->n_positions) {
        size_t n = (size_t)partition + 1;
        taker->positions = mem_realloc(taker->positions, n * sizeof(*taker->positions));
        memset(taker->positions + taker->n_positions, 0,
               (n - taker->n_positions) * sizeof(*taker->positions));
        taker->n_positions = n;
    }
    return &taker->positions[partition];
}

static void refuse(struct taker *taker, const char *code, const char *message) {
    taker->is_refused = true;
    loop_timer_stop(taker->again);
    taker->handlers.on_refused(taker->handlers.arg, slice_of(code), slice_of(message));
}

// hand_on hands on the results of a message that are new. Returns how many lines there were.
static uint64_t hand_on(struct taker *taker, const struct message_results *results) {
    uint64_t n = 0;
    struct slice rest = results->results;
    while (rest.n > 0 && n < results->count) {
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t length = end != NULL ? (size_t)(end - rest.p) : rest.n;
        uint64_t oseq = results->first_oseq + n++;
        // Looked up each time: a handler may have made the table grow.
        struct position *position = &taker->positions[results->partition];
        if (oseq <= position->seen) {
            taker->n_dropped++;
        } else {
            position->seen = oseq;
            taker->handlers.on_result(taker->handlers.arg, (uint32_t)results->partition, oseq,
                                         slice_sub(rest, 0, length));
        }
        rest = slice_sub(rest, length + (end != NULL), rest.n);
    }
    return n;
}

static void on_results(struct taker *taker, const struct message_results *results) {
    char text[192];
    struct position *position = position_of(taker, results->partition);
    if (position == NULL || taker->is_refused) {
        return;
    }
    if (position->seen > 0 && results->first_oseq > position->seen + 1) {
        snprintf(text, sizeof(text), "partition %llu: got result %llu after %llu",
                 (unsigned long long)results->partition, (unsigned long long)results->first_oseq,
                 (unsigned long long)position->seen);
        refuse(taker, "gap", text);
        return;
    }
    uint64_t n = hand_on(taker, results);
    taker->positions[results->partition].got = results->first_oseq + n - 1;
    if (n != results->count) {
        snprintf(text, sizeof(text), "partition %llu: got %llu results, want %llu",
                 (unsigned long long)results->partition, (unsigned long long)n,
                 (unsigned long long)results->count);
        refuse(taker, "bad-message", text);
    }
}

static void on_refused(struct taker *taker, const struct message_refused *refused) {
    static const char *const curable[] = {"not-subscribed", "bad-ack", "stopping", "starting"};
    for (size_t i = 0; i < sizeof(curable) / sizeof(*curable); i++) {
        if (slice_is(refused->code, curable[i])) {
            loop_timer_start(taker->again, 100, 0);
            return;
        }
    }
    taker->is_refused = true;
    loop_timer_stop(taker->again);
    taker->handlers.on_refused(taker->handlers.arg, refused->code, refused->message);
}

static void on_message(void *arg, const struct message *message) {
    struct taker *taker = arg;
    switch (message->kind) {
    case MESSAGE_SUBSCRIBED:
        loop_timer_stop(taker->again);
        taker->is_subscribed = true;
        taker_push(taker);
        break;
    case MESSAGE_RESULTS:
        on_results(taker, &message->results);
        break;
    case MESSAGE_REFUSED:
        on_refused(taker, &message->refused);
        break;
    default:
        log_warn("taker.unexpected", "kind=%s", message_name(message->kind));
        break;
    }
}

struct taker *taker_new(struct loop *loop, void *zmq, const struct taker_config *config,
                              const struct taker_handlers *handlers, struct error *why) {
    struct taker *taker = mem_zalloc(sizeof(*taker));
    taker->config = *config;
    taker->handlers = *handlers;
    taker->name = mem_dup_str(config->name);
    taker->incarnation = (uint64_t)clock_unix_ms() << 16 | ((uint64_t)getpid() & 0xFFFF);
    taker->again = loop_add_timer(loop, say_subscribe, taker);
    struct dialogue_handlers on = {.on_up = on_up, .on_message = on_message, .arg = taker};
    taker->dialogue = dialogue_new(loop, zmq, config->address, &on, why);
    if (taker->dialogue == NULL) {
        taker_free(taker);
        return NULL;
    }
    return taker;
}

void taker_free(struct taker *taker) {
    if (taker != NULL) {
        loop_timer_stop(taker->again);
        dialogue_free(taker->dialogue);
        free(taker->positions);
        free(taker->name);
        free(taker);
    }
}

void taker_ack(struct taker *taker, uint32_t partition, uint64_t upto) {
    struct position *position = position_of(taker, partition);
    if (position != NULL && upto > position->used) {
        position->used = upto;
    }
}

void taker_push(struct taker *taker) {
    if (!dialogue_is_up(taker->dialogue)) {
        return;
    }
    for (size_t i = 0; i < taker->n_positions; i++) {
        struct position *position = &taker->positions[i];
        uint64_t upto = position->used < position->got ? position->used : position->got;
        if (upto > position->acked) {
            struct message ack = {.kind = MESSAGE_ACK, .ack = {.partition = i, .upto = upto}};
            send_message(taker, &ack);
            position->acked = upto;
        }
    }
}

bool taker_was_subscribed(const struct taker *taker) {
    return taker->is_subscribed;
}

uint64_t taker_dropped(const struct taker *taker) {
    return taker->n_dropped;
}
