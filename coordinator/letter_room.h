// letter_room: how many dead letters are kept (config->max_letters, over all partitions). With no room left, models
// whose records become nothing but a dead letter make no further call: their pools stop, and go on by themselves
// when letters were redriven or dropped. Of other models, whose errors come out as rows anyhow, no letter is kept.
#ifndef HEADRACE_COORDINATOR_LETTER_ROOM_H
#define HEADRACE_COORDINATOR_LETTER_ROOM_H

#include "coordinator/core_state.h"

// letter_room_take counts one letter more. needed: it is all that becomes of its record, so it is kept in any case
// (calls that are out when there is no room left may still end so). false: it is not to be kept.
bool letter_room_take(struct core *core, bool needed);
// letter_room_found counts letters that are there at the start; letter_room_give that one is there no more.
void letter_room_found(struct core *core, uint64_t n);
void letter_room_give(struct core *core);
// letter_room_tick stops pools, and lets them go on. Once a turn, before calls are sent.
void letter_room_tick(struct core *core);

#endif
