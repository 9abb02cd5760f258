// Room for dead letters. Invariant: while there is none, no call leaves for a model with on.error = dead-letter, so
// that no more letters than the records of the calls that were out go past the bound. Called by emit (take),
// redrive (give) and core (found, tick).
#include "coordinator/letter_room.h"
#include "common/log.h"
#include "coordinator/permits.h"

#include <inttypes.h>

#define STOPPED "dead-letters-full"

static bool is_full(const struct core *core) {
    return core->config->max_letters > 0 && core->n_letters >= core->config->max_letters;
}

bool letter_room_take(struct core *core, bool needed) {
    if (!needed && is_full(core)) {
        core->status->dead_letters_dropped++;
        return false;
    }
    core->n_letters++;
    core->status->dead_letters++;
    return true;
}

void letter_room_found(struct core *core, uint64_t n) {
    core->n_letters += (int64_t)n;
}

void letter_room_give(struct core *core) {
    core->n_letters -= core->n_letters > 0; // somebody may have trimmed the stream by hand
}

static void stop_pools(struct core *core) {
    struct error why;
    error_set(&why, 0, "%" PRId64 " dead letters are kept, as many as --dead-letters-max allows: redrive or drop some",
              core->n_letters);
    for (struct group *group = core->groups; group != NULL; group = group->hh.next) {
        struct pool *pool = group->pool;
        if (group->model->options.on_error == ON_ERROR_DEAD_LETTER && pool->stopped == NULL) {
            log_error("pool.stopped", "pool=%s outcome=" STOPPED " why=\"%s\"", pool->name, why.text);
            pool_stop(pool, STOPPED, slice_of(why.text));
            pool->is_full = true;
        }
    }
}

void letter_room_tick(struct core *core) {
    bool full = is_full(core);
    if (full && !core->letters_full) {
        log_warn("letters.full", "letters=%" PRId64 " (those of models whose errors come out as rows are not kept)",
                 core->n_letters);
    } else if (!full && core->letters_full) {
        log_info("letters.room", "letters=%" PRId64, core->n_letters);
        for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
            if (pool->is_full) {
                pool_resume(core, pool);
            }
        }
    }
    core->letters_full = full;
    if (full) {
        stop_pools(core);
    }
}
