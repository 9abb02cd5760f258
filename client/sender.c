// The acked dialogue of who sends records in.
//
// Invariant: chunks hold exactly the rows acked + 1 .. added, in order; what was sent on this
// connection is 1 .. sent, and sent never passes limit.
#include "client/sender.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#define CHUNK_ROWS 512            // rows of an APPEND
#define CHUNK_BYTES (256 * 1024)  // and bytes, at which it is closed
#define CHUNK_MAX (64 * 1024 * 1024)
#define KEPT_MAX (64 * 1024 * 1024) // of rows that are not acked
#define AGAIN_MS 1000             // OPEN is said again when nobody answers

struct chunk {
    uint64_t first, count; // sequences
    struct buf rows;       // JSON Lines
    struct chunk *prev, *next;
};

struct sender {
    struct sender_config config;
    struct sender_handlers handlers;
    char *name, *model, *id_column, *key_column;
    uint64_t incarnation; // larger at each start
    struct buf options;
    struct dialogue *dialogue;
    struct loop_timer *again;
    struct chunk *chunks;
    size_t n_bytes;       // of their rows
    bool is_open, is_refused, is_ended;
    bool was_open;      // at least once
    bool must_flush;    // FLUSH is to follow the last row
    uint64_t accepted;  // of an earlier life: from the first OPENED
    uint64_t added, sent, acked, limit;
};

static void chunk_free(struct sender *sender, struct chunk *chunk) {
    DL_DELETE(sender->chunks, chunk);
    sender->n_bytes -= chunk->rows.n;
    buf_free(&chunk->rows);
    free(chunk);
}

static void send_message(struct sender *sender, const struct message *message) {
    int status = dialogue_send(sender->dialogue, message);
    assert(status == 0); // chunks are far smaller than a frame
}

static void say_open(void *arg) {
    struct sender *sender = arg;
    struct message open = {
        .kind = MESSAGE_OPEN,
        .open = {
            .producer = slice_of(sender->name),
            .model = slice_of(sender->model),
            .options = buf_slice(&sender->options),
            .id_column = slice_of(sender->id_column),
            .key_column = slice_of(sender->key_column),
            .incarnation = sender->incarnation,
        },
    };
    send_message(sender, &open);
    loop_timer_start(sender->again, AGAIN_MS, 0);
}

static void on_up(void *arg) {
    struct sender *sender = arg;
    sender->is_open = false;
    if (!sender->is_refused) {
        say_open(sender);
    }
}

// skip_rows returns the rows after the first n.
static struct slice skip_rows(struct slice rows, uint64_t n) {
    for (; n > 0; n--) {
        const char *end = memchr(rows.p, '\n', rows.n);
        assert(end != NULL);
        rows = slice_sub(rows, (size_t)(end - rows.p) + 1, rows.n);
    }
    return rows;
}

// send_part sends what of a chunk is not sent and within the limit.
static void send_part(struct sender *sender, const struct chunk *chunk) {
    uint64_t first = sender->sent + 1;
    uint64_t last = chunk->first + chunk->count - 1;
    last = last < sender->limit ? last : sender->limit;
    struct slice from = skip_rows(buf_slice(&chunk->rows), first - chunk->first);
    struct slice after = skip_rows(from, last - first + 1);
    struct message append = {
        .kind = MESSAGE_APPEND,
        .append = {
            .first_seq = first,
            .count = last - first + 1,
            .records = {from.p, (size_t)(from.n - after.n)},
        },
    };
    send_message(sender, &append);
    sender->sent = last;
}

void sender_push(struct sender *sender) {
    if (!sender->is_open) {
        return;
    }
    struct chunk *chunk;
    DL_FOREACH(sender->chunks, chunk) {
        if (sender->sent >= sender->limit) {
            return;
        }
        if (chunk->first + chunk->count - 1 > sender->sent) {
            send_part(sender, chunk);
        }
    }
    if (sender->must_flush && sender->sent >= sender->added) {
        sender->must_flush = false;
        struct message flush = {.kind = MESSAGE_FLUSH};
        send_message(sender, &flush);
    }
}

static void note_acked(struct sender *sender, uint64_t upto, uint64_t limit) {
    sender->limit = limit;
    if (upto > sender->acked) {
        sender->acked = upto;
    }
    while (sender->chunks != NULL &&
           sender->chunks->first + sender->chunks->count - 1 <= sender->acked) {
        chunk_free(sender, sender->chunks);
    }
}

static void on_opened(struct sender *sender, const struct message_opened *opened) {
    loop_timer_stop(sender->again);
    if (!sender->was_open) {
        sender->was_open = true;
        sender->accepted = opened->upto;
    } else if (opened->upto < sender->acked) {
        // ACKED rows were forgotten, and they are no longer here to be sent again.
        char text[128];
        snprintf(text, sizeof(text), "the coordinator knows rows up to %llu, but acked %llu",
                 (unsigned long long)opened->upto, (unsigned long long)sender->acked);
        sender->is_refused = true;
        sender->handlers.on_refused(sender->handlers.arg, SLICE_LIT("lost"), slice_of(text));
        return;
    }
    sender->is_open = true;
    sender->sent = opened->upto;
    note_acked(sender, opened->upto, opened->limit);
    sender->must_flush = sender->is_ended;
    sender_push(sender);
    sender->handlers.on_room(sender->handlers.arg);
}

// on_refused sorts out what can be cured by saying OPEN again from what cannot.
static void on_refused(struct sender *sender, const struct message_refused *refused) {
    static const char *const curable[] = {"gap", "not-open", "over-limit", "stopping", "starting"};
    for (size_t i = 0; i < sizeof(curable) / sizeof(*curable); i++) {
        if (slice_is(refused->code, curable[i])) {
            log_info("sender.again", "code=%s", curable[i]);
            sender->is_open = false;
            loop_timer_start(sender->again, 100, 0);
            return;
        }
    }
    sender->is_refused = true;
    sender->is_open = false;
    loop_timer_stop(sender->again);
    sender->handlers.on_refused(sender->handlers.arg, refused->code, refused->message);
}

static void on_message(void *arg, const struct message *message) {
    struct sender *sender = arg;
    switch (message->kind) {
    case MESSAGE_OPENED:
        on_opened(sender, &message->opened);
        break;
    case MESSAGE_ACKED:
        if (sender->is_open) {
            note_acked(sender, message->acked.upto, message->acked.limit);
            sender_push(sender);
            sender->handlers.on_room(sender->handlers.arg);
        }
        break;
    case MESSAGE_REFUSED:
        on_refused(sender, &message->refused);
        break;
    default:
        log_warn("sender.unexpected", "kind=%s", message_name(message->kind));
        break;
    }
}

struct sender *sender_new(struct loop *loop, void *zmq, const struct sender_config *config,
                              const struct sender_handlers *handlers, struct error *why) {
    struct sender *sender = mem_zalloc(sizeof(*sender));
    sender->handlers = *handlers;
    sender->name = mem_dup_str(config->name);
    sender->incarnation = (uint64_t)clock_unix_ms() << 16 | ((uint64_t)getpid() & 0xFFFF);
    sender->model = mem_dup_str(config->model);
    sender->id_column = mem_dup_str(config->id_column);
    sender->key_column = mem_dup_str(config->key_column);
    buf_init(&sender->options, 64 * 1024);
    sender->again = loop_add_timer(loop, say_open, sender);
    struct dialogue_handlers on = {.on_up = on_up, .on_message = on_message, .arg = sender};
    if (buf_add_slice(&sender->options, config->options) < 0) {
        error_set(why, -EMSGSIZE, "the options of one submission are longer than 64 KiB");
    } else {
        sender->dialogue = dialogue_new(loop, zmq, config->address, &on, why);
    }
    if (sender->dialogue == NULL) {
        sender_free(sender);
        return NULL;
    }
    return sender;
}

void sender_free(struct sender *sender) {
    if (sender == NULL) {
        return;
    }
    loop_timer_stop(sender->again);
    dialogue_free(sender->dialogue);
    while (sender->chunks != NULL) {
        chunk_free(sender, sender->chunks);
    }
    buf_free(&sender->options);
    free(sender->name);
    free(sender->model);
    free(sender->id_column);
    free(sender->key_column);
    free(sender);
}

uint64_t sender_room(const struct sender *sender) {
    bool has_room = sender->is_open && sender->limit > sender->added && sender->n_bytes < KEPT_MAX;
    return has_room ? sender->limit - sender->added : 0;
}

static struct chunk *open_chunk(struct sender *sender) {
    struct chunk *last = sender->chunks != NULL ? sender->chunks->prev : NULL;
    // A chunk of which something was sent is closed: parts of it may be on the wire.
    if (last != NULL && last->count < CHUNK_ROWS && last->rows.n < CHUNK_BYTES &&
        last->first > sender->sent) {
        return last;
    }
    struct chunk *chunk = mem_zalloc(sizeof(*chunk));
    chunk->first = sender->added + 1;
    buf_init(&chunk->rows, CHUNK_MAX);
    DL_APPEND(sender->chunks, chunk);
    return chunk;
}

uint64_t sender_add(struct sender *sender, struct slice row) {
    assert(sender_room(sender) > 0);
    if (sender->added < sender->acked) {
        return ++sender->added;
    }
    struct chunk *chunk = open_chunk(sender);
    int status = buf_add_slice(&chunk->rows, row);
    status = status ? status : buf_add_byte(&chunk->rows, '\n');
    assert(status == 0); // a row is at most 16 MiB, a chunk is closed at 256 KiB
    chunk->count++;
    sender->n_bytes += row.n + 1;
    return ++sender->added;
}

void sender_end(struct sender *sender) {
    sender->is_ended = true;
    sender->must_flush = true;
    sender_push(sender);
}

uint64_t sender_added(const struct sender *sender) {
    return sender->added;
}

uint64_t sender_acked(const struct sender *sender) {
    return sender->acked;
}

uint64_t sender_accepted(const struct sender *sender) {
    return sender->accepted;
}

bool sender_is_open(const struct sender *sender) {
    return sender->is_open;
}
