// coordinator: everything that main wires together. Shared by main.c, actions.c and requests.c alone.
#ifndef HEADRACE_COORDINATOR_COORDINATOR_H
#define HEADRACE_COORDINATOR_COORDINATOR_H

#include "common/limits_file.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/options.h"
#include "common/prices.h"
#include "coordinator/catalog.h"
#include "coordinator/core.h"
#include "coordinator/letters.h"
#include "coordinator/link.h"
#include "coordinator/permit_store.h"
#include "coordinator/status.h"
#include "coordinator/store.h"

#define MODELS_MAX_BYTES (1024 * 1024) // of statements

struct coordinator_options {
#define OPTION OPTION_FIELD
#include "coordinator/options.def"
#undef OPTION
};

struct coordinator {
    struct coordinator_options options;
    struct core_config config;
    struct core_io io;
    struct status status;
    struct loop *loop;
    struct loop_timer *timer;
    struct store *store;
    struct permit_store *permits;
    struct catalog *catalog;
    struct link *link;
    struct core *core;
    struct letters *letters;
    struct metrics_server *metrics;
    struct prices *prices;
    struct limits_file *limits;
    unsigned short random[3];
    bool releasing; // a signal to stop came: partitions are being given up
    bool recovering, stopping; // recovering: the first on_ready has come
    bool models_due;           // --models were not carried out, because Redis was lost
    int exit_code;
};

#endif
