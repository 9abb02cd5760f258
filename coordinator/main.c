// headrace-coordinator: options, the wiring of the path, the loop.
//
//   link (frames in) → core: intake → partition → batch → dispatch ⇒ workers ⇒ collect → deliver
//                       │ writes                                              ▲ acks, reads
//                       └──────────▶ store (Redis) ───────────────────────────┘
#include "coordinator/coordinator.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "coordinator/actions.h"
#include "coordinator/requests.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define EXIT_USAGE 2
#define EXIT_CANNOT_START 3
#define EXIT_FENCED 5
#define RELEASE_MS 2000 // for Redis to confirm, after a signal to stop

static const struct option_spec option_rows[] = {
#define OPTION(...) OPTION_ROW(coordinator_options, __VA_ARGS__)
#include "coordinator/options.def"
#undef OPTION
};

static const struct option_program program = {
    .name = "headrace-coordinator",
    .args = "",
    .text = "Takes records, batches them, has workers make the calls, and delivers results.",
    .rows = option_rows,
    .n_rows = sizeof(option_rows) / sizeof(option_rows[0]),
};

static void stop(struct coordinator *c, int exit_code) {
    c->exit_code = exit_code;
    c->stopping = true;
    loop_stop(c->loop);
}

// ---- What Redis says ----------------------------------------------------------------------------------

static void on_acquired(void *arg, uint32_t partition, uint64_t epoch, uint64_t cseq, uint64_t oseq,
                        uint64_t first_oseq) {
    struct coordinator *c = arg;
    core_acquired(c->core, partition, epoch, cseq, oseq, first_oseq);
}

static void on_batch(void *arg, uint32_t partition, uint64_t batch, struct slice blob) {
    struct coordinator *c = arg;
    core_batch(c->core, clock_us(), partition, batch, blob);
}

static void on_mark(void *arg, uint32_t partition, uint64_t batch, struct slice blob) {
    struct coordinator *c = arg;
    core_mark(c->core, partition, batch, blob);
}

static void on_producer(void *arg, uint32_t partition, struct slice producer, uint64_t seq) {
    struct coordinator *c = arg;
    core_producer(c->core, partition, producer, seq);
}

static void on_consumer(void *arg, uint32_t partition, struct slice consumer, uint64_t oseq) {
    struct coordinator *c = arg;
    core_consumer(c->core, partition, consumer, oseq);
}

static void on_letters(void *arg, uint32_t partition, uint64_t n) {
    struct coordinator *c = arg;
    core_letters(c->core, partition, n);
}

static void on_spent(void *arg, uint32_t partition, struct slice field, int64_t value) {
    struct coordinator *c = arg;
    core_spent(c->core, field, value);
}

static void on_job(void *arg, uint32_t partition, uint64_t job, struct slice blob) {
    struct coordinator *c = arg;
    core_job(c->core, clock_us(), partition, job, blob);
}

static void on_recovered(void *arg, uint32_t partition) {
    struct coordinator *c = arg;
    core_recovered(c->core, clock_us(), partition);
}

static void on_leased(void *arg, uint32_t partition, int64_t until_us) {
    struct coordinator *c = arg;
    core_leased(c->core, partition, until_us);
}

static void on_written(void *arg, uint32_t partition, uint64_t cseq) {
    struct coordinator *c = arg;
    core_written(c->core, clock_us(), partition, cseq);
    letters_written(c->letters, partition, cseq);
}

static void on_fenced(void *arg, uint32_t partition, bool rolled_back, const struct error *why) {
    struct coordinator *c = arg;
    log_error("partition.fenced", "partition=%u why=\"%s\"", partition, why->text);
    core_fenced(c->core, partition, why);
    // Another owner goes on with the work. A Redis that lost writes needs a person: we stay, unhealthy,
    // so that nothing starts us again on what is left.
    if (!rolled_back) {
        stop(c, EXIT_FENCED);
    }
}

static void on_hint(void *arg, struct slice producer, uint64_t seq) {
    struct coordinator *c = arg;
    core_hint(c->core, producer, seq);
}

static void on_hints(void *arg) {
    struct coordinator *c = arg;
    for (uint32_t i = 0; i < c->config.n_partitions; i++) {
        store_acquire(c->store, i);
    }
}

static void on_models_created(void *arg, int status, size_t n_changed, const struct error *why) {
    struct coordinator *c = arg;
    if (status == -EAGAIN) { // Redis was lost: once more when it is there again
        c->models_due = true;
        return;
    }
    if (status != 0) {
        log_error("models.refused", "why=\"%s\"", why->text);
        stop(c, EXIT_USAGE);
        return;
    }
    core_models_changed(c->core, clock_us());
}

// create_models carries out the files of --models, as if OR REPLACE stood in each statement.
static int create_models(struct coordinator *c, struct error *why) {
    for (size_t i = 0; i < c->options.models.n; i++) {
        const char *path = c->options.models.items[i];
        struct buf sql;
        buf_init(&sql, MODELS_MAX_BYTES);
        FILE *f = path[0] != '\0' ? fopen(path, "rb") : NULL;
        char chunk[4096];
        int rc = 0;
        for (size_t n; f != NULL && rc == 0 && (n = fread(chunk, 1, sizeof(chunk), f)) > 0;) {
            rc = buf_add(&sql, chunk, n);
        }
        if (f == NULL && path[0] != '\0') {
            rc = -errno;
        } else if (f != NULL) {
            rc = rc == 0 && ferror(f) ? -EIO : rc;
            fclose(f);
        }
        if (rc == 0 && sql.n > 0) {
            catalog_create(c->catalog, buf_slice(&sql), true, on_models_created, c);
        }
        buf_free(&sql);
        if (rc != 0) {
            return error_set(why, rc, "--models: cannot read '%s': %s", path, strerror(-rc));
        }
    }
    return 0;
}

static void on_models_loaded(void *arg, int status, size_t n_models, const struct error *why) {
    struct coordinator *c = arg;
    struct error sentence = status != 0 ? *why : (struct error){0};
    if (status == -EAGAIN) { // Redis was lost: from the beginning when it is there again
        c->recovering = false;
        return;
    }
    if (status != 0 || create_models(c, &sentence) != 0) {
        log_error("models.failed", "why=\"%s\"", sentence.text);
        stop(c, EXIT_CANNOT_START);
        return;
    }
    log_info("models.loaded", "models=%zu", n_models);
    // Models first, hints and batches after: a recovered batch needs its model.
    store_hints(c->store, on_hint, on_hints, c);
}

static void on_store_ready(void *arg) {
    struct coordinator *c = arg;
    core_store_ready(c->core, true);
    if (!c->recovering) {
        c->recovering = true;
        catalog_load(c->catalog, on_models_loaded, c);
    } else if (c->models_due) {
        struct error why;
        c->models_due = false;
        if (create_models(c, &why) != 0) {
            log_error("models.failed", "why=\"%s\"", why.text);
            stop(c, EXIT_CANNOT_START);
        }
    }
}

static void on_store_refused(void *arg, const struct error *why) {
    struct coordinator *c = arg;
    log_error("redis.refused", "why=\"%s\"", why->text);
    stop(c, EXIT_CANNOT_START);
}

static void on_store_lost(void *arg, const char *reason) {
    struct coordinator *c = arg;
    core_store_ready(c->core, false);
    log_warn("redis.lost", "reason=\"%s\"", reason);
}

// ---- What peers say -----------------------------------------------------------------------------------

static void on_message(void *arg, struct slice route, const struct message *message) {
    struct coordinator *c = arg;
    if (c->releasing) {
        return; // whoever speaks to us says it again to the next one
    }
    if (core_message(c->core, clock_us(), route, message)) {
        return;
    }
    requests_message(c, route, message);
}

static void on_frame(void *arg, struct slice frame) {
    struct coordinator *c = arg;
    core_frame(c->core, clock_us(), frame);
}

static bool wants_frames(void *arg) {
    struct coordinator *c = arg;
    return !c->releasing && core_wants_frames(c->core);
}

static void on_push_ready(void *arg) {
    struct coordinator *c = arg;
    core_push_ready(c->core);
}

// ---- Time, metrics, signals -----------------------------------------------------------------------------

static void on_time(void *arg) {
    // Nothing to do: the end of the turn does what is due.
}

static void on_turn_end(void *arg) {
    struct coordinator *c = arg;
    if (c->releasing) {
        if (store_pending(c->store) == 0) {
            stop(c, 0);
        }
        return;
    }
    int64_t now_us = clock_us();
    if (core_next_us(c->core) <= now_us) {
        core_tick(c->core, now_us);
    }
    core_turn_end(c->core, now_us);
    if (core_wants_frames(c->core)) {
        link_frames_wanted(c->link, true);
    }
    int64_t next_us = core_next_us(c->core);
    if (next_us != INT64_MAX) {
        loop_timer_start(c->timer, next_us > now_us ? (next_us - now_us) / 1000 + 1 : 0, 0);
    }
}

static void on_refresh(void *arg) {
    struct coordinator *c = arg;
    core_gauges(c->core);
}

static int on_more_metrics(void *arg, struct buf *out) {
    struct coordinator *c = arg;
    return core_spend_metrics(c->core, out);
}

static int on_health(void *arg, struct buf *out) {
    struct coordinator *c = arg;
    struct buf waiting;
    buf_init(&waiting, 4096);
    const char *stopped = NULL;
    core_waiting(c->core, clock_us(), &waiting, &stopped);
    bool healthy = core_is_open(c->core) && core_has_store(c->core) && stopped == NULL;
    int rc = buf_addf(out, "{\"healthy\":%s,\"waiting\":", healthy ? "true" : "false");
    rc |= json_add_string(out, buf_slice(&waiting));
    rc |= buf_add_byte(out, '}');
    buf_free(&waiting);
    return healthy && rc == 0 ? 200 : 503;
}

static void on_release_deadline(void *arg) {
    stop(arg, 0);
}

// on_signal stops in good order: no new work, what is written is confirmed, partitions are free at once.
static void on_signal(void *arg) {
    struct coordinator *c = arg;
    log_info("coordinator.stop", "pending_writes=%zu", store_pending(c->store));
    if (c->releasing || !core_is_open(c->core)) {
        stop(c, 0);
        return;
    }
    c->releasing = true;
    core_release(c->core);
    for (uint32_t i = 0; i < c->config.n_partitions; i++) {
        store_release(c->store, i);
    }
    loop_timer_start(loop_add_timer(c->loop, on_release_deadline, c), RELEASE_MS, 0);
}

// ---- Life -----------------------------------------------------------------------------------------------

static int read_durability(const char *text, enum store_durability *durability, struct error *why) {
    static const char *const names[] = {
        [DURABILITY_ALWAYS] = "always", [DURABILITY_EVERYSEC] = "everysec", [DURABILITY_NONE] = "none"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *durability = (enum store_durability)i;
            return 0;
        }
    }
    return error_set(why, -EINVAL, "--durability: got '%s', want always, everysec or none", text);
}

static int check_options(struct coordinator *c, enum store_durability *durability, struct error *why) {
    enum log_level level;
    int rc = log_level_parse(c->options.log_level, &level, why);
    if (rc != 0) {
        error_prefix(why, "--log-level: ");
        return rc;
    }
    log_setup("coordinator", level);
    if (c->options.name[0] == '\0') {
        char host[65] = "";
        if (gethostname(host, sizeof(host) - 1) != 0) {
            return error_set(why, -errno, "the host has no name: say --name");
        }
        free((char *)c->options.name);
        c->options.name = mem_dup_str(host);
    }
    c->config = (struct core_config){
        .name = c->options.name,
        .n_partitions = (uint32_t)c->options.partitions,
        .max_bytes = c->options.max_bytes,
        .max_results = c->options.max_results,
        .max_letters = c->options.dead_letters_max,
        .heartbeat_ms = c->options.heartbeat,
        .grace_ms = c->options.grace,
        .ordered = strcmp(c->options.ordered, "key") == 0,
        .has_push = c->options.bind_out[0] != '\0',
        .all_overrides = strcmp(c->options.overrides, "all") == 0,
        .default_model = c->options.model,
    };
    if (!c->config.all_overrides && strcmp(c->options.overrides, "safe") != 0) {
        return error_set(why, -EINVAL, "--overrides: got '%s', want safe or all", c->options.overrides);
    }
    if (!c->config.ordered && strcmp(c->options.ordered, "none") != 0) {
        return error_set(why, -EINVAL, "--ordered: got '%s', want none or key", c->options.ordered);
    }
    rc = prices_load(c->options.prices, &c->prices, why);
    c->config.prices = c->prices;
    rc = rc != 0 ? rc : limits_file_load(c->options.limits, &c->limits, why);
    c->config.limits = c->limits;
    return rc != 0 ? rc : read_durability(c->options.durability, durability, why);
}

static int start(struct coordinator *c, enum store_durability durability,
                 const struct store_handlers *store_handlers, const struct link_config *link_config,
                 const struct link_handlers *link_handlers, struct error *why) {
    struct store_config store_config = {
        .redis = c->options.redis,
        .ns = c->options.ns,
        .n_partitions = c->config.n_partitions,
        .owner = c->options.name,
        .address = c->options.bind.items[0],
        .lease_ms = c->options.lease,
        .durability = durability,
    };
    c->link = link_new(c->loop, link_config, link_handlers, &c->status, why);
    if (c->link == NULL) {
        return -EADDRINUSE;
    }
    c->store = store_new(c->loop, &store_config, store_handlers, why);
    if (c->store == NULL) {
        return -EINVAL;
    }
    char holder[128]; // of this start
    snprintf(holder, sizeof(holder), "%s:%s:%08lx", c->options.ns, c->options.name, (unsigned long)nrand48(c->random));
    const char *limits_redis = c->options.limits_redis[0] != '\0' ? c->options.limits_redis : c->options.redis;
    c->permits = permit_store_new(c->loop, limits_redis, holder, actions_permits, c, why);
    if (c->permits == NULL) {
        error_prefix(why, "--limits-redis: ");
        return -EINVAL;
    }
    const struct letters_config letters_config = {
        .n_partitions = c->config.n_partitions, .core = c->core, .store = c->store, .io = &c->io};
    c->letters = letters_new(&letters_config);
    c->catalog = catalog_new(store_redis(c->store), c->options.ns);
    if (c->options.metrics[0] != '\0') {
        struct metrics_config metrics = {.rows = status_rows,
                                         .n_rows = n_status_rows,
                                         .values = &c->status,
                                         .refresh = on_refresh,
                                         .health = on_health,
                                         .more = on_more_metrics,
                                         .arg = c};
        c->metrics = metrics_serve(c->loop, c->options.metrics, &metrics, why);
        if (c->metrics == NULL) {
            error_prefix(why, "--metrics: ");
            return -EADDRINUSE;
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    struct coordinator c = {0};
    struct error why = {0};
    enum store_durability durability = DURABILITY_ALWAYS;
    if (options_parse(&program, argc, argv, &c.options, NULL, &why) < 0 ||
        check_options(&c, &durability, &why) != 0) {
        fprintf(stderr, "headrace-coordinator: %s\n", why.text);
        prices_free(c.prices);
        limits_file_free(c.limits);
        options_free(&program, &c.options);
        return EXIT_USAGE;
    }
    if (getrandom(c.random, sizeof(c.random), 0) != (ssize_t)sizeof(c.random)) {
        c.random[0] = (unsigned short)clock_us();
    }
    c.io = actions_io(&c);
    const struct store_handlers store_handlers = {
        .on_ready = on_store_ready, .on_refused = on_store_refused, .on_lost = on_store_lost,
        .on_acquired = on_acquired, .on_batch = on_batch, .on_producer = on_producer,
        .on_consumer = on_consumer, .on_recovered = on_recovered, .on_leased = on_leased, .on_written = on_written,
        .on_fenced = on_fenced, .on_mark = on_mark, .on_spent = on_spent, .on_job = on_job,
        .on_letters = on_letters, .arg = &c};
    const struct link_config link_config = {
        .bind = c.options.bind, .bind_in = c.options.bind_in, .bind_out = c.options.bind_out};
    const struct link_handlers link_handlers = {.on_message = on_message, .on_frame = on_frame,
                                                .wants_frames = wants_frames,
                                                .on_push_ready = on_push_ready, .arg = &c};
    c.loop = loop_new();
    c.timer = loop_add_timer(c.loop, on_time, &c);
    c.core = core_new(&c.config, &c.io, &c.status);
    if (start(&c, durability, &store_handlers, &link_config, &link_handlers, &why) != 0) {
        fprintf(stderr, "headrace-coordinator: %s\n", why.text);
        c.exit_code = EXIT_CANNOT_START;
    } else {
        loop_on_signal(c.loop, SIGTERM, on_signal, &c);
        loop_on_signal(c.loop, SIGINT, on_signal, &c);
        loop_at_turn_end(c.loop, on_turn_end, &c);
        log_info("coordinator.start", "name=%s namespace=%s partitions=%u", c.options.name, c.options.ns,
                 c.config.n_partitions);
        while (!c.stopping) {
            loop_run(c.loop);
        }
    }
    metrics_server_free(c.metrics);
    link_free(c.link);
    core_free(c.core);
    c.core = NULL; // what Redis still has to answer finds nobody
    catalog_free(c.catalog);
    permit_store_free(c.permits);
    store_free(c.store);
    letters_free(c.letters);
    loop_free(c.loop);
    prices_free(c.prices);
    limits_file_free(c.limits);
    options_free(&program, &c.options);
    return c.exit_code;
}
