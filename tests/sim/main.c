// core_sim: runs seeds of the simulation, one after another.
//
//   core_sim [--seeds N] [--first S] [--plant NAME] [--expect-caught]
//   core_sim --seed S --trace [--plant NAME]
//
// A seed that breaks the contract prints one line: what, and how to see it again. Exit status: 0 when no
// seed did; with --expect-caught: 0 when one did.
#include "tests/sim/dump.h"
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum plant planted;

struct arguments {
    uint64_t first, n;
    bool trace, expect_caught;
    const char *plant;
};

static bool read_plant(const char *text) {
    static const char *const names[] = {
        [PLANT_NONE] = "none",
#define X(NAME, name) [PLANT_##NAME] = name,
        PLANTS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            planted = (enum plant)i;
            return true;
        }
    }
    return false;
}

static bool read_arguments(int argc, char **argv, struct arguments *a) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--trace") == 0) {
            a->trace = true;
        } else if (strcmp(argv[i], "--expect-caught") == 0) {
            a->expect_caught = true;
        } else if (value == NULL) {
            return false;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            a->n = strtoull(value, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--first") == 0) {
            a->first = strtoull(value, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--seed") == 0) {
            a->first = strtoull(value, NULL, 10);
            a->n = 1;
            i++;
        } else if (strcmp(argv[i], "--plant") == 0 && read_plant(value)) {
            a->plant = value;
            i++;
        } else {
            return false;
        }
    }
    return a->n > 0;
}

int main(int argc, char **argv) {
    struct arguments a = {.first = 1, .n = 2000};
    if (!read_arguments(argc, argv, &a)) {
        fprintf(stderr, "usage: core_sim [--seeds N] [--first S | --seed S] [--trace] [--plant NAME] "
                        "[--expect-caught]\n");
        return 2;
    }
    uint64_t n_failed = 0, n_calls = 0, n_ambiguous = 0, n_crashes = 0, n_events = 0, n_records = 0;
    for (uint64_t seed = a.first; seed < a.first + a.n; seed++) {
        struct sim *sim = sim_new(seed, a.trace);
        sim_run(sim);
        n_calls += sim->n_calls;
        n_ambiguous += sim->n_ambiguous;
        n_crashes += sim->n_coord_crashes;
        n_events += sim->n_events;
        n_records += (uint64_t)sim->n_records;
        if (sim->why[0] != '\0') {
            n_failed++;
            printf("seed %" PRIu64 ": %s (see: core_sim --seed %" PRIu64 " --trace%s%s)\n", seed, sim->why, seed,
                   a.plant != NULL ? " --plant " : "", a.plant != NULL ? a.plant : "");
            if (a.trace && sim->coords[sim->primary].core != NULL) {
                dump_core(sim->coords[sim->primary].core);
            }
            fflush(stdout);
        }
        sim_free(sim);
        if (n_failed > 0 && a.expect_caught) {
            printf("caught: %s, by seed %" PRIu64 "\n", a.plant != NULL ? a.plant : "none", seed);
            return 0;
        }
    }
    printf("%" PRIu64 " seeds, %" PRIu64 " failed: %" PRIu64 " records, %" PRIu64 " calls, %" PRIu64
           " ambiguous, %" PRIu64 " coordinators killed, %" PRIu64 " events\n",
           a.n, n_failed, n_records, n_calls, n_ambiguous, n_crashes, n_events);
    return a.expect_caught || n_failed > 0;
}
