// Steps of jobs at Anthropic's message batches: each order, and what is special about them.
#include "job_case.h"

#define ANTHROPIC "'provider' = 'anthropic', 'batch.size' = '2', 'max.tokens' = '64'"
#define PLACE "/v1/messages/batches"
#define COUNTS(p, s, e, c, x)                                                                            \
    ",\"request_counts\":{\"processing\":" p ",\"succeeded\":" s ",\"errored\":" e ",\"canceled\":" c    \
    ",\"expired\":" x "}"
#define BATCH(id, status, rest) "{\"id\":\"" id "\",\"type\":\"message_batch\",\"processing_status\":\"" status "\"" rest "}"
#define ROW(name, result) "{\"custom_id\":\"" name "\",\"result\":" result "}\n"
#define GOOD(text)                                                                                       \
    "{\"type\":\"succeeded\",\"message\":{\"id\":\"msg_1\",\"model\":\"x-1\",\"content\":[{\"type\":\"text\","   \
    "\"text\":\"" text "\"}],\"stop_reason\":\"end_turn\",\"usage\":{\"input_tokens\":5,\"output_tokens\":2}}}"
#define ERRORED(type, text)                                                                              \
    "{\"type\":\"errored\",\"error\":{\"type\":\"error\",\"error\":{\"type\":\"" type "\",\"message\":\"" text      \
    "\"},\"request_id\":null}}"

static void the_lines_go_with_the_request(void **state) {
    const struct turn script[] = {
        {.want = "POST " PLACE, .status = 200,
         .has = {"{\"requests\":[{\"custom_id\":\"" LINE_1 "\",\"params\":{\"model\":\"x\",\"max_tokens\":64,",
                 "}},{\"custom_id\":\"" LINE_2 "\",\"params\":{", "}},{\"custom_id\":\"" LINE_3 "\"", "}}]}"},
         .body = BATCH("msgbatch_1", "in_progress", COUNTS("3", "0", "0", "0", "0") ",\"archived_at\":null")},
        {0}};
    struct fixture f;
    case_setup(&f, ANTHROPIC, "", COLUMNS, script);
    case_order(&f, case_job(1, "create"));
    case_three_lines(&f, 1);
    struct message_job_done done = case_done(&f, "ok", "running");
    assert_slice(done.id, "msgbatch_1");
    assert_int_equal(done.total, 3);
    assert_true(done.bytes > 300);
    case_teardown(&f);
}

static void there_is_nothing_to_upload(void **state) {
    const struct turn script[] = {{0}};
    struct fixture f;
    case_setup(&f, ANTHROPIC, "", COLUMNS, script);
    case_order(&f, case_job(1, "upload"));
    case_done(&f, "fatal-config", "");
    case_teardown(&f);
}

static const struct create_case creates[] = {
    {"a lost reply", {.status = 0}, "broken-answer", "", true},
    {"413 of the edge, which is no JSON", {.status = 413, .type = "text/html", .body = "<html>"}, "too-large", "too-large", false},
    {"a limit of the rate", {.status = 429, .header = "retry-after", .value = "3",
                             .body = "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\"}}"},
     "rate-limited", "", false, 3000},
    {"overloaded", {.status = 529, .body = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}"},
     "transient", "", true},
    {"no permission", {.status = 403, .body = "{\"type\":\"error\",\"error\":{\"type\":\"permission_error\",\"message\":\"m\"}}"},
     "fatal-auth", "", false},
};

static void a_create_that_fails_says_what_is_known(void **state) {
    for (size_t i = 0; i < sizeof(creates) / sizeof(creates[0]); i++) {
        case_create_fails(&creates[i], ANTHROPIC, "/v1/messages", "POST " PLACE, NULL);
    }
}

#define AT(time) ",\"created_at\":\"2026-11-21T08:" time "Z\""

static void a_batch_is_found_by_its_time_and_count(void **state) {
    const struct turn script[] = {
        {.want = "GET " PLACE, .status = 200,
         .body = "{\"data\":[" BATCH("msgbatch_9", "in_progress", AT("10:00.123") COUNTS("4", "0", "0", "0", "0")) ","
                 BATCH("msgbatch_8", "in_progress", AT("09:00") COUNTS("2", "0", "0", "0", "0")) "],\"has_more\":true}"},
        {.want = "GET " PLACE, .status = 200,
         .body = "{\"data\":[" BATCH("msgbatch_7", "ended", AT("08:30") COUNTS("0", "2", "1", "0", "0")) ","
                 BATCH("msgbatch_6", "ended", AT("07:00") COUNTS("0", "3", "0", "0", "0")) "],\"has_more\":true}"},
        {0}};
    struct fixture f;
    case_setup(&f, ANTHROPIC, "", COLUMNS, script);
    struct message_job job = case_job(2, "find");
    job.since = 1795248480000; // 2026-11-21T08:08:00Z
    case_order(&f, job);
    assert_slice(case_done(&f, "ok", "ended").id, "msgbatch_7");
    assert_string_equal(f.last_query, "limit=1000&after_id=msgbatch_8");
    case_teardown(&f);
}

static void a_batch_that_is_older_is_another(void **state) {
    const struct turn script[] = {
        {.want = "GET " PLACE, .status = 200,
         .body = "{\"data\":[" BATCH("msgbatch_9", "in_progress", AT("10:00") COUNTS("4", "0", "0", "0", "0")) ","
                 BATCH("msgbatch_6", "ended", AT("07:00") COUNTS("0", "3", "0", "0", "0")) "],\"has_more\":true}"},
        {0}};
    struct fixture f;
    case_setup(&f, ANTHROPIC, "", COLUMNS, script);
    struct message_job job = case_job(2, "find");
    job.since = 1795248480000;
    case_order(&f, job);
    struct message_job_done done = case_done(&f, "ok", "");
    assert_int_equal(done.id.n, 0);
    assert_int_equal(done.total, 0);
    case_teardown(&f);
}

static void a_batch_of_another_job_is_passed_over(void **state) {
    const struct turn script[] = {
        {.want = "GET " PLACE, .status = 200,
         .body = "{\"data\":[" BATCH("msgbatch_9", "in_progress", AT("10:00") COUNTS("3", "0", "0", "0", "0")) ","
                 BATCH("msgbatch_8", "in_progress", AT("09:00") COUNTS("3", "0", "0", "0", "0")) "],\"has_more\":false}"},
        {0}};
    struct fixture f;
    case_setup(&f, ANTHROPIC, "", COLUMNS, script);
    struct message_job job = case_job(2, "find");
    job.since = 1795248480000;
    job.others = SLICE_LIT("\x92\xa1x\xaamsgbatch_9");
    case_order(&f, job);
    assert_slice(case_done(&f, "ok", "running").id, "msgbatch_8");
    case_teardown(&f);
}

// What a poll can tell.
static const struct {
    const char *name, *body, *state;
    uint64_t total;
} polls[] = {
    {"it runs", BATCH("m", "in_progress", COUNTS("3", "0", "0", "0", "0")), "running", 3},
    {"it is being cancelled", BATCH("m", "canceling", COUNTS("3", "0", "0", "0", "0") ",\"cancel_initiated_at\":\"x\""), "running", 3},
    {"it has ended", BATCH("m", "ended", COUNTS("0", "2", "1", "0", "0") ",\"cancel_initiated_at\":null"), "ended", 3},
    {"it was cancelled", BATCH("m", "ended", COUNTS("0", "2", "0", "1", "0") ",\"cancel_initiated_at\":\"x\""), "cancelled", 3},
    {"it has expired", BATCH("m", "ended", COUNTS("0", "1", "0", "0", "2")), "expired", 3},
    {"its results are not kept any more", BATCH("m", "ended", ",\"archived_at\":\"2026-11-21T08:00:00Z\""), "gone", 0},
};

static void a_poll_tells_the_state(void **state) {
    for (size_t i = 0; i < sizeof(polls) / sizeof(polls[0]); i++) {
        const struct turn script[] = {{.want = "GET " PLACE "/m", .status = 200, .body = polls[i].body}, {0}};
        struct fixture f;
        case_setup(&f, ANTHROPIC, "/v1", COLUMNS, script);
        case_order(&f, case_job_of(3, "poll", "m"));
        struct message_job_done done = case_done(&f, "ok", polls[i].state);
        assert_int_equal(done.total, polls[i].total);
        case_teardown(&f);
    }
}

static void errors_are_wrapped_twice_and_what_was_not_asked_costs_nothing(void **state) {
    const struct turn script[] = {
        {.want = "GET " PLACE "/m", .status = 200, .body = BATCH("m", "ended", COUNTS("0", "1", "3", "1", "1"))},
        {.want = "GET " PLACE "/m/results", .status = 200, .type = "application/x-jsonl",
         .body = ROW(LINE_3, ERRORED("invalid_request_error", "prompt is too long: 9 tokens"))
                 ROW(LINE_2, GOOD("[" ITEM("1", "a") "," ITEM("2", "b") "]"))
                 ROW(LINE_1, ERRORED("overloaded_error", "busy"))
                 ROW(LINE_1, ERRORED("authentication_error", "no"))
                 ROW(LINE_1, "{\"type\":\"expired\"}") ROW(LINE_3, "{\"type\":\"canceled\"}") ROW(LINE_3, "{}")},
        {0}};
    struct fixture f;
    case_setup(&f, ANTHROPIC, "", COLUMNS, script);
    case_order(&f, case_job_of(4, "collect", "m"));
    case_answers(&f, 4, 0,
                 "3-1 too-large\n2-2 ok 5/2 0=[\"a\"] 1=[\"b\"]\n1-1 transient\n1-1 fatal-auth\n1-1 unsent\n3-1 unsent\n");
    struct message_job_done done = case_done(&f, "ok", "expired");
    assert_int_equal(done.answers, 6);
    assert_slice(done.detail, "1 rows of the answers cannot be read");
    case_teardown(&f);
}

static void cancel_and_delete(void **state) {
    const struct turn script[] = {
        {.want = "POST " PLACE "/m/cancel", .status = 200, .body = BATCH("m", "canceling", "")},
        {.want = "DELETE " PLACE "/m", .status = 200, .body = "{\"id\":\"m\",\"type\":\"message_batch_deleted\"}"},
        {.want = "DELETE " PLACE "/m", .status = 404,
         .body = "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\",\"message\":\"no\"}}"},
        {0}};
    static const char *const orders[] = {"cancel", "delete", "delete"}, *const states[] = {"running", "", "gone"};
    struct fixture f;
    case_setup(&f, ANTHROPIC, "", COLUMNS, script);
    for (size_t i = 0; i < 3; i++) {
        case_order(&f, case_job_of(4 + i, orders[i], "m"));
        case_done(&f, "ok", states[i]);
    }
    case_teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lines_go_with_the_request),
        cmocka_unit_test(there_is_nothing_to_upload),
        cmocka_unit_test(a_create_that_fails_says_what_is_known),
        cmocka_unit_test(a_batch_is_found_by_its_time_and_count),
        cmocka_unit_test(a_batch_that_is_older_is_another),
        cmocka_unit_test(a_batch_of_another_job_is_passed_over),
        cmocka_unit_test(a_poll_tells_the_state),
        cmocka_unit_test(errors_are_wrapped_twice_and_what_was_not_asked_costs_nothing),
        cmocka_unit_test(cancel_and_delete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
