// intake: record in: frames become records, acks go back.
#ifndef HEADRACE_COORDINATOR_INTAKE_H
#define HEADRACE_COORDINATOR_INTAKE_H

#include "coordinator/core_state.h"

void intake_open(struct core *core, struct slice route, const struct message_open *open);
void intake_append(struct core *core, struct slice route, const struct message_append *append);
void intake_flush(struct core *core, struct slice route);
void intake_gone(struct core *core, struct slice route);
// intake_frame takes rows that came without acks.
void intake_frame(struct core *core, struct slice frame);
// intake_has_room says whether more records may come in of those that name no producer: at normal priority.
bool intake_has_room(const struct core *core);
// intake_acks tells producers what became durable and how far they may go on. At the end of a turn.
void intake_acks(struct core *core);

// group_get finds or makes the group of a model and canonical overrides. NULL with why: there is no
// such model (-ENOENT in *status) or the overrides do not fit it (-EINVAL).
struct group *group_get(struct core *core, struct slice model, uint32_t revision, struct slice options,
                        int *status, struct error *why);
void group_free(struct core *core, struct group *group);
// groups_sweep forgets groups that nothing uses, when there are many: overrides may differ in every row.
void groups_sweep(struct core *core);

// refuse answers a message with REFUSED.
void refuse(struct core *core, struct slice route, const char *code, uint64_t expected,
            const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
