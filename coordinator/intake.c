// Record in: frames become records, acks go back. Invariant: a producer's sequences are accepted in
// order and without gaps, each exactly once; every row of a frame ends as a record in a batch or as
// an error result. Called by core for messages of producers and frames of the PULL socket.
#include "coordinator/intake.h"
#include "common/batch_api.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/plant.h"
#include "coordinator/budget.h"
#include "coordinator/emit.h"
#include "coordinator/fill.h"
#include "coordinator/flow.h"
#include "coordinator/jobs.h"
#include "coordinator/partition.h"
#include "coordinator/permits.h"
#include "coordinator/producer.h"
#include "coordinator/revise.h"
#include "proto/pack.h"
#include "proto/record.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_KEPT 256     // groups without records are forgotten past this many
#define BAD_ROWS_A_FRAME 1000 // of a frame without acks that become results of their own
#define ROOM_PER_RECORD 512 // least bytes that one record is taken to need when credit is given
#define ROOM_PER_IMAGE (128 * 1024) // likewise with images

void refuse(struct core *core, struct slice route, const char *code, uint64_t expected,
            const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    struct message message = {
        .kind = MESSAGE_REFUSED,
        .refused = {.code = slice_of(code), .message = slice_of(text), .expected = expected},
    };
    core->status->messages_refused++;
    (void)core->io->send(core->io->arg, route, &message);
}

// ---- Groups -------------------------------------------------------------------------------------------

static struct model *model_with(const struct model *model, struct slice options, struct error *why) {
    struct model_setting settings[64];
    struct slice name, value;
    size_t n = 0;
    while (n < sizeof(settings) / sizeof(settings[0]) && options_get(options, n, &name, &value) > 0) {
        settings[n++] = (struct model_setting){.name = slice_dup(name), .value = slice_dup(value)};
    }
    struct model *copy = NULL;
    if (n == sizeof(settings) / sizeof(settings[0]) && options_get(options, n, &name, &value) > 0) {
        error_set(why, -EINVAL, "options: got more than %zu overrides", n);
    } else {
        copy = model_override(model, settings, n, why);
    }
    for (size_t i = 0; i < n; i++) {
        free(settings[i].name);
        free(settings[i].value);
    }
    return copy;
}

// sends_elsewhere says whether overrides change where a worker's credentials go.
static bool sends_elsewhere(const struct model *model, const struct model *own) {
    const struct model_options *a = &model->options, *b = &own->options;
    return strcmp(a->provider, b->provider) != 0 || strcmp(a->endpoint, b->endpoint) != 0 ||
           strcmp(a->api_key, b->api_key) != 0 || strcmp(a->headers, b->headers) != 0;
}

// spends_more says whether overrides change what a model may spend a day, which is its owner's to say.
static bool spends_more(const struct model *model, const struct model *own) {
    double a = model->options.budget_usd_day, b = own->options.budget_usd_day;
    return a != b && !(isnan(a) && isnan(b));
}

static struct group *group_new(struct core *core, struct model *model, struct slice options) {
    struct group *g = mem_zalloc(sizeof(*g));
    g->model = model;
    g->options = (struct slice){.p = slice_dup(options), .n = options.n};
    g->pool = pool_get(core, model);
    g->pool->n_groups++;
    g->flow = flow_get(g->pool, model);
    g->jobs = model->options.mode != MODE_ONLINE ? batch_api_of(model) : NULL;
    estimate_init(&g->estimate, &core->learned, model);
    budget_join(core, g);
    g->columns = mem_alloc(model->n_output * sizeof(char *));
    for (size_t i = 0; i < model->n_output; i++) {
        g->columns[i] = model->output[i].name;
    }
    g->lanes = mem_zalloc(core->config->n_partitions * sizeof(*g->lanes));
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        g->lanes[i].group = g;
        g->lanes[i].partition = &core->partitions[i];
    }
    return g;
}

struct group *group_get(struct core *core, struct slice name, uint32_t revision, struct slice options,
                        int *status, struct error *why) {
    const struct model *model = core->io->model(core->io->arg, name, revision);
    if (model == NULL) {
        *status = error_set(why, -ENOENT, "model '%.*s' does not exist", SLICE_FMT(name));
        return NULL;
    }
    struct buf key;
    buf_init(&key, MODEL_NAME_MAX + 65536 + 64);
    int rc = buf_addf(&key, "%.*s\n%u\n", SLICE_FMT(name), model->revision);
    rc |= PLANT(MIX_OVERRIDES) ? 0 : buf_add_slice(&key, options);
    assert(rc == 0);
    struct group *g;
    HASH_FIND(hh, core->groups, key.p, key.n, g);
    if (g == NULL) {
        struct model *own = model_with(model, options, why);
        if (own != NULL && !core->config->all_overrides &&
            (sends_elsewhere(model, own) || spends_more(model, own))) {
            error_set(why, -EINVAL, "options: 'provider', 'endpoint', 'api_key', 'headers' and 'budget.usd.day' "
                                    "cannot be overridden by records here (coordinator option --overrides)");
            model_free(own);
            own = NULL;
        }
        if (own != NULL) {
            g = group_new(core, own, options);
            g->n_key = key.n;
            g->key = buf_take(&key);
            HASH_ADD_KEYPTR(hh, core->groups, g->key, g->n_key, g);
            g->successor = revise_find(core, g);
        }
    }
    buf_free(&key);
    *status = g != NULL ? 0 : -EINVAL;
    return g;
}

void group_free(struct core *core, struct group *g) {
    HASH_DEL(core->groups, g);
    budget_part(core, g);
    flow_drop(g->flow);
    // A pool that waits or has stopped must not forget it.
    if (--g->pool->n_groups == 0 && pool_is_idle(core, g->pool)) {
        pool_free(core, g->pool);
    }
    model_free(g->model);
    free((char *)g->options.p);
    free(g->columns);
    free(g->lanes);
    free(g->key);
    free(g);
}

static bool is_idle(const struct core *core, const struct group *g) {
    if (g->n_jobs > 0 || g->n_fallbacks > 0 || g->n_calls > 0) {
        return false;
    }
    for (const struct group *other = core->groups; other != NULL; other = other->hh.next) {
        if (other->successor == g) {
            return false;
        }
    }
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        if (g->lanes[i].batches != NULL) {
            return false;
        }
    }
    for (const struct producer *p = core->producers; p != NULL; p = p->hh.next) {
        if (p->group == g) {
            return false;
        }
    }
    return true;
}

void groups_sweep(struct core *core) {
    if (HASH_COUNT(core->groups) <= core->groups_to_sweep) {
        return;
    }
    struct group *g, *next;
    HASH_ITER(hh, core->groups, g, next) {
        if (is_idle(core, g)) {
            group_free(core, g);
        }
    }
    size_t twice = 2 * HASH_COUNT(core->groups);
    core->groups_to_sweep = twice > GROUPS_KEPT ? twice : GROUPS_KEPT;
}

// ---- Rows ---------------------------------------------------------------------------------------------

// What one frame's rows have in common.
struct frame {
    struct core *core;
    struct producer *producer;   // NULL: came without acks
    uint64_t next_seq;           // of the next row
    uint64_t last_seq;           // the last that the frame announced
    struct slice model_name;     // for rows that name none
    struct group *group;         // of model_name and the producer's options; NULL: not looked up
    size_t n_bad;                // rows that are no records, of a frame without acks
};

static void set_group(struct producer *p, struct group *group) {
    p->group = group;
    p->priority = group != NULL ? group->flow->priority : p->priority;
}

static struct group *group_of(struct frame *f, const struct row *row, int *status, struct error *why) {
    if (row->model.n == 0 && row->options.n == 0 && f->group != NULL) {
        return f->group;
    }
    struct slice name = row->model.n > 0 ? row->model : f->model_name;
    if (name.n == 0) {
        *status = error_set(why, -ENOENT, "the row names no model, and its producer has none");
        return NULL;
    }
    struct slice options = f->producer != NULL ? f->producer->options : SLICE_NONE;
    struct buf canonical;
    buf_init(&canonical, 65536);
    *status = 0;
    if (row->options.n > 0) {
        *status = options_canonical(row->options, &canonical, why);
        options = buf_slice(&canonical);
    }
    struct group *g = *status == 0 ? group_get(f->core, name, 0, options, status, why) : NULL;
    buf_free(&canonical);
    if (row->model.n == 0 && row->options.n == 0) {
        f->group = g;
        if (f->producer != NULL) {
            set_group(f->producer, g);
        }
        if (g != NULL) {
            budget_told(f->core, g);
        }
    }
    return g;
}

// lacks_column says whether a row has no value in a column that its producer named.
static bool lacks_column(const struct producer *p, const struct row *row, struct error *why) {
    if (p == NULL || row->outcome != OUTCOME_OK) {
        return false;
    }
    const char *column = p->id_column[0] != '\0' && row->id.n == 0     ? p->id_column
                         : p->key_column[0] != '\0' && row->key.n == 0 ? p->key_column
                                                                       : NULL;
    if (column == NULL) {
        return false;
    }
    error_set(why, 0, "column '%s': got nothing, want the record's %s", column,
              column == p->id_column ? "id" : "key");
    return true;
}

// null_column returns the first INPUT column that is null, or NULL.
static const struct column *null_column(const struct model *model, struct slice values) {
    struct pack_value value;
    uint32_t n;
    int rc = pack_array_next(&values, &n);
    for (size_t i = 0; rc == 0 && i < model->n_input && pack_next(&values, &value) == 1; i++) {
        if (value.type == PACK_NIL) {
            return &model->input[i];
        }
    }
    return NULL;
}

// take_null carries out null.input for a record with a null. Returns false when it is to be asked.
static bool take_null(struct frame *f, const struct row *row, struct slice id, uint64_t seq,
                      const struct group *group, struct slice values) {
    int what = group->model->options.null_input;
    const struct column *column = what != NULL_PASS ? null_column(group->model, values) : NULL;
    if (column == NULL) {
        return false;
    }
    struct error why;
    error_set(&why, 0, "column '%s': got null, and 'null.input' is 'error'", column->name);
    if (what == NULL_SKIP) {
        emit_skipped(f->core, group, id, row->key, f->producer, seq);
    } else {
        emit_refused(f->core, group, id, row->key, f->producer, seq, OUTCOME_BAD_RECORD,
                        slice_of(why.text));
    }
    return true;
}

// take_row puts one row into a batch, or makes its error result.
static void take_row(struct frame *f, const struct row *row, struct slice id, uint64_t seq) {
    struct core *core = f->core;
    struct error why = row->why;
    enum outcome outcome = row->outcome;
    struct group *group = NULL;
    struct buf *values = &core->scratch2;
    buf_clear(values);
    if (lacks_column(f->producer, row, &why)) {
        outcome = OUTCOME_BAD_RECORD;
        group = f->group;
    } else if (outcome == OUTCOME_OK) {
        int status = 0;
        group = group_of(f, row, &status, &why);
        if (group == NULL) {
            outcome = status == -ENOENT ? OUTCOME_NO_MODEL : OUTCOME_BAD_RECORD;
        } else if (row->n_bytes > RECORD_MAX_BYTES && group->model->n_images == 0) {
            outcome = OUTCOME_TOO_LONG;
            error_set(&why, 0, "got %zu bytes, want at most %d", row->n_bytes, RECORD_MAX_BYTES);
        } else {
            int rc = record_values(group->model, row->fields, values, &why);
            outcome = rc == 0 ? OUTCOME_OK : rc == -EMSGSIZE ? OUTCOME_TOO_LONG : OUTCOME_BAD_RECORD;
        }
    } else {
        group = f->group;
    }
    if (outcome != OUTCOME_OK) {
        if (f->producer == NULL && ++f->n_bad > BAD_ROWS_A_FRAME) {
            return; // told together by intake_frame: a megabyte of commas is no million results
        }
        emit_refused(core, group, id, row->key, f->producer, seq, outcome, slice_of(why.text));
        return;
    }
    if (take_null(f, row, id, seq, group, buf_slice(values))) {
        return;
    }
    struct slice key = row->key.n > 0 ? row->key : id;
    uint32_t index = partition_of(key, core->config->n_partitions);
    fill_add(core, &group->lanes[index], id, row->key, buf_slice(values), f->producer, seq);
    core->status->records_in++;
}

static int on_row(void *arg, const struct row *row) {
    struct frame *f = arg;
    struct core *core = f->core;
    uint64_t seq = 0;
    if (f->producer != NULL) {
        seq = f->next_seq++;
        if (seq > f->last_seq) {
            return 0; // more rows than the frame announced: refused by the caller
        }
        if (seq <= f->producer->accepted) {
            core->status->records_skipped++;
            return 0;
        }
    }
    char made[RECORD_ID_MAX];
    struct slice id = row->id;
    if (id.n == 0) {
        int n = f->producer != NULL
                    ? snprintf(made, sizeof(made), "%s:%" PRIu64, f->producer->name, seq)
                    : snprintf(made, sizeof(made), "record:%" PRIx64 ":%" PRIu64,
                               core->partitions[0].epoch, ++core->next_anonymous);
        id = (struct slice){.p = made, .n = (size_t)n};
    }
    if (f->producer != NULL) {
        f->producer->accepted = seq;
        struct slice key = row->key.n > 0 ? row->key : id;
        if (seq <= f->producer->recovered[partition_of(key, core->config->n_partitions)]) {
            producer_durable(f->producer, seq); // accepted before the restart
            core->status->records_skipped++;
            return 0;
        }
    }
    take_row(f, row, id, seq);
    if (f->producer != NULL && PLANT(ACK_BEFORE_WRITE)) {
        producer_durable(f->producer, seq);
    }
    return 0;
}

void intake_frame(struct core *core, struct slice bytes) {
    struct frame f = {.core = core, .model_name = slice_of(core->config->default_model)};
    struct row_columns columns = {
        .id = SLICE_LIT("id"), .key = SLICE_LIT("key"), .max_bytes = RECORD_LONG_MAX_BYTES};
    (void)!rows_read(bytes, &columns, on_row, &f);
    if (f.n_bad > BAD_ROWS_A_FRAME) {
        struct error why;
        error_set(&why, 0, "%zu more rows of the same frame are no records", f.n_bad - BAD_ROWS_A_FRAME);
        char id[64];
        int n = snprintf(id, sizeof(id), "record:%" PRIx64 ":%" PRIu64, core->partitions[0].epoch,
                         ++core->next_anonymous);
        emit_refused(core, f.group, (struct slice){.p = id, .n = (size_t)n}, SLICE_NONE, NULL, 0,
                        OUTCOME_BAD_RECORD, slice_of(why.text));
    }
}

// ---- The acked dialogue -------------------------------------------------------------------------------

static struct producer *find_route(struct core *core, struct slice route) {
    for (struct producer *p = core->producers; p != NULL; p = p->hh.next) {
        if (route_is(&p->route, route)) {
            return p;
        }
    }
    return NULL;
}

static void set_text(char **field, struct slice value) {
    free(*field);
    *field = slice_dup(value);
}

// takes_any says whether records may come in, if there is memory for them. Rows that are no records
// become results at once, so results count.
static bool takes_any(const struct core *core) {
    return core->store_ready && core->n_results < core->config->max_results;
}

static uint64_t limit_of(const struct core *core, const struct producer *p) {
    uint64_t most = p->acked + p->window;
    uint64_t limit = p->accepted;
    const struct flow *flow = p->group != NULL ? p->group->flow : NULL;
    int64_t room = takes_any(core) ? flow_room(core, p->priority, flow) : 0;
    if (room > 0) {
        int64_t seen = core->n_bytes / (core->n_records + 1);
        int64_t least = p->group != NULL && p->group->model->n_images > 0 ? ROOM_PER_IMAGE : ROOM_PER_RECORD;
        int64_t each = seen > least ? seen : least;
        int64_t n = room / each / (flow != NULL && flow->n_producers > 1 ? (int64_t)flow->n_producers : 1);
        limit += n > 0 ? (uint64_t)n : 1;
    }
    limit = limit < most ? limit : most;
    return limit > p->told_limit ? limit : p->told_limit; // what was promised stays promised
}

void intake_open(struct core *core, struct slice route, const struct message_open *open) {
    struct error why = {0};
    struct buf options;
    buf_init(&options, 65536);
    int rc = open->options.n > 0 ? options_canonical(open->options, &options, &why) : 0;
    struct group *group = NULL;
    if (rc == 0 && open->model.n > 0) {
        group = group_get(core, open->model, 0, buf_slice(&options), &rc, &why);
    }
    if (rc != 0) {
        refuse(core, route, rc == -ENOENT ? "unknown-model" : "bad-options", 0, "%s", why.text);
        buf_free(&options);
        return;
    }
    struct producer *p = producer_get(core, open->producer);
    if (p->route.n > 0 && !route_is(&p->route, route) && open->incarnation > 0 &&
        open->incarnation < p->incarnation) { // it stood somewhere on its way
        refuse(core, route, "superseded", 0, "a later start of the producer '%s' is connected", p->name);
        buf_free(&options);
        return;
    }
    p->incarnation = open->incarnation;
    if (p->route.n > 0 && !route_is(&p->route, route)) {
        refuse(core, route_slice(&p->route), "superseded", 0,
               "another producer of the same name has connected");
    }
    struct producer *other = find_route(core, route);
    if (other != NULL && other != p) { // a connection speaks for one producer: the newest
        other->route.n = 0;
        producer_idle(other);
    }
    route_set(&p->route, route);
    set_text(&p->model_name, open->model);
    set_text(&p->id_column, open->id_column);
    set_text(&p->key_column, open->key_column);
    free((char *)p->options.p);
    p->options = (struct slice){.p = slice_dup(buf_slice(&options)), .n = options.n};
    buf_free(&options);
    p->priority = PRIORITY_NORMAL; // of rows that name their own models
    set_group(p, group);
    p->told_acked = p->acked;
    p->told_limit = 0;
    p->told_limit = limit_of(core, p);
    struct message opened = {.kind = MESSAGE_OPENED,
                             .opened = {.upto = p->acked, .limit = p->told_limit}};
    // What was accepted and is not durable yet comes again, and is skipped: sequences stay the same.
    if (core->io->send(core->io->arg, route, &opened) != 0) {
        p->route.n = 0;
        return;
    }
    log_info("producer.open", "producer=%s upto=%" PRIu64, p->name, p->acked);
}

void intake_append(struct core *core, struct slice route, const struct message_append *append) {
    struct producer *p = find_route(core, route);
    if (p == NULL) {
        refuse(core, route, "not-open", 0, "APPEND: got it before OPEN, or after another producer of "
                                           "the same name took over");
        return;
    }
    if (append->first_seq == 0 || append->first_seq > p->accepted + 1) {
        refuse(core, route, "gap", p->accepted + 1,
               "APPEND: got first_seq %" PRIu64 ", want at most %" PRIu64, append->first_seq,
               p->accepted + 1);
        return;
    }
    uint64_t last_seq = append->first_seq + append->count - 1;
    p->is_flushed = false;
    // Credit is given in records before their size is known: far too much of it is taken back.
    if (core->n_bytes > 2 * core->config->max_bytes && !flow_is_due_memory(core, p->priority)) {
        p->told_limit = p->accepted;
    }
    if (last_seq > p->told_limit) {
        refuse(core, route, "over-limit", p->accepted + 1,
               "APPEND: got sequences up to %" PRIu64 ", want at most %" PRIu64, last_seq, p->told_limit);
        return;
    }
    struct frame f = {
        .core = core,
        .producer = p,
        .next_seq = append->first_seq,
        .last_seq = last_seq,
        .model_name = slice_of(p->model_name),
        .group = p->group,
    };
    struct row_columns columns = {
        .id = p->id_column[0] != '\0' ? slice_of(p->id_column) : SLICE_LIT("id"),
        .key = p->key_column[0] != '\0' ? slice_of(p->key_column) : SLICE_LIT("key"),
        .max_bytes = RECORD_LONG_MAX_BYTES, // take_row looks whether the model has images
    };
    long n = rows_read(append->records, &columns, on_row, &f);
    if (n < 0 || (uint64_t)n != append->count) {
        refuse(core, route, "bad-count", p->accepted + 1,
               "APPEND: got %ld rows in records, want %" PRIu64 " as count says", n, append->count);
    }
}

void intake_flush(struct core *core, struct slice route) {
    struct producer *p = find_route(core, route);
    if (p == NULL) {
        refuse(core, route, "not-open", 0, "FLUSH: got it before OPEN");
        return;
    }
    for (struct group *g = core->groups; g != NULL; g = g->hh.next) {
        for (uint32_t i = 0; i < core->config->n_partitions; i++) {
            struct batch *open = g->lanes[i].open;
            for (size_t j = 0; open != NULL && j < open->n; j++) {
                if (open->entries[j].producer == p) {
                    fill_due(core, open);
                    break;
                }
            }
        }
    }
    p->is_flushed = true;
    jobs_flush(core, p);
}

void intake_gone(struct core *core, struct slice route) {
    struct producer *p = find_route(core, route);
    if (p != NULL) {
        p->route.n = 0;
        producer_idle(p);
    }
}

bool intake_has_room(const struct core *core) {
    return takes_any(core) && flow_room(core, PRIORITY_NORMAL, NULL) > 0;
}

// count_producers counts the connected producers of each flow: they share its room.
static void count_producers(struct core *core) {
    for (struct producer *p = core->producers; p != NULL; p = p->hh.next) {
        if (p->group != NULL) {
            p->group->flow->n_producers = 0;
        }
    }
    for (struct producer *p = core->producers; p != NULL; p = p->hh.next) {
        if (p->group != NULL && p->route.n > 0) {
            p->group->flow->n_producers++;
        }
    }
}

void intake_acks(struct core *core) {
    count_producers(core);
    for (struct producer *p = core->producers; p != NULL; p = p->hh.next) {
        if (p->acked > p->told_acked) {
            core->io->hint(core->io->arg, slice_of(p->name), p->acked);
        } else if (p->route.n == 0) {
            producer_idle(p);
            continue;
        }
        uint64_t limit = limit_of(core, p);
        // More room is told when less than half of it is known to the producer.
        bool limit_matters =
            limit > p->told_limit && (p->told_limit - p->accepted) * 2 <= limit - p->accepted;
        if (p->route.n > 0 && (p->acked > p->told_acked || limit_matters)) {
            struct message acked = {.kind = MESSAGE_ACKED, .acked = {.upto = p->acked, .limit = limit}};
            if (core->io->send(core->io->arg, route_slice(&p->route), &acked) != 0) {
                p->route.n = 0;
                continue;
            }
            p->told_limit = limit;
        }
        p->told_acked = p->acked;
    }
}
