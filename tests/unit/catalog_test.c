// The catalog against a real Redis: revisions, refusals, what comes back after a restart.
#include "coordinator/catalog.h"
#include "common/log.h"
#include "coordinator/store.h"
#include "tests/unit/redis_server.h"

#include <errno.h>
#include <setjmp.h>
#include <stddef.h>
// cmocka wants the two above first
#include <cmocka.h>

#define MODEL(head, name, size)                                                                    \
    "CREATE " head " " name " INPUT (text STRING) OUTPUT (sentiment STRING) WITH ("                \
    "'provider' = 'openai', 'endpoint' = 'http://127.0.0.1:1/v1/chat/completions', "               \
    "'model' = 'm', 'task' = 'classification', 'api_key' = '${SOME_KEY}', "                        \
    "'batch.size' = '" size "', 'batch.prompt.template' = 'Analyze', 'prompt.template' = 'One');\n"

struct world {
    struct redis_server server;
    struct loop *loop;
    struct store *store;
    struct catalog *catalog;
    int n_ready, n_done, status;
    size_t n_changed;
    char why[1024];
    char names[256];
};

static void on_ready(void *arg) {
    ((struct world *)arg)->n_ready++;
}
static void on_lost(void *arg, const char *reason) {
}

static void on_done(void *arg, int status, size_t n_changed, const struct error *why) {
    struct world *w = arg;
    w->n_done++;
    w->status = status;
    w->n_changed = n_changed;
    snprintf(w->why, sizeof(w->why), "%s", why->text);
}

static void connect_store(struct world *w) {
    const struct store_config config = {.redis = w->server.socket, .ns = "t", .n_partitions = 1,
                                        .owner = "a", .address = "", .lease_ms = 1000,
                                        .durability = DURABILITY_ALWAYS};
    const struct store_handlers handlers = {.on_ready = on_ready, .on_lost = on_lost, .arg = w};
    struct error why;
    int before = w->n_ready;
    w->store = store_new(w->loop, &config, &handlers, &why);
    w->catalog = catalog_new(store_redis(w->store), "t");
    redis_server_until(w->loop, w->n_ready == before + 1);
}

static void begin(struct world *w) {
    redis_server_start(&w->server);
    w->loop = loop_new();
    connect_store(w);
}

static void disconnect(struct world *w) {
    store_free(w->store);
    catalog_free(w->catalog);
}

static void end(struct world *w) {
    disconnect(w);
    loop_free(w->loop);
    redis_server_end(&w->server);
}

static void create(struct world *w, const char *sql) {
    int before = w->n_done;
    catalog_create(w->catalog, slice_of(sql), false, on_done, w);
    redis_server_until(w->loop, w->n_done == before + 1);
}

static void load(struct world *w) {
    int before = w->n_done;
    catalog_load(w->catalog, on_done, w);
    redis_server_until(w->loop, w->n_done == before + 1);
}

static void add_name(void *arg, const struct model *model) {
    struct world *w = arg;
    size_t n = strlen(w->names);
    snprintf(w->names + n, sizeof(w->names) - n, "%s=%u ", model->name, model->revision);
}

static const char *names(struct world *w) {
    w->names[0] = '\0';
    catalog_each(w->catalog, add_name, w);
    return w->names;
}

static void statements_make_revisions(void **state) {
    static const struct {
        const char *what, *sql;
        int status;
        size_t n_changed;
        const char *names; // after it
    } cases[] = {
        {"a new model", MODEL("MODEL", "b", "5"), 0, 1, "b=1 "},
        {"the same again", MODEL("MODEL", "b", "5"), 0, 0, "b=1 "},
        {"another of the same name", MODEL("MODEL", "b", "6"), -EEXIST, 0, "b=1 "},
        {"if not exists leaves it", MODEL("MODEL IF NOT EXISTS", "b", "6"), 0, 0, "b=1 "},
        {"or replace makes a revision", MODEL("OR REPLACE MODEL", "b", "6"), 0, 1, "b=2 "},
        {"or replace by the same", MODEL("OR REPLACE MODEL", "b", "6"), 0, 0, "b=2 "},
        {"or replace by an older one", MODEL("OR REPLACE MODEL", "b", "5"), 0, 1, "b=3 "},
        {"several at once", MODEL("MODEL", "c", "1") MODEL("MODEL IF NOT EXISTS", "a", "1"), 0, 2,
         "a=1 b=3 c=1 "},
        {"one bad one stops all", MODEL("MODEL", "d", "1") MODEL("MODEL", "c", "9"), -EEXIST, 0,
         "a=1 b=3 c=1 "},
        {"one that cannot be read stops all", MODEL("MODEL", "d", "1") "CREATE NONSENSE;", -EINVAL, 0,
         "a=1 b=3 c=1 "},
        {"two revisions in one text", MODEL("MODEL", "e", "1") MODEL("OR REPLACE MODEL", "e", "2"), 0,
         2, "a=1 b=3 c=1 e=2 "},
        {"no statement", "", 0, 0, "a=1 b=3 c=1 e=2 "},
    };
    struct world w = {0};
    begin(&w);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        create(&w, cases[i].sql);
        if (w.status != cases[i].status || w.n_changed != cases[i].n_changed ||
            strcmp(names(&w), cases[i].names) != 0) {
            fail_msg("%s: got %d, %zu changed, '%s'; why: %s", cases[i].what, w.status, w.n_changed,
                     names(&w), w.why);
        }
        assert_true((w.status == 0) == (w.why[0] == '\0'));
    }
    // All of it is there for the next coordinator, older revisions as well.
    disconnect(&w);
    connect_store(&w);
    assert_null(catalog_find(w.catalog, SLICE_LIT("b")));
    load(&w);
    assert_int_equal(w.status, 0);
    assert_int_equal(w.n_changed, 7);
    assert_string_equal(names(&w), "a=1 b=3 c=1 e=2 ");
    assert_int_equal(catalog_revision(w.catalog, SLICE_LIT("b"), 2)->options.batch_size, 6);
    assert_int_equal(catalog_find(w.catalog, SLICE_LIT("b"))->options.batch_size, 5);
    assert_null(catalog_revision(w.catalog, SLICE_LIT("b"), 4));
    assert_null(catalog_find(w.catalog, SLICE_LIT("nobody")));
    const struct model *held = catalog_find(w.catalog, SLICE_LIT("b"));
    load(&w); // again, as after a reconnect: models that were given out stay
    assert_ptr_equal(catalog_find(w.catalog, SLICE_LIT("b")), held);
    end(&w);
}

static void creates_wait_for_each_other(void **state) {
    struct world w = {0};
    begin(&w);
    catalog_create(w.catalog, slice_of(MODEL("OR REPLACE MODEL", "m", "1")), false, on_done, &w);
    catalog_create(w.catalog, slice_of(MODEL("OR REPLACE MODEL", "m", "2")), false, on_done, &w);
    catalog_create(w.catalog, slice_of(MODEL("OR REPLACE MODEL", "m", "3")), false, on_done, &w);
    redis_server_until(w.loop, w.n_done == 3);
    assert_int_equal(w.status, 0);
    assert_string_equal(names(&w), "m=3 ");
    end(&w);
}

static void a_lost_redis_fails_what_was_asked_and_it_can_be_asked_again(void **state) {
    struct world w = {0};
    begin(&w);
    redis_server_kill(&w.server);
    catalog_create(w.catalog, slice_of(MODEL("MODEL", "m", "1")), false, on_done, &w);
    redis_server_until(w.loop, w.n_done == 1);
    assert_int_equal(w.status, -EAGAIN);
    assert_null(catalog_find(w.catalog, SLICE_LIT("m")));
    load(&w);
    assert_int_equal(w.status, -EAGAIN);
    redis_server_start(&w.server);
    redis_server_until(w.loop, w.n_ready == 2);
    create(&w, MODEL("MODEL", "m", "1"));
    assert_int_equal(w.status, 0);
    assert_string_equal(names(&w), "m=1 ");
    end(&w);
}

static void a_revision_of_another_coordinator_is_not_overwritten(void **state) {
    struct world w = {0};
    begin(&w);
    create(&w, MODEL("MODEL", "m", "1"));
    redis_server_run(&w.server, "HSET hr:{t}:model:m head 2 2 other");
    create(&w, MODEL("OR REPLACE MODEL", "m", "2"));
    assert_int_equal(w.status, -EBUSY);
    assert_non_null(strstr(w.why, "CONFLICT"));
    assert_string_equal(names(&w), "m=1 ");
    end(&w);
}

static void what_cannot_be_read_any_more_is_left_out(void **state) {
    struct world w = {0};
    begin(&w);
    create(&w, MODEL("MODEL", "good", "1") MODEL("MODEL", "bad", "1"));
    redis_server_run(&w.server, "HSET hr:{t}:model:bad 1 %s", "CREATE MODEL nonsense");
    disconnect(&w);
    connect_store(&w);
    load(&w);
    assert_int_equal(w.status, 0);
    assert_string_equal(names(&w), "good=1 ");
    create(&w, MODEL("MODEL", "bad", "1"));
    assert_int_equal(w.status, -EEXIST);
    create(&w, MODEL("OR REPLACE MODEL", "bad", "1"));
    assert_int_equal(w.status, 0);
    assert_string_equal(names(&w), "bad=2 good=1 ");
    end(&w);
}

#define CHAINED(create, name, columns, next) \
    "CREATE " create " " name " INPUT (t STRING) OUTPUT (" columns ") WITH ('provider' = 'openai', " \
    "'endpoint' = 'http://h', 'model' = 'x'" next ");"

static void a_model_that_others_fall_back_on_is_there_and_fits(void **state) {
    static const struct {
        const char *sql;
        int status;
        const char *why;
    } cases[] = {
        {CHAINED("MODEL", "a", "s STRING", ", 'fallback.model' = 'b'"), -ENOENT,
         "option 'fallback.model' of model 'a': got 'b', want a model that exists"},
        {CHAINED("MODEL", "a", "s STRING", ", 'fallback.model' = 'b'") CHAINED("MODEL", "b", "s STRING", ""), 0, NULL},
        {CHAINED("OR REPLACE MODEL", "b", "s STRING", ", 'fallback.model' = 'a'"), -EINVAL,
         "option 'fallback.model' of model 'a': got 'b', which leads back to itself, want a model that is not before it"},
        {CHAINED("OR REPLACE MODEL", "b", "s INT", ""), -EINVAL,
         "model 'a' falls back on it: model 'b': OUTPUT column 's' is INT, want what STRING can hold"},
        {CHAINED("OR REPLACE MODEL", "b", "s INT", "") CHAINED("OR REPLACE MODEL", "a", "s INT", ", 'fallback.model' = 'b'"), 0, NULL},
        {CHAINED("MODEL", "d", "s STRING", "") CHAINED("MODEL", "`c%s`", "s STRING", ", 'fallback.model' = 'd'"), 0, NULL},
        {CHAINED("OR REPLACE MODEL", "d", "s INT", ""), -EINVAL,
         "model 'c%s' falls back on it: model 'd': OUTPUT column 's' is INT, want what STRING can hold"},
    };
    struct world w = {0};
    begin(&w);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        create(&w, cases[i].sql);
        if (w.status != cases[i].status || (cases[i].why != NULL && strcmp(w.why, cases[i].why) != 0)) {
            fail_msg("%zu: %d %s", i, w.status, w.why);
        }
    }
    end(&w);
}

static void a_catalog_can_be_freed_while_it_waits(void **state) {
    struct world w = {0};
    begin(&w);
    catalog_load(w.catalog, on_done, &w);
    catalog_create(w.catalog, slice_of(MODEL("MODEL", "m", "1")), false, on_done, &w);
    catalog_create(w.catalog, slice_of(MODEL("MODEL", "n", "1")), false, on_done, &w);
    catalog_free(w.catalog);
    w.catalog = NULL;
    end(&w); // the store goes after it
    assert_int_equal(w.n_done, 0);
}

int main(void) {
    log_setup("catalog_test", LOG_ERROR);
    if (redis_server_missing()) {
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statements_make_revisions),
        cmocka_unit_test(creates_wait_for_each_other),
        cmocka_unit_test(a_lost_redis_fails_what_was_asked_and_it_can_be_asked_again),
        cmocka_unit_test(a_revision_of_another_coordinator_is_not_overwritten),
        cmocka_unit_test(what_cannot_be_read_any_more_is_left_out),
        cmocka_unit_test(a_model_that_others_fall_back_on_is_there_and_fits),
        cmocka_unit_test(a_catalog_can_be_freed_while_it_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
