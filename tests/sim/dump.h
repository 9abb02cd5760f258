// dump: what a core knows, for people. Apart from sim.h, because the names of the two worlds clash.
#ifndef HEADRACE_TESTS_SIM_DUMP_H
#define HEADRACE_TESTS_SIM_DUMP_H

struct core;

// dump_core prints the pools, workers, batches and calls of a core.
void dump_core(const struct core *core);

#endif
