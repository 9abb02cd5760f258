// Life of the store, what it demands of Redis's settings, and everything that may be lost harmlessly:
// acks, hints, reading. Invariant: nothing is asked of Redis for a partition before the settings were
// accepted on this connection. Called by the coordinator's main.
#include "coordinator/store.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "coordinator/store_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static const struct redis_script scripts[] = {
#define SCRIPT(script, body) {.name = #script, .text = body},
#include "coordinator/scripts.inc"
#undef SCRIPT
};

// ---- Small helpers that the files of the store share -------------------------------------------

struct slice part_key(const struct part *part, enum part_key key, char text[STORE_KEY_MAX]) {
    static const char *const suffixes[N_PART_KEYS] = {
        [KEY_OWN] = "own", [KEY_BAT] = "bat", [KEY_PRD] = "prd",
        [KEY_OUT] = "out", [KEY_CUR] = "cur", [KEY_DLQ] = "dlq",
        [KEY_SNT] = "snt",
        [KEY_USE] = "use", [KEY_JOB] = "job",
    };
    int n = snprintf(text, STORE_KEY_MAX, "hr:{%s:%" PRIu32 "}:%s", part->store->config.ns, part->id,
                     suffixes[key]);
    return (struct slice){.p = text, .n = (size_t)n};
}

struct slice number_arg(uint64_t number, char text[STORE_ARG_MAX]) {
    int n = snprintf(text, STORE_ARG_MAX, "%" PRIu64, number);
    return (struct slice){.p = text, .n = (size_t)n};
}

struct slice own_arg(const struct part *part, char text[STORE_OWN_MAX]) {
    int n = snprintf(text, STORE_OWN_MAX, "%" PRIu64 ":%s", part->epoch, part->store->start);
    return (struct slice){.p = text, .n = (size_t)n};
}

bool reply_number(const redisReply *reply, uint64_t *out) {
    if (reply->type == REDIS_REPLY_INTEGER && reply->integer >= 0) {
        *out = (uint64_t)reply->integer;
        return true;
    }
    if (reply->type != REDIS_REPLY_STRING || reply->len == 0 || reply->len > 20 ||
        reply->str[0] < '0' || reply->str[0] > '9') {
        return false;
    }
    char *end;
    errno = 0;
    *out = strtoull(reply->str, &end, 10);
    return errno == 0 && end == reply->str + reply->len;
}

struct slice reply_slice(const redisReply *reply) {
    return (struct slice){.p = reply->str, .n = reply->str != NULL ? reply->len : 0};
}

bool reply_is_error(const redisReply *reply, const char *prefix) {
    return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, prefix, strlen(prefix)) == 0;
}

// ---- Settings of Redis -------------------------------------------------------------------------

struct setting {
    const char *name, *always, *everysec; // what each durability wants
    const char *cure;
};

static const struct setting settings[] = {
    {"appendonly", "yes", "yes", "without it a Redis that stops loses everything"},
    {"appendfsync", "always", "everysec",
     "without it a power cut loses records that were acked; to accept up to 2 s of loss choose the "
     "durability everysec"},
    {"maxmemory-policy", "noeviction", "noeviction", "with it a full Redis throws records away"},
};
enum { N_SETTINGS = sizeof(settings) / sizeof(settings[0]) };

static bool is_acceptable(const struct store *store, const struct setting *s, struct slice value) {
    switch (store->config.durability) {
    case DURABILITY_ALWAYS:
        return slice_is(value, s->always);
    case DURABILITY_EVERYSEC:
        return slice_is(value, s->everysec) || slice_is(value, s->always);
    case DURABILITY_NONE:
        return true;
    }
    return false;
}

static void check_setting(struct store *store, const struct setting *s, const redisReply *reply) {
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) {
        log_warn("store.settings_unknown", "setting=%s reply=\"%s\"", s->name,
                 reply->type == REDIS_REPLY_ERROR ? reply->str : "nothing");
        return;
    }
    struct slice value = reply_slice(reply->element[1]);
    if (!is_acceptable(store, s, value) && store->refused.text[0] == '\0') {
        bool always = store->config.durability == DURABILITY_ALWAYS;
        error_set(&store->refused, 0, "Redis: setting '%s': got '%.*s', want '%s': %s", s->name,
                  SLICE_FMT(value), always ? s->always : s->everysec, s->cure);
    }
}

static void on_settings_known(struct store *store) {
    if (store->refused.text[0] != '\0') {
        store->handlers.on_refused(store->handlers.arg, &store->refused);
        return;
    }
    store->usable = true;
    loop_timer_start(store->renewal, store->config.lease_ms / 3 + 1, store->config.lease_ms / 3 + 1);
    for (uint32_t i = 0; i < store->config.n_partitions; i++) {
        part_resume(&store->parts[i]);
    }
    store->handlers.on_ready(store->handlers.arg);
}

// One callback for every setting: replies come in the order asked.
static void on_setting(void *arg, const redisReply *reply) {
    struct store *store = arg;
    if (reply == NULL) {
        return; // lost; asked again on the next connection
    }
    check_setting(store, &settings[N_SETTINGS - store->settings_left], reply);
    store->settings_left--;
}

// on_partitions compares with the number that the namespace was made with: keys would go elsewhere, and
// batches of partitions that are gone would wait for ever.
static void on_partitions(void *arg, const redisReply *reply) {
    struct store *store = arg;
    if (reply == NULL) {
        return;
    }
    char want[16];
    snprintf(want, sizeof(want), "%u", store->config.n_partitions);
    if (reply->type == REDIS_REPLY_STRING && !slice_is(reply_slice(reply), want) &&
        store->refused.text[0] == '\0') {
        error_set(&store->refused, 0,
                  "namespace '%s' has %s partitions, got %s: start with the same number, or use another "
                  "namespace",
                  store->config.ns, reply->str, want);
    }
    on_settings_known(store);
}

static void check_partitions(struct store *store) {
    char key[STORE_NS_MAX + 32], n[16];
    int n_key = snprintf(key, sizeof(key), "hr:{%s}:partitions", store->config.ns);
    int n_n = snprintf(n, sizeof(n), "%u", store->config.n_partitions);
    const struct slice set[] = {SLICE_LIT("SET"), {key, (size_t)n_key}, {n, (size_t)n_n}, SLICE_LIT("NX")};
    const struct slice get[] = {SLICE_LIT("GET"), {key, (size_t)n_key}};
    redis_command(store->redis, NULL, NULL, 4, set);
    redis_command(store->redis, on_partitions, store, 2, get);
}

static void on_redis_ready(void *arg) {
    struct store *store = arg;
    store->settings_left = N_SETTINGS;
    store->refused.text[0] = '\0';
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct slice args[] = {SLICE_LIT("CONFIG"), SLICE_LIT("GET"),
                                     slice_of(settings[i].name)};
        redis_command(store->redis, on_setting, store, 3, args);
    }
    check_partitions(store); // replies come in the order asked: this one last
}

static void on_redis_lost(void *arg, const char *reason) {
    struct store *store = arg;
    store->usable = false;
    loop_timer_stop(store->renewal);
    store->handlers.on_lost(store->handlers.arg, reason);
}

// ---- Life --------------------------------------------------------------------------------------

static bool is_namespace(const char *ns) {
    size_t n = strspn(ns, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return n > 0 && n <= STORE_NS_MAX && ns[n] == '\0';
}

struct store *store_new(struct loop *loop, const struct store_config *config,
                        const struct store_handlers *handlers, struct error *why) {
    assert(config->n_partitions > 0 && config->lease_ms > 0);
    if (!is_namespace(config->ns)) {
        error_set(why, -EINVAL, "namespace: got '%s', want 1 to %d of A-Z a-z 0-9 _ . -", config->ns,
                  STORE_NS_MAX);
        return NULL;
    }
    struct store *store = mem_zalloc(sizeof(*store));
    const struct redis_handlers on_redis = {on_redis_ready, on_redis_lost, store};
    store->redis = redis_new(loop, config->redis, scripts, sizeof(scripts) / sizeof(scripts[0]),
                             &on_redis, why);
    if (store->redis == NULL) {
        free(store);
        return NULL;
    }
    store->loop = loop;
    store->handlers = *handlers;
    uint64_t start;
    if (getrandom(&start, sizeof(start), 0) != (ssize_t)sizeof(start)) { // not before the kernel has any
        start = (uint64_t)clock_us() << 22 ^ (uint64_t)clock_unix_ms() << 32 ^ (uint64_t)getpid();
    }
    snprintf(store->start, sizeof(store->start), "%016" PRIx64, start);
    store->config = *config;
    store->config.redis = NULL; // may hold a password
    store->config.ns = mem_dup_str(config->ns);
    store->config.owner = mem_dup_str(config->owner);
    store->config.address = mem_dup_str(config->address != NULL ? config->address : "");
    store->renewal = loop_add_timer(loop, on_renewal, store);
    store->parts = mem_zalloc(config->n_partitions * sizeof(*store->parts));
    for (uint32_t i = 0; i < config->n_partitions; i++) {
        struct part *part = &store->parts[i];
        *part = (struct part){.store = store, .id = i};
        part->timer = loop_add_timer(loop, on_part_timer, part);
    }
    return store;
}

void store_free(struct store *store) {
    if (store == NULL) {
        return;
    }
    loop_timer_stop(store->renewal);
    store->usable = false;
    store->closed = true;
    redis_free(store->redis); // answers everything with NULL: no write is on its way after it
    for (uint32_t i = 0; i < store->config.n_partitions; i++) {
        loop_timer_stop(store->parts[i].timer);
        part_drop_writes(&store->parts[i]);
        free(store->parts[i].ids);
    }
    free(store->parts);
    free((char *)store->config.ns);
    free((char *)store->config.owner);
    free((char *)store->config.address);
    free(store);
}

size_t store_pending(const struct store *store) {
    return store->n_pending;
}

struct redis *store_redis(struct store *store) {
    return store->redis;
}

// ---- Acks and reading --------------------------------------------------------------------------

void store_ack(struct store *store, uint32_t partition, struct slice consumer, uint64_t oseq,
               uint64_t trim_upto) {
    struct part *part = &store->parts[partition];
    if (!store->usable || part->state != PART_OWNED) {
        return;
    }
    char names[3][STORE_KEY_MAX], numbers[2][STORE_ARG_MAX], own[STORE_OWN_MAX];
    const struct slice args[] = {
        part_key(part, KEY_OWN, names[0]), part_key(part, KEY_CUR, names[1]),
        part_key(part, KEY_OUT, names[2]), own_arg(part, own),
        consumer,                          number_arg(oseq, numbers[0]),
        number_arg(trim_upto, numbers[1]),
    };
    redis_script(store->redis, "out_ack", NULL, NULL, 3, 7, args);
}

struct reading {
    struct store *store;
    uint32_t partition;
    store_read_fn *done;
    void *arg;
};

// entry_read reads [id, ["n", count, "b", blob]].
static bool entry_read(const redisReply *reply, struct store_entry *entry) {
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[1]->elements < 4) {
        return false;
    }
    entry->last_oseq = strtoull(reply->element[0]->str, NULL, 10);
    entry->blob = reply_slice(reply->element[1]->element[3]);
    return true;
}

static void on_read(void *arg, const redisReply *reply) {
    struct reading reading = *(struct reading *)arg;
    free(arg);
    bool ok = reply != NULL && reply->type == REDIS_REPLY_ARRAY;
    size_t n = ok ? reply->elements : 0;
    struct store_entry *entries = mem_alloc(n * sizeof(*entries));
    for (size_t i = 0; i < n && ok; i++) {
        ok = entry_read(reply->element[i], &entries[i]);
    }
    if (!reading.store->closed) {
        reading.done(reading.arg, reading.partition, ok, entries, ok ? n : 0);
    }
    free(entries);
}

void store_read(struct store *store, uint32_t partition, uint64_t from, size_t n, store_read_fn *done,
                void *arg) {
    struct reading *reading = mem_alloc(sizeof(*reading));
    *reading = (struct reading){.store = store, .partition = partition, .done = done, .arg = arg};
    char name[STORE_KEY_MAX], first[STORE_ARG_MAX], count[STORE_ARG_MAX];
    const struct slice args[] = {
        SLICE_LIT("XRANGE"),     part_key(&store->parts[partition], KEY_OUT, name),
        number_arg(from, first), SLICE_LIT("+"),
        SLICE_LIT("COUNT"),      number_arg(n, count),
    };
    redis_command(store->redis, on_read, reading, 6, args);
}

struct reading_letters {
    struct store *store;
    store_letters_fn *done;
    void *arg;
};

// on_read_letters reads [[id, ["b", blob]], ...].
static void on_read_letters(void *arg, const redisReply *reply) {
    struct reading_letters reading = *(struct reading_letters *)arg;
    free(arg);
    bool ok = reply != NULL && reply->type == REDIS_REPLY_ARRAY;
    size_t n = ok ? reply->elements : 0;
    struct store_letter *letters = mem_alloc(n * sizeof(*letters));
    for (size_t i = 0; i < n && ok; i++) {
        const redisReply *entry = reply->element[i];
        ok = entry->type == REDIS_REPLY_ARRAY && entry->elements == 2 &&
             entry->element[1]->type == REDIS_REPLY_ARRAY && entry->element[1]->elements >= 2;
        if (ok) {
            letters[i] = (struct store_letter){.id = reply_slice(entry->element[0]),
                                               .blob = reply_slice(entry->element[1]->element[1])};
        }
    }
    if (!reading.store->closed) {
        reading.done(reading.arg, ok, letters, ok ? n : 0);
    }
    free(letters);
}

void store_read_letters(struct store *store, uint32_t partition, struct slice from, struct slice to,
                        size_t n, store_letters_fn *done, void *arg) {
    struct reading_letters *reading = mem_alloc(sizeof(*reading));
    *reading = (struct reading_letters){.store = store, .done = done, .arg = arg};
    char name[STORE_KEY_MAX], count[STORE_ARG_MAX];
    const struct slice args[] = {
        SLICE_LIT("XRANGE"), part_key(&store->parts[partition], KEY_DLQ, name), from, to,
        SLICE_LIT("COUNT"), number_arg(n, count),
    };
    redis_command(store->redis, on_read_letters, reading, 6, args);
}

// ---- Hints -------------------------------------------------------------------------------------

static struct slice hint_key(const struct store *store, char text[STORE_KEY_MAX]) {
    int n = snprintf(text, STORE_KEY_MAX, "hr:{%s}:prd", store->config.ns);
    return (struct slice){.p = text, .n = (size_t)n};
}

void store_hint(struct store *store, struct slice producer, uint64_t seq) {
    char name[STORE_KEY_MAX], number[STORE_ARG_MAX];
    if (store->usable) {
        const struct slice args[] = {SLICE_LIT("HSET"), hint_key(store, name), producer,
                                     number_arg(seq, number)};
        redis_command(store->redis, NULL, NULL, 4, args);
    }
}

struct hinting {
    struct store *store;
    store_hint_fn *each;
    void (*done)(void *arg);
    void *arg;
};

static void on_hints(void *arg, const redisReply *reply) {
    struct hinting hinting = *(struct hinting *)arg;
    free(arg);
    for (size_t i = 0; reply != NULL && reply->type == REDIS_REPLY_ARRAY && i + 1 < reply->elements;
         i += 2) {
        uint64_t seq;
        if (reply_number(reply->element[i + 1], &seq)) {
            hinting.each(hinting.arg, reply_slice(reply->element[i]), seq);
        }
    }
    if (!hinting.store->closed) {
        hinting.done(hinting.arg);
    }
}

void store_hints(struct store *store, store_hint_fn *each, void (*done)(void *arg), void *arg) {
    struct hinting *hinting = mem_alloc(sizeof(*hinting));
    *hinting = (struct hinting){.store = store, .each = each, .done = done, .arg = arg};
    char name[STORE_KEY_MAX];
    const struct slice args[] = {SLICE_LIT("HGETALL"), hint_key(store, name)};
    redis_command(store->redis, on_hints, hinting, 2, args);
}
