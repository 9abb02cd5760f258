// Steps of jobs as the coordinator sees them: one step a job, answers ahead of JOB_TAKEN, how steps end,
// and what happens when either side goes away.
#include "job_case.h"

#include "common/json.h"
#include "worker/job_rows.h"

#define OPENAI "'provider' = 'openai', 'batch.size' = '2'"
#define RUNS "{\"id\":\"batch_1\",\"status\":\"in_progress\"}"
#define ENDED "{\"id\":\"batch_1\",\"status\":\"completed\",\"output_file_id\":\"file-o\"}"

static struct message_job poll_of(uint64_t step) {
    return case_job_of(step, "poll", "batch_1");
}

static void a_model_that_is_not_here_is_asked_for(void **state) {
    const struct turn script[] = {{.want = "GET /v1/batches/batch_1", .status = 200, .body = RUNS}, {0}};
    struct fixture f;
    char sql[512];
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    struct message_job job = poll_of(1);
    job.revision = 2;
    case_order(&f, job);
    assert_int_equal(case_expect(&f, MESSAGE_MODEL_GET).model_get.revision, 2);
    jobs_on_welcome(f.jobs); // it may not have come: asked again
    assert_int_equal(case_expect(&f, MESSAGE_MODEL_GET).model_get.revision, 2);
    snprintf(sql, sizeof(sql),
             "CREATE MODEL m " COLUMNS " WITH (" OPENAI ", 'endpoint' = '%s/v1', 'model' = 'x', 'api_key' = '${JOB_TEST_KEY}');", f.base);
    held_add(&f.models, SLICE_LIT("m"), 2, slice_of(sql));
    jobs_on_model(f.jobs);
    case_done(&f, "ok", "running");
    case_teardown(&f);
}

// Orders that end without a request.
static const struct {
    const char *name, *with, *path, *order, *job_name, *outcome;
    uint64_t revision;
} refusals[] = {
    {"a provider without such an API", "'provider' = 'ollama'", "", "poll", "j", "fatal-config", 1},
    {"an order that is none", OPENAI, "", "dance", "j", "fatal-config", 1},
    {"an endpoint from which nothing follows", OPENAI, "/proxy/a", "poll", "j", "fatal-config", 1},
    {"a name that cannot stand in a request", OPENAI, "", "poll", "a\"b", "fatal-config", 1},
    {"a revision that does not exist", OPENAI, "", "poll", "j", "fatal-config", 3},
    {"a credential that is not here", OPENAI ", 'headers' = '{\"a\":\"${HEADRACE_NOT_SET}\"}'", "", "poll", "j", "no-credential", 1},
};

static void what_cannot_be_done_is_said(void **state) {
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct turn script[] = {{0}};
        struct fixture f;
        case_setup(&f, refusals[i].with, refusals[i].path, COLUMNS, script);
        held_add(&f.models, SLICE_LIT("m"), 3, SLICE_NONE);
        struct message_job job = case_job(1, refusals[i].order);
        job.name = slice_of(refusals[i].job_name);
        job.revision = refusals[i].revision;
        case_order(&f, job);
        struct message_job_done done = case_expect(&f, MESSAGE_JOB_DONE).job_done;
        if (!slice_is(done.outcome, refusals[i].outcome) || done.detail.n == 0) {
            fail_msg("%s: got %.*s: %.*s", refusals[i].name, SLICE_FMT(done.outcome), SLICE_FMT(done.detail));
        }
        case_teardown(&f);
    }
}

static void an_end_is_repeated_until_it_is_taken(void **state) {
    const struct turn script[] = {{.want = "GET /v1/batches/batch_1", .status = 200, .body = RUNS}, {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    f.deaf = true; // the coordinator is away when the step ends
    case_order(&f, poll_of(1));
    while (jobs_busy(f.jobs) > 0) {
        uv_run(loop_uv(f.loop), UV_RUN_ONCE);
    }
    f.deaf = false;
    jobs_on_writable(f.jobs);
    case_done(&f, "ok", "running");
    jobs_on_ping(f.jobs);
    case_done(&f, "ok", "running");
    jobs_on_welcome(f.jobs);
    case_done(&f, "ok", "running");
    case_order(&f, poll_of(1)); // the order comes again
    case_done(&f, "ok", "running");
    struct message taken = {.kind = MESSAGE_TAKEN, .taken = {.calls = SLICE_LIT("\x92\x92\x08\x01\x92\x07\x01")}};
    case_say(&f, &taken);
    jobs_on_ping(f.jobs);
    assert_int_equal(f.n_frames, f.n_read);
    case_teardown(&f);
}

static void a_new_step_takes_the_place_of_the_old(void **state) {
    const struct turn script[] = {{.want = "GET /v1/batches/batch_1", .waits = true},
                                  {.want = "GET /v1/batches/batch_1", .status = 200, .body = RUNS}, {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    case_order(&f, poll_of(4));
    while (f.n_turns == 0) {
        uv_run(loop_uv(f.loop), UV_RUN_ONCE);
    }
    case_order(&f, poll_of(5));
    case_order(&f, poll_of(4)); // late
    assert_int_equal(case_done(&f, "ok", "running").step, 5);
    assert_int_equal(f.n_frames, 1);
    case_teardown(&f);
}

static void lines_that_come_twice_or_late_are_not_written_twice(void **state) {
    const struct turn script[] = {{.want = "POST /v1/files", .has = {LINE_1, LINE_3}, .status = 200, .body = "{\"id\":\"f\"}"}, {0}};
    struct fixture f;
    struct buf lines;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    buf_init(&lines, 1 << 16);
    case_pack_line(&lines, LINE_1, 1, "one");
    case_order(&f, case_job(1, "upload"));
    case_lines(&f, 1, 0, 1, buf_slice(&lines), false);
    assert_int_equal(case_expect(&f, MESSAGE_JOB_GOT).job_got.upto, 1);
    case_lines(&f, 1, 0, 1, buf_slice(&lines), false); // again
    assert_int_equal(case_expect(&f, MESSAGE_JOB_GOT).job_got.upto, 1);
    case_lines(&f, 1, 5, 1, buf_slice(&lines), true); // one before it is missing
    assert_int_equal(case_expect(&f, MESSAGE_JOB_GOT).job_got.upto, 1);
    buf_clear(&lines);
    case_pack_line(&lines, LINE_3, 1, "three");
    case_lines(&f, 1, 1, 1, buf_slice(&lines), true);
    assert_int_equal(case_expect(&f, MESSAGE_JOB_GOT).job_got.upto, 2);
    case_done(&f, "ok", "");
    assert_int_equal(f.status.job_lines, 2);
    buf_free(&lines);
    case_teardown(&f);
}

static void nonsense_in_lines_ends_the_step(void **state) {
    const struct turn script[] = {{0}};
    const struct slice nonsense[] = {SLICE_LIT("\xc1"), SLICE_LIT("\x94\xa1x\x01\xc4\x00\xc4\x00"), SLICE_NONE};
    for (size_t i = 0; i < 3; i++) {
        struct fixture f;
        case_setup(&f, OPENAI, "/v1", COLUMNS, script);
        case_order(&f, case_job(1, "upload"));
        case_lines(&f, 1, 0, 1, nonsense[i], true);
        case_done(&f, "fatal-config", "");
        case_teardown(&f);
    }
}

// Draining: what is under way ends at once but a create, which may be coming into being.
static void draining_waits_for_a_create_alone(void **state) {
    const struct turn script[] = {{.want = "POST /v1/batches", .waits = true}, {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    struct message_job job = case_job(1, "create");
    job.file = SLICE_LIT("file-1");
    case_order(&f, job);
    while (f.n_turns == 0) {
        uv_run(loop_uv(f.loop), UV_RUN_ONCE);
    }
    struct message_job other = case_job(1, "upload");
    other.job = 8;
    case_order(&f, other);
    jobs_drain(f.jobs);
    struct message_job_done done = case_done(&f, "unsent", "");
    assert_int_equal(done.job, 8);
    assert_false(done.sent);
    assert_int_equal(jobs_busy(f.jobs), 1);
    other.job = 9;
    case_order(&f, other);
    assert_int_equal(case_done(&f, "unsent", "").job, 9);
    jobs_stop(f.jobs);
    done = case_done(&f, "broken-answer", "");
    assert_int_equal(done.job, 7);
    assert_true(done.sent);
    case_teardown(&f);
}

// ---- Many answers -------------------------------------------------------------------------------

#define MANY 6000
#define LONG 1000 // bytes of an answer

static char *many_rows(void) {
    struct buf rows;
    buf_init(&rows, 1 << 26);
    char text[LONG + 1];
    memset(text, 'a', LONG);
    text[LONG] = '\0';
    for (int i = 0; i < MANY; i++) {
        int rc = buf_addf(&rows,
                          "{\"custom_id\":\"hr1-%032d-1\",\"response\":{\"status_code\":200,\"body\":{\"choices\":[{\"message\":"
                          "{\"content\":\"[{\\\"index\\\":1,\\\"s\\\":\\\"%s\\\"}]\"}}]}}}\n", i, text);
        assert_int_equal(rc, 0);
    }
    return buf_take(&rows);
}

static void at_most_four_messages_are_ahead_and_all_come_again(void **state) {
    char *rows = many_rows();
    const struct turn script[] = {{.want = "GET /v1/batches/batch_1", .status = 200, .body = ENDED},
                                  {.want = "GET /v1/files/file-o/content", .status = 200, .body = rows}, {0}};
    struct fixture f;
    uint64_t upto = 0, n_messages = 0;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    struct message_job job = poll_of(1);
    job.order = SLICE_LIT("collect");
    case_order(&f, job);
    for (size_t i = 0; i < 4; i++) {
        struct message m = case_expect(&f, MESSAGE_JOB_ANSWERS);
        assert_int_equal(m.job_answers.first, upto);
        assert_true(m.job_answers.reports.n <= 256 * 1024);
        upto += m.job_answers.count;
    }
    for (size_t i = 0; i < 20; i++) {
        uv_run(loop_uv(f.loop), UV_RUN_NOWAIT);
    }
    assert_int_equal(f.n_frames, 4);
    jobs_on_welcome(f.jobs); // they may have been lost
    for (size_t i = 0; i < 4; i++) {
        (void)case_expect(&f, MESSAGE_JOB_ANSWERS);
    }
    while (upto < MANY) {
        case_taken(&f, 1, upto);
        struct message m = case_expect(&f, MESSAGE_JOB_ANSWERS);
        assert_int_equal(m.job_answers.first, upto);
        upto += m.job_answers.count;
        n_messages++;
    }
    assert_true(n_messages > 1);
    jobs_on_ping(f.jobs);
    assert_int_equal(f.n_read, f.n_frames); // not before all are durable
    case_taken(&f, 1, MANY);
    assert_int_equal(case_done(&f, "ok", "ended").answers, MANY);
    free(rows);
    case_teardown(&f);
}

// ---- Rows ---------------------------------------------------------------------------------------

static const struct {
    const char *name, *array, *text, *want; // rows with '|' between, '!' for -EMSGSIZE, "~-71" at the end: errno
} row_cases[] = {
    {"lines", NULL, "a\nbb\r\n\n  \nccc", "a|bb|ccc|"},
    {"nothing", NULL, "", ""},
    {"an array", "r", "{\"x\":[1,{\"r\":2}],\"r\":[{\"a\":\"]\"}, {\"b\":[{}]} ],\"y\":[{}]}", "{\"a\":\"]\"}|{\"b\":[{}]}|"},
    {"of two arrays of the name the first", "r", "{\"r\":[{\"a\":1}],\"z\":{\"r\":[{\"b\":2}]}}", "{\"a\":1}|"},
    {"a member of the name around it", "r", "{\"r\":{\"r\":[{\"a\":\"\\\"}\"}]}}", "{\"a\":\"\\\"}\"}|"},
    {"no such array", "r", "{\"a\":[{}]}", ""},
    {"an empty array", "r", "{\"r\":[ ]}", ""},
    {"cut in an element", "r", "{\"r\":[{\"a\":1},{\"b\"", "{\"a\":1}|~"},
    {"cut behind one", "r", "{\"r\":[{\"a\":1}", "{\"a\":1}|~"},
    {"no JSON", "r", "]]}}\"", "~"},
    {"a string cut in an element", "r", "{\"r\":[{\"a\":\"b}, {\"a\":\"]}]}]}\"}, {\"c\":1}],\"d\":[{}]}", "{\"a\":\"b}, {\"a\":\"]|~"},
};

static void rows_are_lines_or_elements(void **state) {
    for (size_t i = 0; i < sizeof(row_cases) / sizeof(row_cases[0]); i++) {
        struct job_spool spool;
        struct job_rows rows;
        struct slice row;
        struct buf got;
        int rc;
        buf_init(&got, 4096);
        assert_int_equal(job_spool_open(&spool, job_spool_folder(""), NULL), 0);
        assert_int_equal(job_spool_add(&spool, slice_of(row_cases[i].text)), 0);
        assert_int_equal(job_spool_flush(&spool), 0);
        job_rows_init(&rows, &spool, row_cases[i].array);
        while ((rc = job_rows_next(&rows, &row)) == 1) {
            assert_int_equal(buf_addf(&got, "%.*s|", SLICE_FMT(row)), 0);
        }
        assert_int_equal(rc == 0 ? 0 : buf_add_byte(&got, '~'), 0);
        struct json_object *around = NULL; // what is around rows can be read, however damaged they are
        bool is_json = json_parse(buf_slice(&rows.around), &around, NULL) == 0;
        json_object_put(around);
        assert_true(row_cases[i].array == NULL || is_json || !rows.found);
        if (!slice_is(buf_slice(&got), row_cases[i].want)) {
            fail_msg("%s: got %.*s, want %s", row_cases[i].name, SLICE_FMT(buf_slice(&got)), row_cases[i].want);
        }
        buf_free(&got);
        job_rows_free(&rows);
        job_spool_close(&spool);
    }
}

static void a_folder_that_is_not_there_is_named(void **state) {
    struct job_spool spool;
    struct error why = {0};
    assert_true(job_spool_open(&spool, "/nonexistent/folder", &why) < 0);
    assert_non_null(strstr(why.text, "/nonexistent/folder"));
    job_spool_close(&spool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_that_is_not_here_is_asked_for),
        cmocka_unit_test(what_cannot_be_done_is_said),
        cmocka_unit_test(an_end_is_repeated_until_it_is_taken),
        cmocka_unit_test(a_new_step_takes_the_place_of_the_old),
        cmocka_unit_test(lines_that_come_twice_or_late_are_not_written_twice),
        cmocka_unit_test(nonsense_in_lines_ends_the_step),
        cmocka_unit_test(draining_waits_for_a_create_alone),
        cmocka_unit_test(at_most_four_messages_are_ahead_and_all_come_again),
        cmocka_unit_test(rows_are_lines_or_elements),
        cmocka_unit_test(a_folder_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
