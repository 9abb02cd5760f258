// Dead letters become records again. Invariant: a letter leaves the stream in the very write that puts
// its record into a batch. Called by letters.
#include "coordinator/redrive.h"

#include "common/plant.h"
#include "coordinator/core_state.h"
#include "coordinator/fill.h"
#include "coordinator/intake.h"
#include "coordinator/letter.h"
#include "coordinator/letter_room.h"
#include "coordinator/partition.h"

#include <errno.h>
#include <string.h>

static bool same_input(const struct model *a, const struct model *b) {
    bool same = a->n_input == b->n_input;
    for (size_t i = 0; same && i < a->n_input; i++) {
        same = strcmp(a->input[i].name, b->input[i].name) == 0 && a->input[i].type == b->input[i].type;
    }
    return same;
}

static struct group *group_of(struct core *core, const struct letter *letter, int *status,
                              struct error *why) {
    const struct model *now = core->io->model(core->io->arg, letter->model, 0);
    const struct model *then = core->io->model(core->io->arg, letter->model, letter->revision);
    uint32_t revision = then != NULL && now != NULL && !same_input(now, then) ? letter->revision : 0;
    return group_get(core, letter->model, revision, letter->options, status, why);
}

int redrive_letter(struct core *core, int64_t now_us, uint32_t partition, struct slice id,
                   struct slice blob, struct error *why) {
    struct partition *p = &core->partitions[partition];
    struct letter letter;
    core->now_us = now_us;
    if (p->state != PARTITION_OWNED || !intake_has_room(core)) {
        return error_set(why, -EAGAIN, "the coordinator has no room for more records just now");
    }
    if (letter_unpack(blob, &letter) < 0) {
        return error_set(why, -EPROTO, "dead letter %u/%.*s cannot be read", partition, SLICE_FMT(id));
    }
    int status = 0;
    struct group *group = group_of(core, &letter, &status, why);
    if (group == NULL) {
        return status;
    }
    struct producer *producer = NULL;
    if (!letter.has_row) {
        HASH_FIND(hh, core->producers, letter.producer.p, letter.producer.n, producer);
    }
    if (!PLANT(LOSE_LETTER)) {
        fill_redriven(core, &group->lanes[partition], letter.id, letter.key, letter.values, producer,
                          producer != NULL ? letter.seq : 0);
    }
    redrive_drop(core, partition, id);
    return 0;
}

void redrive_drop(struct core *core, uint32_t partition, struct slice id) {
    txn_undead(partition_txn(&core->partitions[partition]), id);
    letter_room_give(core);
}

uint64_t redrive_cseq(const struct core *core, uint32_t partition) {
    return core->partitions[partition].cseq + 1;
}
