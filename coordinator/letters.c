// What people ask about dead letters.
//
//          letters_ask      letters are read: listed           (answered)
//   IDLE ─────────────▶ READING ────────────────────────────────▶ IDLE
//                          │ redriven or dropped    letters_written  ▲
//                          └──────────────────▶ WRITING ─────────────┘
// Invariant: a letter that was read is not read again before the write that takes it out is durable.
// Called by main.
#include "coordinator/letters.h"

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "coordinator/letter.h"
#include "coordinator/redrive.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define READ_MOST 16 // letters of one question: a record has up to 16 MB
#define ANSWER_MAX (16 * 1024 * 1024)

enum action { LIST, SHOW, REDRIVE, DROP, N_ACTIONS };
static const char *const actions[N_ACTIONS] = {
    [LIST] = "list", [SHOW] = "show", [REDRIVE] = "redrive", [DROP] = "drop"};

enum state { IDLE, READING, WRITING };

struct letters {
    struct letters_config config;
    enum state state;
    // Of the question:
    char *route;
    size_t n_route;
    enum action action;
    uint32_t partition;
    char *model;        // letters of other models are passed over; ""
    uint64_t cseq;      // WRITING: waits for this
    struct buf json;    // the answer
    size_t n_listed, n_done;
};

struct letters *letters_new(const struct letters_config *config) {
    struct letters *letters = mem_zalloc(sizeof(*letters));
    letters->config = *config;
    buf_init(&letters->json, ANSWER_MAX);
    return letters;
}

void letters_free(struct letters *letters) {
    if (letters != NULL) {
        free(letters->route);
        free(letters->model);
        buf_free(&letters->json);
        free(letters);
    }
}

static void send_to(struct letters *l, struct slice route, const struct message *message) {
    // A peer that has gone needs no answer.
    (void)!l->config.io->send(l->config.io->arg, route, message);
}

static void refuse(struct letters *l, struct slice route, const char *code, const char *sentence) {
    struct message refused = {
        .kind = MESSAGE_REFUSED, .refused = {.code = slice_of(code), .message = slice_of(sentence)}};
    send_to(l, route, &refused);
}

static void answer(struct letters *l) {
    struct message status = {.kind = MESSAGE_STATUS, .status = {.json = buf_slice(&l->json)}};
    send_to(l, (struct slice){l->route, l->n_route}, &status);
    l->state = IDLE;
}

static int list_letter(struct letters *l, const struct store_letter *at, const struct letter *letter) {
    const struct core_io *io = l->config.io;
    size_t before = l->json.n;
    int rc = l->n_listed > 0 ? buf_add_byte(&l->json, ',') : 0;
    rc = rc ? rc : letter_json(letter, l->partition, at->id,
                               io->model(io->arg, letter->model, letter->revision),
                               l->action == SHOW, &l->json);
    if (rc != 0) {
        l->json.n = before;
        return rc;
    }
    l->n_listed++;
    return 0;
}

// use_letter does what was asked for with one letter. Returns 0 or a negative errno with why.
static int use_letter(struct letters *l, const struct store_letter *at, struct error *why) {
    struct letter letter;
    bool is_sound = letter_unpack(at->blob, &letter) == 0;
    if (*l->model != '\0' && (!is_sound || !slice_is(letter.model, l->model))) {
        return 0;
    }
    int rc = 0;
    switch (l->action) {
    case LIST:
    case SHOW:
        return is_sound ? list_letter(l, at, &letter) : 0;
    case REDRIVE:
        rc = redrive_letter(l->config.core, clock_us(), l->partition, at->id, at->blob, why);
        break;
    default:
        redrive_drop(l->config.core, l->partition, at->id);
        break;
    }
    l->n_done += rc == 0;
    return rc;
}

// on_letters carries out the question on what was read, up to the first letter that cannot be used.
static void on_letters(void *arg, bool ok, const struct store_letter *entries, size_t n) {
    struct letters *l = arg;
    struct slice route = {l->route, l->n_route};
    if (!ok) {
        l->state = IDLE;
        refuse(l, route, "away", "Redis did not answer: try again");
        return;
    }
    struct error why = {0};
    int rc = buf_addf(&l->json, "{\"partitions\":%" PRIu32 ",\"letters\":[", l->config.n_partitions);
    uint64_t cseq = redrive_cseq(l->config.core, l->partition);
    size_t used = 0;
    for (int status = 0; rc == 0 && used < n; used++) {
        status = use_letter(l, &entries[used], &why);
        if (status < 0) {
            break;
        }
    }
    rc = rc ? rc : buf_addf(&l->json, "],\"done\":%zu,\"more\":%s", l->n_done,
                            used < n || n == READ_MOST ? "true" : "false");
    if (rc == 0 && used > 0) {
        rc = buf_addf(&l->json, ",\"last\":\"%.*s\"", SLICE_FMT(entries[used - 1].id));
    }
    if (rc == 0 && why.text[0] != '\0') {
        rc = buf_addf(&l->json, ",\"left\":\"%" PRIu32 "/%.*s\",\"why\":", l->partition,
                      SLICE_FMT(entries[used].id));
        rc = rc ? rc : json_add_string(&l->json, slice_of(why.text));
    }
    rc = rc ? rc : buf_add_byte(&l->json, '}');
    l->cseq = cseq;
    l->state = WRITING;
    if (l->n_done > 0) {
        log_info("letters.used", "action=%s partition=%" PRIu32 " letters=%zu", actions[l->action],
                 l->partition, l->n_done);
    } else {
        answer(l);
    }
}

static bool is_range(struct slice text) {
    for (size_t i = 0; i < text.n; i++) {
        if (strchr("0123456789-+(", text.p[i]) == NULL) {
            return false;
        }
    }
    return text.n > 0;
}

void letters_ask(struct letters *l, struct slice route, const struct message_letters *question) {
    int action = 0;
    while (action < N_ACTIONS && !slice_is(question->action, actions[action])) {
        action++;
    }
    if (action == N_ACTIONS || question->partition >= l->config.n_partitions ||
        !is_range(question->from) || !is_range(question->to)) {
        refuse(l, route, "bad-message", "LETTERS: got an action, partition or range that there is not; "
                                        "want list, show, redrive or drop, and ids as in XRANGE");
        return;
    }
    if (l->state != IDLE) {
        refuse(l, route, "busy", "another question about dead letters is being answered: try again");
        return;
    }
    free(l->route);
    free(l->model);
    l->route = slice_dup(route);
    l->n_route = route.n;
    l->model = slice_dup(question->model);
    l->action = (enum action)action;
    l->partition = (uint32_t)question->partition;
    l->n_listed = l->n_done = 0;
    buf_clear(&l->json);
    l->state = READING;
    store_read_letters(l->config.store, l->partition, question->from, question->to, READ_MOST,
                       on_letters, l);
}

void letters_written(struct letters *l, uint32_t partition, uint64_t cseq) {
    if (l->state == WRITING && partition == l->partition && cseq >= l->cseq) {
        answer(l);
    }
}
