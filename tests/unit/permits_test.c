// Which pool a model's calls belong to, and with what limits, when a limits file says so.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

#include "common/limits_file.h"
#include "coordinator/intake.h"

static const char table[] = "pool,provider,account,model,rpm,profile\n"
                            "shared,openai,*,m*,100,bucket\n";

static struct group *group_of(struct world *w, const char *model) {
    int status = 0;
    struct error why = {0};
    struct group *g = group_get(w->core, slice_of(model), 0, SLICE_NONE, &status, &why);
    if (g == NULL) {
        fail_msg("%s: %s", model, why.text);
    }
    return g;
}

static int64_t rpm_of(const struct group *g) {
    return g->pool->limiter.config.limit[LIMIT_REQUESTS];
}

static void test_models_share_the_pool_of_a_row(void **state) {
    struct world *w = world_new(1, "'limit.rpm'='300'");
    struct limits_file *limits;
    assert_int_equal(limits_file_parse(slice_of(table), "t", &limits, NULL), 0);
    world_add_model(w, "m_tight", "'limit.rpm'='50', 'limit.profile'='window'");
    world_add_model(w, "m_open", "");
    world_add_model(w, "other", "'limit.rpm'='300'");
    w->config.limits = limits;
    world_start(w);

    struct group *m = group_of(w, "m"), *other = group_of(w, "other");
    assert_string_equal(m->pool->name, "shared");
    assert_string_equal(m->pool->limiter.config.profile->name, "bucket");
    assert_int_equal(rpm_of(m), 100); // its own is higher
    assert_ptr_not_equal(other->pool, m->pool);
    assert_int_equal(rpm_of(other), 300);

    struct group *tight = group_of(w, "m_tight");
    assert_ptr_equal(tight->pool, m->pool);
    assert_int_equal(rpm_of(m), 50);
    struct group *open = group_of(w, "m_open"); // does not raise it again
    assert_ptr_equal(open->pool, m->pool);
    assert_int_equal(rpm_of(m), 50);
    assert_string_equal(m->pool->limiter.config.profile->name, "bucket");

    group_free(w->core, m);
    group_free(w->core, tight);
    group_free(w->core, open);
    assert_int_equal(rpm_of(group_of(w, "m_open")), 100);
    world_free(w);
    limits_file_free(limits);
}

// revise makes another revision of a model that is there.
static void revise(struct world *w, const char *name, const char *options, uint32_t revision) {
    world_add_model(w, name, options);
    w->models[w->n_models - 1].items[0].model->revision = revision;
    core_models_changed(w->core, w->now_us);
}

static void test_limits_of_a_changed_model_hold_at_once_where_a_row_does(void **state) {
    struct world *w = world_new(1, "");
    struct limits_file *limits;
    assert_int_equal(limits_file_parse(slice_of(table), "t", &limits, NULL), 0);
    world_add_model(w, "m_tight", "'limit.rpm'='50'");
    world_add_model(w, "m_tighter", "'limit.rpm'='40'");
    w->config.limits = limits;
    world_start(w);
    struct group *m = group_of(w, "m"), *tight = group_of(w, "m_tight"), *tighter = group_of(w, "m_tighter");
    assert_int_equal(rpm_of(m), 40);

    revise(w, "m_tighter", "'limit.rpm'='70'", 2);
    assert_int_equal(rpm_of(m), 50); // the other one's
    revise(w, "m_tight", "'limit.rpm'='300'", 2);
    assert_int_equal(rpm_of(m), 70);
    revise(w, "m_tighter", "", 3);
    assert_int_equal(rpm_of(m), 100); // the row's
    revise(w, "m", "'limit.rpm'='20'", 2);
    assert_int_equal(rpm_of(m), 20);

    group_free(w->core, m);
    group_free(w->core, tight);
    group_free(w->core, tighter);
    world_free(w);
    limits_file_free(limits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models_share_the_pool_of_a_row),
        cmocka_unit_test(test_limits_of_a_changed_model_hold_at_once_where_a_row_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
