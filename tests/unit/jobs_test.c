// Jobs at a provider's batch API, from records to results, against a store and a worker that are a few arrays
// (core_world.h): the test is the worker, and says what the provider does.
#include "core_world.h"
#include "coordinator/bill.h"
#include "coordinator/jobs.h"
#include "proto/pack.h"

static const char batch_mode[] =
    "'mode'='batch', 'batch.timeout.ms'='100', 'batch.job.timeout'='1000', 'batch.job.poll'='100', "
    "'price.input'='1', 'price.output'='1'";

// The lines of the job that the test's worker has.
struct lines {
    char name[1024][64];
    uint64_t count[1024];
    size_t n;
    struct buf values; // of the first record of each line, as it came
    bool last;
    uint64_t step, job;
};

static const struct message *find_last(struct world *w, enum message_kind kind) {
    const struct message *m = NULL, *next;
    size_t at = 0;
    while ((next = world_find(w, &at, NULL, kind)) != NULL) {
        m = next;
    }
    return m;
}

// find_order returns the newest order of a kind, or NULL; want_order wants one.
static const struct message_job *find_order(struct world *w, const char *order) {
    const struct message *m = NULL, *next;
    size_t at = 0;
    while ((next = world_find(w, &at, NULL, MESSAGE_JOB)) != NULL) {
        m = slice_is(next->job.order, order) ? next : m;
    }
    return m != NULL ? &m->job : NULL;
}

static const struct message_job *want_order(struct world *w, const char *order) {
    const struct message_job *job = find_order(w, order);
    if (job == NULL) {
        fail_msg("%s was not ordered", order);
    }
    return job;
}

// pass lets time pass in which the worker is heard.
static void pass(struct world *w, int64_t ms) {
    for (int64_t left = ms; left > 0; left -= 500) {
        world_message(w, "w1", (struct message){.kind = MESSAGE_PING});
        world_pass(w, left < 500 ? left : 500);
        world_settle(w);
    }
}

static size_t count_orders(struct world *w, const char *order) {
    const struct message *next;
    size_t at = 0, n = 0;
    while ((next = world_find(w, &at, NULL, MESSAGE_JOB)) != NULL) {
        n += slice_is(next->job.order, order);
    }
    return n;
}

static void read_lines(struct world *w, const struct message_job *job, struct lines *lines) {
    size_t at = 0;
    lines->n = 0;
    lines->last = false;
    lines->job = job->job;
    lines->step = job->step;
    const struct message *m;
    while ((m = world_find(w, &at, NULL, MESSAGE_JOB_LINES)) != NULL) {
        struct slice rest = m->job_lines.lines, name;
        uint32_t n;
        if (m->job_lines.step != job->step || m->job_lines.job != job->job) {
            continue;
        }
        assert_int_equal(m->job_lines.first, lines->n);
        for (uint64_t i = 0; i < m->job_lines.count; i++) {
            struct pack_value records, corrections;
            assert_int_equal(pack_array_next(&rest, &n), 0);
            assert_int_equal(n, 4);
            assert_int_equal(pack_str_next(&rest, &name), 0);
            assert_int_equal(pack_uint_next(&rest, &lines->count[lines->n]), 0);
            assert_int_equal(pack_next(&rest, &records), 1);
            assert_int_equal(pack_next(&rest, &corrections), 1);
            slice_copy(name, lines->name[lines->n], 64);
            lines->n++;
        }
        lines->last = m->job_lines.last;
    }
}

static void done(struct world *w, const struct message_job *job, struct message_job_done d) {
    struct message m = {.kind = MESSAGE_JOB_DONE, .job_done = d};
    m.job_done.job = job->job;
    m.job_done.step = job->step;
    if (m.job_done.outcome.n == 0) {
        m.job_done.outcome = SLICE_LIT("ok");
    }
    world_message(w, "w1", m);
    world_settle(w);
}

// add_answer packs the report of a line: each of its records is answered with "yes".
static void add_answer(struct buf *reports, const char *name, uint64_t count, enum outcome outcome) {
    struct buf items, frame;
    buf_init(&items, 1 << 16);
    buf_init(&frame, 1 << 16);
    static const char yes[] = "\x91\xa3yes";
    for (uint64_t i = 0; i < count && outcome == OUTCOME_OK; i++) {
        assert_int_equal(item_pack(&items, i, OUTCOME_OK, SLICE_LIT(yes)), 0);
    }
    struct message m = {.kind = MESSAGE_REPORT,
                        .report = {.outcome = slice_of(outcome_of(outcome)->text), .line = slice_of(name),
                                   .items = buf_slice(&items), .http_status = 200, .sent = true,
                                   .usage_known = outcome == OUTCOME_OK, .input_tokens = 1000,
                                   .output_tokens = 1000}};
    assert_int_equal(message_pack(&m, &frame), 0);
    assert_int_equal(pack_bin(reports, buf_slice(&frame)), 0);
    buf_free(&items);
    buf_free(&frame);
}

// answers brings the answers of lines from..to-1 in one chunk.
static void answers(struct world *w, const struct message_job *job, const struct lines *lines, size_t from,
                    size_t to, uint64_t first) {
    struct buf reports;
    buf_init(&reports, 1 << 24);
    for (size_t i = from; i < to; i++) {
        add_answer(&reports, lines->name[i], lines->count[i], OUTCOME_OK);
    }
    world_message(w, "w1", (struct message){.kind = MESSAGE_JOB_ANSWERS,
                                            .job_answers = {.job = job->job, .step = job->step, .first = first,
                                                            .count = to - from, .reports = buf_slice(&reports)}});
    buf_free(&reports);
}

static size_t count_results(struct world *w, const char *needle) {
    struct buf out;
    world_collect(w, &out);
    size_t n = count_text(&out, needle);
    buf_free(&out);
    return n;
}

// start_job takes records in until a job of them is about to be uploaded.
static struct world *start_job(uint32_t n_partitions, const char *more, size_t n_records) {
    char options[1024];
    snprintf(options, sizeof(options), "%s%s", batch_mode, more);
    struct world *w = world_start_with(n_partitions, options, 4);
    world_append(w, "p1", 1, n_records);
    world_message(w, "p1", (struct message){.kind = MESSAGE_FLUSH});
    world_settle(w);
    return w;
}

// bring takes a job from its upload to its binding.
static void bring(struct world *w, struct lines *lines, const char *id) {
    read_lines(w, want_order(w, "upload"), lines);
    assert_true(lines->last);
    done(w, want_order(w, "upload"), (struct message_job_done){.file = SLICE_LIT("file-1"), .bytes = 100});
    const struct message_job *create = want_order(w, "create");
    assert_true(slice_is(create->file, "file-1"));
    assert_int_equal(create->lines, lines->n);
    done(w, create, (struct message_job_done){.id = slice_of(id)});
}

// end waits for the next look at the job, and says how it is.
static void end(struct world *w, const char *state) {
    size_t before = count_orders(w, "poll");
    for (int i = 0; i < 100 && count_orders(w, "poll") == before; i++) {
        pass(w, 100);
    }
    done(w, want_order(w, "poll"), (struct message_job_done){.state = slice_of(state), .total = 10});
}

static void test_records_go_through_a_job(void **state) {
    struct world *w = start_job(4, "", 10);
    struct lines lines;
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 0);
    bring(w, &lines, "batch_1");
    assert_int_equal(lines.n, 10);
    done(w, want_order(w, "create"), (struct message_job_done){.id = SLICE_LIT("batch_1")}); // said again
    end(w, "running");
    end(w, "ended");
    const struct message_job *collect = want_order(w, "collect");
    assert_true(slice_is(collect->id, "batch_1"));
    answers(w, collect, &lines, 0, 4, 0);
    assert_int_equal(world_count(w, "w1", MESSAGE_JOB_TAKEN), 0); // not durable yet
    world_settle(w);
    assert_int_equal(find_last(w, MESSAGE_JOB_TAKEN)->job_taken.upto, 4);
    answers(w, collect, &lines, 4, 10, 4);
    done(w, collect, (struct message_job_done){.answers = 10});
    assert_int_equal(find_last(w, MESSAGE_JOB_TAKEN)->job_taken.upto, 10);
    assert_true(slice_is(want_order(w, "delete")->file, "file-1"));
    assert_int_equal(want_order(w, "delete")->id.n, 0); // the job itself stays
    done(w, want_order(w, "delete"), (struct message_job_done){0});
    assert_int_equal(count_results(w, "\"sentiment\":\"yes\""), 10);
    assert_int_equal(w->status.jobs_made, 1);
    assert_int_equal(w->status.jobs_twice, 0);
    assert_int_equal(w->status.lines_answered, 10);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(w->partitions[i].n_batches, 0);
    }
    world_free(w);
}

static void test_prompts_of_many_records_are_lines(void **state) {
    struct world *w = start_job(1, ", 'batch.size'='4'", 10);
    struct lines lines;
    bring(w, &lines, "b");
    assert_int_equal(lines.n, 3);
    assert_int_equal(lines.count[0] + lines.count[1] + lines.count[2], 10);
    end(w, "ended");
    answers(w, want_order(w, "collect"), &lines, 0, 3, 0);
    done(w, want_order(w, "collect"), (struct message_job_done){.answers = 3});
    assert_int_equal(count_results(w, "\"sentiment\":\"yes\""), 10);
    world_free(w);
}

static void test_nothing_is_sent_before_the_plan_is_durable(void **state) {
    struct world *w = world_start_with(4, batch_mode, 4);
    world_append(w, "p1", 1, 10);
    world_message(w, "p1", (struct message){.kind = MESSAGE_FLUSH});
    size_t n_jobs = 0;
    for (int i = 0; i < 20 && n_jobs == 0; i++) {
        world_turn(w);
        for (uint32_t p = 0; p < 4; p++) {
            n_jobs += w->partitions[p].n_jobs;
        }
        assert_true(n_jobs > 0 || world_count(w, "w1", MESSAGE_JOB) == 0);
        world_confirm(w);
    }
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_JOB), 1);
    world_free(w);
}

static void test_a_job_is_planned_when_it_is_full_or_old(void **state) {
    struct world *w = world_start_with(1, "'mode'='batch', 'batch.job.rows'='4', 'batch.job.timeout'='5000', "
                                          "'batch.timeout.ms'='10', 'batch.job.poll'='100'", 4);
    world_append(w, "p1", 1, 6);
    world_settle(w);
    struct lines lines;
    read_lines(w, want_order(w, "upload"), &lines);
    assert_int_equal(lines.n, 4);
    assert_int_equal(world_count(w, "w1", MESSAGE_JOB), 1);
    pass(w, 6000);
    read_lines(w, want_order(w, "upload"), &lines);
    assert_int_equal(lines.n, 2);
    assert_int_equal(world_count(w, "w1", MESSAGE_JOB), 2);
    world_free(w);
}

static void test_lines_without_an_answer_are_asked_again(void **state) {
    struct world *w = start_job(2, "", 10);
    struct lines lines, again;
    bring(w, &lines, "b");
    end(w, "expired");
    answers(w, want_order(w, "collect"), &lines, 0, 6, 0);
    done(w, want_order(w, "collect"), (struct message_job_done){.answers = 6});
    done(w, want_order(w, "delete"), (struct message_job_done){0});
    assert_int_equal(count_results(w, "yes"), 6);
    assert_int_equal(count_orders(w, "upload"), 2);
    bring(w, &again, "c");
    assert_int_equal(again.n, 4);
    for (size_t i = 0; i < again.n; i++) { // the same records have the same name
        bool is_same = false;
        for (size_t k = 6; k < 10; k++) {
            is_same |= strcmp(again.name[i], lines.name[k]) == 0;
        }
        assert_true(is_same);
    }
    end(w, "ended");
    answers(w, want_order(w, "collect"), &again, 0, 4, 0);
    done(w, want_order(w, "collect"), (struct message_job_done){.answers = 4});
    assert_int_equal(count_results(w, "yes"), 10);
    world_free(w);
}

static void test_a_line_that_cannot_be_written_goes_back_at_once(void **state) {
    struct world *w = start_job(1, ", 'batch.size'='2'", 10);
    struct lines lines, halves;
    struct buf reports;
    const struct message_job upload = *want_order(w, "upload");
    read_lines(w, &upload, &lines);
    assert_int_equal(lines.n, 5);
    buf_init(&reports, 1 << 20);
    add_answer(&reports, lines.name[1], 2, OUTCOME_TOO_LARGE);
    world_message(w, "w1", (struct message){.kind = MESSAGE_JOB_ANSWERS,
                                            .job_answers = {.job = upload.job, .step = upload.step, .first = 0,
                                                            .count = 1, .reports = buf_slice(&reports)}});
    buf_free(&reports);
    world_settle(w);
    assert_int_equal(find_last(w, MESSAGE_JOB_TAKEN)->job_taken.upto, 1); // durable
    const struct message_job next = *want_order(w, "upload");
    assert_true(next.job != upload.job); // the step goes on, and the halves are lines of another job
    read_lines(w, &next, &halves);
    assert_int_equal(halves.n, 2);
    assert_int_equal(halves.count[0] + halves.count[1], 2);
    done(w, &upload, (struct message_job_done){.file = SLICE_LIT("file-1")});
    assert_int_equal(want_order(w, "create")->job, upload.job);
    assert_int_equal(want_order(w, "create")->lines, 4);
    done(w, want_order(w, "create"), (struct message_job_done){.id = SLICE_LIT("b")});
    end(w, "ended");
    assert_int_equal(want_order(w, "collect")->skip, 0); // nothing of the provider's was taken yet
    assert_int_equal(w->status.lines_back, 1);
    assert_int_equal(w->status.lines_dropped, 0);
    world_free(w);
}

static void test_the_cost_is_that_of_the_batch_api(void **state) {
    struct world *w = start_job(1, "", 2);
    struct group *g = w->core->groups;
    g->bill->price.batch = 0.5;
    struct lines lines;
    bring(w, &lines, "b");
    end(w, "ended");
    answers(w, want_order(w, "collect"), &lines, 0, 2, 0);
    done(w, want_order(w, "collect"), (struct message_job_done){.answers = 2});
    assert_true(w->status.cost > 0.00199 && w->status.cost < 0.00201); // 2 * 2000 tokens at 1 USD a million, halved
    world_free(w);
}

static const char auto_mode[] = "'mode'='auto', 'batch.timeout.ms'='10', 'batch.job.timeout'='100', 'batch.job.poll'='100'";

static void test_auto_sends_by_jobs_what_can_wait(void **state) {
    static const struct {
        const char *what, *deadline;
        size_t n_calls, n_jobs;
    } cases[] = {
        {"no deadline", "0", 0, 1},
        {"two days", "172800000", 0, 1},
        {"an hour", "3600000", 3, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char options[512];
        snprintf(options, sizeof(options), "%s, 'deadline'='%s'", auto_mode, cases[i].deadline);
        struct world *w = world_start_with(1, options, 8);
        world_append(w, "p1", 1, 3);
        world_message(w, "p1", (struct message){.kind = MESSAGE_FLUSH});
        world_settle(w);
        if (world_count(w, "w1", MESSAGE_DISPATCH) != cases[i].n_calls ||
            world_count(w, "w1", MESSAGE_JOB) != cases[i].n_jobs) {
            fail_msg("%s: got %zu calls and %zu jobs", cases[i].what, world_count(w, "w1", MESSAGE_DISPATCH),
                     world_count(w, "w1", MESSAGE_JOB));
        }
        world_free(w);
    }
}

static void test_a_job_that_misses_a_deadline_is_cancelled_and_the_rest_goes_online(void **state) {
    struct world *w = start_job(1, ", 'deadline'='20000'", 4);
    struct lines lines;
    bring(w, &lines, "b");
    for (int i = 0; i < 60 && find_order(w, "cancel") == NULL; i++) {
        size_t n = count_orders(w, "poll");
        pass(w, 500);
        if (count_orders(w, "poll") > n) {
            done(w, want_order(w, "poll"), (struct message_job_done){.state = SLICE_LIT("running")});
        }
    }
    assert_true(slice_is(want_order(w, "cancel")->id, "b"));
    done(w, want_order(w, "cancel"), (struct message_job_done){0});
    end(w, "cancelled");
    answers(w, want_order(w, "collect"), &lines, 0, 1, 0);
    done(w, want_order(w, "collect"), (struct message_job_done){.answers = 1});
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 3);
    assert_int_equal(count_orders(w, "upload"), 1);
    assert_int_equal(w->status.jobs_late, 1);
    world_answer_all(w);
    assert_int_equal(count_results(w, "\"error\":null"), 4);
    world_free(w);
}

static void test_a_full_queue_is_waited_for_with_the_same_file(void **state) {
    struct world *w = start_job(2, "", 4);
    struct lines lines;
    read_lines(w, want_order(w, "upload"), &lines);
    done(w, want_order(w, "upload"), (struct message_job_done){.file = SLICE_LIT("file-1")});
    done(w, want_order(w, "create"), (struct message_job_done){.outcome = SLICE_LIT("rate-limited"),
                                                               .state = SLICE_LIT("full")});
    assert_int_equal(count_orders(w, "create"), 1);
    pass(w, 2000);
    assert_int_equal(count_orders(w, "create"), 2);
    done(w, want_order(w, "create"), (struct message_job_done){.id = SLICE_LIT("b")});
    end(w, "full"); // it says so only now
    pass(w, 3000);
    assert_int_equal(count_orders(w, "create"), 3);
    assert_true(slice_is(want_order(w, "create")->file, "file-1"));
    done(w, want_order(w, "create"), (struct message_job_done){.id = SLICE_LIT("c")});
    end(w, "ended");
    answers(w, want_order(w, "collect"), &lines, 0, 4, 0);
    done(w, want_order(w, "collect"), (struct message_job_done){.answers = 4});
    assert_int_equal(count_results(w, "yes"), 4);
    assert_int_equal(count_orders(w, "upload"), 1);
    assert_int_equal(w->status.jobs_full, 2);
    world_free(w);
}

static void test_a_job_that_is_too_large_goes_as_two(void **state) {
    struct world *w = start_job(2, "", 6);
    done(w, want_order(w, "upload"), (struct message_job_done){.outcome = SLICE_LIT("too-large"),
                                                               .state = SLICE_LIT("too-large")});
    assert_int_equal(count_orders(w, "upload"), 3);
    struct lines lines;
    read_lines(w, want_order(w, "upload"), &lines);
    assert_int_equal(lines.n, 3);
    world_free(w);
}

static void test_a_bad_line_is_to_blame_alone(void **state) {
    struct world *w = start_job(2, "", 5);
    struct lines lines, again;
    bring(w, &lines, "b");
    size_t before = count_orders(w, "poll");
    for (int i = 0; i < 100 && count_orders(w, "poll") == before; i++) {
        pass(w, 100);
    }
    done(w, want_order(w, "poll"), (struct message_job_done){.state = SLICE_LIT("failed"), .bad_line = 2});
    done(w, want_order(w, "collect"), (struct message_job_done){0});
    assert_int_equal(count_results(w, "fatal-request"), 1);
    bring(w, &again, "c");
    assert_int_equal(again.n, 4);
    for (size_t i = 0; i < again.n; i++) {
        assert_string_not_equal(again.name[i], lines.name[1]);
    }
    world_free(w);
}

static void test_a_job_that_is_gone_is_counted_and_asked_again(void **state) {
    struct world *w = start_job(2, "", 5);
    struct lines lines, again;
    bring(w, &lines, "b");
    end(w, "gone");
    assert_int_equal(w->status.jobs_gone, 1);
    bring(w, &again, "c");
    assert_int_equal(again.n, 5);
    world_free(w);
}

static void test_a_refusal_of_the_whole_job_stops_the_pool(void **state) {
    struct world *w = start_job(2, "", 5);
    done(w, want_order(w, "upload"), (struct message_job_done){.outcome = SLICE_LIT("fatal-request"),
                                                               .detail = SLICE_LIT("no such model")});
    pass(w, 60000);
    assert_int_equal(count_orders(w, "upload"), 1);
    core_models_changed(w->core, w->now_us); // goes on by command
    pass(w, 60000);
    assert_int_equal(count_orders(w, "upload"), 2);
    world_free(w);
}

static void test_only_so_many_jobs_are_at_the_provider(void **state) {
    struct world *w = start_job(1, ", 'batch.job.rows'='2', 'batch.job.concurrency'='2'", 10);
    pass(w, 1000);
    assert_int_equal(w->core->groups->n_jobs, 5);
    assert_int_equal(count_orders(w, "upload"), 2);
    world_free(w);
}

static void test_no_job_is_begun_while_an_adopted_one_has_answers_to_bring(void **state) {
    char options[1024];
    snprintf(options, sizeof(options), "%s, 'batch.job.concurrency'='1'", batch_mode);
    struct world *w = world_start_with(1, options, 4);
    world_message(w, "cli", (struct message){.kind = MESSAGE_JOBS,
                                             .jobs = {.action = SLICE_LIT("adopt"), .job = SLICE_LIT("batch_1"),
                                                      .model = SLICE_LIT("m")}});
    world_append(w, "p1", 1, 5);
    world_message(w, "p1", (struct message){.kind = MESSAGE_FLUSH});
    world_settle(w);
    end(w, "ended");
    const struct message_job *collect = want_order(w, "collect");
    assert_true(slice_is(collect->id, "batch_1"));
    pass(w, 1000);
    assert_int_equal(count_orders(w, "upload"), 0);
    done(w, collect, (struct message_job_done){.answers = 0});
    assert_int_equal(count_orders(w, "upload"), 1); // it had none for them
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_go_through_a_job),
        cmocka_unit_test(test_prompts_of_many_records_are_lines),
        cmocka_unit_test(test_nothing_is_sent_before_the_plan_is_durable),
        cmocka_unit_test(test_a_job_is_planned_when_it_is_full_or_old),
        cmocka_unit_test(test_lines_without_an_answer_are_asked_again),
        cmocka_unit_test(test_a_line_that_cannot_be_written_goes_back_at_once),
        cmocka_unit_test(test_the_cost_is_that_of_the_batch_api),
        cmocka_unit_test(test_auto_sends_by_jobs_what_can_wait),
        cmocka_unit_test(test_a_job_that_misses_a_deadline_is_cancelled_and_the_rest_goes_online),
        cmocka_unit_test(test_a_full_queue_is_waited_for_with_the_same_file),
        cmocka_unit_test(test_a_job_that_is_too_large_goes_as_two),
        cmocka_unit_test(test_a_bad_line_is_to_blame_alone),
        cmocka_unit_test(test_a_job_that_is_gone_is_counted_and_asked_again),
        cmocka_unit_test(test_a_refusal_of_the_whole_job_stops_the_pool),
        cmocka_unit_test(test_only_so_many_jobs_are_at_the_provider),
        cmocka_unit_test(test_no_job_is_begun_while_an_adopted_one_has_answers_to_bring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
