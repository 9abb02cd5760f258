// batch_fault: how the batch APIs misbehave, how often, and how many times. Drawn from the seed
// alone.
#ifndef HEADRACE_TESTS_PROVIDER_BATCH_FAULT_H
#define HEADRACE_TESTS_PROVIDER_BATCH_FAULT_H

#include "common/bytes.h"
#include "common/error.h"

#include <stdint.h>

enum batch_fault {
#define BATCH_FAULT(id, name, when, text) BATCH_FAULT_##id,
#include "tests/provider/batch_fault.def"
#undef BATCH_FAULT
    BATCH_FAULT_COUNT,
};

enum batch_when {
    BATCH_AT_UPLOAD,
    BATCH_AT_CREATE,
    BATCH_AT_JOB,
    BATCH_AT_ROW,
    BATCH_AT_POLL,
    BATCH_AT_DOWNLOAD,
    BATCH_AT_CANCEL,
    BATCH_AT_REMOVE,
};

struct batch_faults {
    double rate[BATCH_FAULT_COUNT];   // 0..1
    int64_t times[BATCH_FAULT_COUNT]; // how often it still may; -1: any number
};

// batch_fault_name is the row's name.
const char *batch_fault_name(enum batch_fault fault);
// batch_faults_init makes none happen.
void batch_faults_init(struct batch_faults *faults);
// batch_faults_add reads "KIND=RATE" or "KIND=RATE*TIMES", a rate as 0.05 or 5%. Returns 0 or
// -EINVAL with why.
MUST_CHECK int batch_faults_add(struct batch_faults *faults, const char *text, struct error *why);
// batch_fault_hits draws whether a fault happens to the n-th thing of its kind, and counts it.
bool batch_fault_hits(struct batch_faults *faults, enum batch_fault fault, uint64_t seed,
                      uint64_t n);
// batch_fault_at draws all faults of a time; the first that happens, or BATCH_FAULT_COUNT.
enum batch_fault batch_fault_at(struct batch_faults *faults, enum batch_when when, uint64_t seed,
                                uint64_t n);

#endif
