// roster: workers we know: credit, heartbeat, incarnation.
//
//            HELLO                 silent for three heartbeats, or gone
//   (none) ─────────▶ CONNECTED ───────────────────────────────────────▶ LOST ──▶ (none) once its calls
//                        ▲               HELLO (anything else: REFUSED)    │      are claimed or given up
//                        └────────────────────────────────────────────────┘
#ifndef HEADRACE_COORDINATOR_ROSTER_H
#define HEADRACE_COORDINATOR_ROSTER_H

#include "coordinator/core_state.h"

void roster_hello(struct core *core, struct slice route, const struct message_hello *hello);
// roster_find returns the worker behind a route, or NULL; roster_seen notes that it said something.
struct worker *roster_find(struct core *core, struct slice route);
void roster_seen(struct core *core, struct worker *worker);
// roster_reserve keeps a worker for a suspect, or gives it back to all.
void roster_reserve(struct core *core, struct worker *worker, bool reserved);
// roster_rest: it gave a call back unsent; it gets nothing until its next PING (roster_go_on).
void roster_rest(struct core *core, struct worker *worker);
void roster_go_on(struct core *core, struct worker *worker);
// roster_lacks notes that a worker lacks a pool's credential: it gets none of its calls until it says HELLO
// anew, or the pool is resumed. roster_has says whether any connected worker may have it.
void roster_lacks(struct worker *worker, const struct pool *pool);
bool roster_has(const struct core *core, const struct pool *pool);
bool roster_serves(const struct worker *worker, const struct pool *pool);
// roster_next returns the next worker with credit for a call of the pool, or NULL; roster_room says how many
// calls of it those with credit have room for, at most `most`: it is asked every turn, of thousands of workers.
struct worker *roster_next(const struct core *core, const struct pool *pool);
int64_t roster_room(const struct core *core, const struct pool *pool, int64_t most);
// roster_lose: it is gone or silent. Its calls stay sent until they are claimed or given up.
void roster_lose(struct core *core, struct worker *worker, const char *reason);
void roster_free(struct core *core, struct worker *worker); // its calls must be gone

// roster_load puts a call on a worker; roster_unload takes it off again.
void roster_load(struct core *core, struct worker *worker, struct call *call);
void roster_unload(struct core *core, struct call *call);

// roster_reported: a worker's report came in; it goes on counting against its credit, because the
// worker keeps it until roster_taken tells it, at the end of the turn, that the report is durable.
void roster_reported(struct core *core, struct slice route);
void roster_taken(struct core *core, struct slice route, uint64_t batch, uint64_t call);
void roster_flush(struct core *core);
// roster_tick finds workers that fell silent, and gives up the calls of those lost too long.
void roster_tick(struct core *core);

#endif
