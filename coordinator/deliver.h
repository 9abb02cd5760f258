// deliver: results out: from the outbox to consumers, with or without acks.
#ifndef HEADRACE_COORDINATOR_DELIVER_H
#define HEADRACE_COORDINATOR_DELIVER_H

#include "coordinator/core_state.h"

#define DELIVER_PUSH_NAME "#push" // position of the unacked consumers behind the PUSH socket

// deliver_again stores every position once more: what was on its way when Redis was lost may not be there.
void deliver_again(struct core *core);
// deliver_durable: these results are durable now. Takes blob.
void deliver_durable(struct core *core, struct partition *p, uint64_t last_oseq, size_t n,
                     struct slice blob);
// deliver_read brings outbox entries that were asked for; ok false: Redis is away, asked again later.
void deliver_read(struct core *core, struct partition *p, bool ok, const struct store_entry *entries,
                  size_t n);
// deliver_recovered: a partition's outbox and consumers are known again.
void deliver_recovered(struct core *core, struct partition *p);
void deliver_forget(struct core *core, struct partition *p);

// deliver_get finds a consumer by name, or makes one that is not connected.
struct consumer *deliver_get(struct core *core, struct slice name);
void deliver_free(struct core *core, struct consumer *consumer);
void deliver_subscribe(struct core *core, struct slice route, const struct message_subscribe *subscribe);
// deliver_ack returns -ENOENT when this route is no consumer, -ERANGE when it acks what was not sent.
MUST_CHECK int deliver_ack(struct core *core, struct slice route, const struct message_ack *ack);
void deliver_gone(struct core *core, struct slice route);

// deliver_pump sends what consumers have credit for, stores their positions and trims.
void deliver_pump(struct core *core);
// deliver_release stores all positions at once, before the partitions are given up.
void deliver_release(struct core *core);

#endif
