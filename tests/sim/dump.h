// dump: what a core knows, for people. Apart from sim.h, because the names of the two worlds clash.
#ifndef HEADRACE_TESTS_SIM_DUMP_H
#define HEADRACE_TESTS_SIM_DUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct core;

// dump_core prints the pools, workers, batches and calls of a core.
void dump_core(const struct core *core);
// dump_n_unclaimed counts the late calls of before a start that nobody has named, or counted, yet.
size_t dump_n_unclaimed(const struct core *core);
// dump_is_counted says whether a call of a batch is in the sums of money: its report has come.
bool dump_is_counted(const struct core *core, uint64_t id, uint32_t call);

#endif
