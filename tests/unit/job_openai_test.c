// Steps of jobs at OpenAI's batch API: each order, and what can go wrong at the provider.
#include "job_case.h"

#define OPENAI "'provider' = 'openai', 'batch.size' = '2'"
#define ROW(name, body) "{\"id\":\"r\",\"custom_id\":\"" name "\",\"response\":" body ",\"error\":null}\n"
#define OK_BODY(text)                                                                                    \
    "{\"status_code\":200,\"request_id\":\"req_1\",\"body\":{\"model\":\"x-1\",\"choices\":[{\"index\":0,"     \
    "\"finish_reason\":\"stop\",\"message\":{\"role\":\"assistant\",\"content\":\"" text "\"}}],"              \
    "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}}"
#define BATCH(status, rest) "{\"id\":\"batch_1\",\"object\":\"batch\",\"status\":\"" status "\"" rest "}"
#define COUNTS ",\"request_counts\":{\"total\":3,\"completed\":2,\"failed\":1}"

static void lines_are_uploaded_as_calls_would_be_sent(void **state) {
    const struct turn script[] = {
        {.want = "POST /v1/files", .status = 200,
         .has = {"name=\"purpose\"\r\n\r\nbatch", "filename=\"hr-job-7.jsonl\"\r\nContent-Type: application/jsonl",
                 "\r\n\r\n{\"custom_id\":\"" LINE_1 "\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\","
                 "\"body\":{\"model\":\"x\",\"messages\":[",
                 "}\n{\"custom_id\":\"" LINE_3 "\""},
         .body = "{\"id\":\"file-1\",\"object\":\"file\",\"status\":\"processed\"}"},
        {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1/chat/completions", COLUMNS, script);
    case_order(&f, case_job(1, "upload"));
    case_three_lines(&f, 1);
    struct message_job_done done = case_done(&f, "ok", "");
    assert_slice(done.file, "file-1");
    assert_true(done.bytes > 300);
    assert_int_equal(done.step, 1);
    case_teardown(&f);
}

static void a_line_too_large_is_left_out_and_reported(void **state) {
    const struct turn script[] = {
        {.want = "POST /v1/files", .has = {LINE_1}, .status = 200, .body = "{\"id\":\"file-1\"}"}, {0}};
    struct fixture f;
    char *large = mem_alloc((2 << 20) + 1);
    memset(large, 'x', 2 << 20);
    large[2 << 20] = '\0';
    case_setup(&f, OPENAI, "", COLUMNS, script);
    case_order(&f, case_job(1, "upload"));
    struct buf lines;
    buf_init(&lines, 1 << 24);
    case_pack_line(&lines, LINE_1, 1, "one");
    case_pack_line(&lines, LINE_2, 2, large);
    case_lines(&f, 1, 0, 2, buf_slice(&lines), true);
    buf_free(&lines);
    free(large);
    struct message m = case_expect(&f, MESSAGE_JOB_ANSWERS);
    char text[256];
    case_reports(&m.job_answers, text, sizeof(text));
    assert_string_equal(text, "2-2 too-large\n");
    assert_int_equal(case_expect(&f, MESSAGE_JOB_GOT).job_got.upto, 2);
    case_taken(&f, 1, 1);
    assert_slice(case_done(&f, "ok", "").file, "file-1");
    case_teardown(&f);
}

static void a_batch_is_created_with_our_name(void **state) {
    const struct turn script[] = {
        {.want = "POST /v1/batches",
         .has = {"\"input_file_id\":\"file-1\"", "\"endpoint\":\"/v1/chat/completions\"",
                 "\"completion_window\":\"24h\"", "\"metadata\":{\"headrace\":\"hr-job-7\"}"},
         .status = 200, .body = BATCH("validating", "")}, {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    struct message_job job = case_job(2, "create");
    job.file = SLICE_LIT("file-1");
    case_order(&f, job);
    assert_slice(case_done(&f, "ok", "running").id, "batch_1");
    case_teardown(&f);
}

static const struct create_case creates[] = {
    {"a lost reply leaves it open", {.status = 0}, "broken-answer", "", true},
    {"a 429 says when", {.status = 429, .header = "retry-after", .value = "7",
                         .body = "{\"error\":{\"message\":\"Rate limit reached\",\"code\":\"rate_limit_exceeded\"}}"},
     "rate-limited", "", false, 7000},
    {"a full queue", {.status = 429, .body = "{\"error\":{\"message\":\"Enqueued token limit reached for x\","
                                             "\"code\":\"token_limit_exceeded\"}}"},
     "rate-limited", "full", false},
    {"no credit", {.status = 429, .body = "{\"error\":{\"code\":\"insufficient_quota\"}}"}, "fatal-quota", "", false},
    {"a wrong key", {.status = 401, .body = "{\"error\":{\"code\":\"invalid_api_key\",\"message\":\"no secret-value\"}}"},
     "fatal-auth", "", false},
    {"a server's fault leaves it open", {.status = 500, .body = "{\"error\":{\"message\":\"x\"}}"}, "transient", "", true},
    {"a gateway's page leaves it open", {.status = 502, .type = "text/html", .body = "<html>bad</html>"},
     "transient", "", true},
    {"a page with 200 leaves it open", {.status = 200, .type = "text/html", .body = "<html>hm</html>"},
     "transient", "", true},
    {"an answer without an id leaves it open", {.status = 200, .body = "{}"}, "broken-answer", "", true},
    {"a file that is not there", {.status = 400, .body = "{\"error\":{\"message\":\"No such File object: file-1\"}}"},
     "ok", "gone", false},
    {"a bad request", {.status = 400, .body = "{\"error\":{\"message\":\"no\"}}"}, "fatal-request", "", false},
};

static void a_create_that_fails_says_what_is_known(void **state) {
    for (size_t i = 0; i < sizeof(creates) / sizeof(creates[0]); i++) {
        case_create_fails(&creates[i], OPENAI, "/v1", "POST /v1/batches", "file-1");
    }
}

static void a_batch_is_found_by_its_name_on_a_later_page(void **state) {
    const struct turn script[] = {
        {.want = "GET /v1/batches", .status = 200,
         .body = "{\"data\":[{\"id\":\"batch_9\",\"status\":\"in_progress\",\"created_at\":1764000100,"
                 "\"metadata\":{\"headrace\":\"hr-job-8\"}},{\"id\":\"batch_8\",\"created_at\":1764000090}],"
                 "\"has_more\":true}"},
        {.want = "GET /v1/batches", .status = 200,
         .body = "{\"data\":[{\"id\":\"batch_1\",\"status\":\"in_progress\",\"created_at\":1764000000,"
                 "\"metadata\":{\"headrace\":\"hr-job-7\"}" COUNTS "}],\"has_more\":true}"},
        {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    struct message_job job = case_job(3, "find");
    job.since = 1764000000000;
    case_order(&f, job);
    struct message_job_done done = case_done(&f, "ok", "running");
    assert_slice(done.id, "batch_1");
    assert_int_equal(done.total, 3);
    assert_string_equal(f.last_query, "limit=100&after=batch_8");
    case_teardown(&f);
}

static void looking_for_a_batch_ends_with_those_that_are_older(void **state) {
    const struct turn script[] = {
        {.want = "GET /v1/batches", .status = 200,
         .body = "{\"data\":[{\"id\":\"batch_8\",\"created_at\":1763000000}],\"has_more\":true}"}, {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    struct message_job job = case_job(3, "find");
    job.since = 1764000000000;
    case_order(&f, job);
    assert_int_equal(case_done(&f, "ok", "").id.n, 0);
    case_teardown(&f);
}

// What a poll can tell.
static const struct {
    const char *name;
    struct turn turn;
    const char *outcome, *state;
    uint64_t completed, bad_line;
} polls[] = {
    {"it runs", {.status = 200, .body = BATCH("in_progress", COUNTS)}, "ok", "running", 2},
    {"counts may be null", {.status = 200, .body = BATCH("validating", ",\"request_counts\":null")}, "ok", "running"},
    {"a state that is new runs", {.status = 200, .body = BATCH("pondering", "")}, "ok", "running"},
    {"letters of any case", {.status = 200, .body = BATCH("Completed", COUNTS)}, "ok", "ended", 2},
    {"expired", {.status = 200, .body = BATCH("expired", COUNTS)}, "ok", "expired", 2},
    {"cancelled", {.status = 200, .body = BATCH("cancelled", "")}, "ok", "cancelled"},
    {"a bad line", {.status = 200,
                    .body = BATCH("failed", ",\"errors\":{\"object\":\"list\",\"data\":[{\"code\":\"invalid_json_line\","
                                            "\"message\":\"no\",\"line\":17}]}")}, "ok", "failed", 0, 17},
    {"a full queue", {.status = 200, .body = BATCH("failed", ",\"errors\":{\"data\":[{\"code\":"
                                                             "\"token_limit_exceeded\"}]}")}, "ok", "full"},
    {"no credit", {.status = 200, .body = BATCH("failed", ",\"errors\":{\"data\":[{\"code\":"
                                                          "\"billing_hard_limit_reached\"}]}")}, "fatal-quota", "failed"},
    {"it is gone", {.status = 404, .body = "{\"error\":{\"message\":\"No batch found with id 'batch_1'.\"}}"}, "ok", "gone"},
    {"a page that says 404 is no word of the provider's", {.status = 404, .type = "text/html", .body = "<html>"},
     "model-not-found", ""},
    {"a server's fault", {.status = 503, .body = "{}"}, "transient", ""},
    {"an error inside a 200", {.status = 200, .body = "{\"error\":{\"code\":\"rate_limit_exceeded\"}}"}, "transient", ""},
};

static void a_poll_tells_the_state(void **state) {
    for (size_t i = 0; i < sizeof(polls) / sizeof(polls[0]); i++) {
        struct turn script[2] = {polls[i].turn, {0}};
        struct fixture f;
        script[0].want = "GET /v1/batches/batch_1";
        case_setup(&f, OPENAI, "/v1", COLUMNS, script);
        case_order(&f, case_job_of(4, "poll", "batch_1"));
        struct message_job_done done = case_expect(&f, MESSAGE_JOB_DONE).job_done;
        bool outcome = slice_is(done.outcome, polls[i].outcome) ||
                       (strcmp(polls[i].outcome, "transient") == 0 && slice_is(done.outcome, "rate-limited"));
        if (!outcome || !slice_is(done.state, polls[i].state) || done.completed != polls[i].completed ||
            done.bad_line != polls[i].bad_line) {
            fail_msg("%s: got %.*s %.*s: %.*s", polls[i].name, SLICE_FMT(done.outcome), SLICE_FMT(done.state),
                     SLICE_FMT(done.detail));
        }
        case_teardown(&f);
    }
}

static void a_batch_that_has_ended_cannot_be_cancelled_and_tells_so(void **state) {
    const struct turn script[] = {
        {.want = "POST /v1/batches/batch_1/cancel", .status = 409, .body = "{\"error\":{\"message\":\"no\"}}"},
        {.want = "GET /v1/batches/batch_1", .status = 200, .body = BATCH("completed", "")}, {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    case_order(&f, case_job_of(4, "cancel", "batch_1"));
    case_done(&f, "ok", "ended");
    case_teardown(&f);
}

#define FILES ",\"output_file_id\":\"file-o\",\"error_file_id\":\"file-e\""
#define TEXT_1 OK_BODY("[" ITEM("1", "a") "]")
#define TEXT_2 OK_BODY("[" ITEM("2", "c") "," ITEM("1", "b") "]")

static void collect(struct fixture *f, uint64_t skip) {
    struct message_job job = case_job_of(5, "collect", "batch_1");
    job.skip = skip;
    case_order(f, job);
}

static void answers_of_both_files_are_read_as_those_of_calls(void **state) {
    const struct turn script[] = {
        {.want = "GET /v1/batches/batch_1", .status = 200, .body = BATCH("completed", FILES COUNTS)},
        {.want = "GET /v1/files/file-o/content", .status = 200, .type = "application/octet-stream",
         .body = ROW(LINE_2, TEXT_2) "\n" ROW(LINE_1, TEXT_1) "{\"custom_id\":\"" LINE_1 "\",\"respo\n"
                 ROW("row-17", TEXT_1) ROW(LINE_2, TEXT_2)},
        {.want = "GET /v1/files/file-e/content", .status = 200, .type = "application/octet-stream",
         .body = ROW(LINE_3, "{\"status_code\":400,\"request_id\":\"r\",\"body\":{\"error\":{\"message\":"
                             "\"This model's maximum context length is 10\",\"code\":\"context_length_exceeded\"}}}")
                 "{\"custom_id\":\"" LINE_1 "\",\"response\":null,\"error\":{\"code\":\"batch_expired\",\"message\":\"m\"}}"},
        {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    collect(&f, 0);
    case_answers(&f, 5, 0,
                 "2-2 ok 5/2 0=[\"b\"] 1=[\"c\"]\n1-1 ok 5/2 0=[\"a\"]\n2-2 ok 5/2 0=[\"b\"] 1=[\"c\"]\n"
                 "3-1 too-large\n1-1 unsent\n");
    struct message_job_done done = case_done(&f, "ok", "ended");
    assert_int_equal(done.answers, 5);
    assert_slice(done.detail, "2 rows of the answers cannot be read");
    case_teardown(&f);
}

static void answers_that_are_durable_are_passed_by(void **state) {
    const struct turn script[] = {
        {.want = "GET /v1/batches/batch_1", .status = 200, .body = BATCH("expired", FILES)},
        {.want = "GET /v1/files/file-o/content", .status = 200, .body = ROW(LINE_1, TEXT_1) "junk\n" ROW(LINE_2, TEXT_2)},
        {.want = "GET /v1/files/file-e/content", .status = 200, .body = ROW(LINE_3, TEXT_1)}, {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    collect(&f, 2);
    case_answers(&f, 5, 2, "3-1 ok 5/2 0=[\"a\"]\n");
    assert_int_equal(case_done(&f, "ok", "expired").answers, 3);
    case_teardown(&f);
}

static void what_has_not_ended_cannot_be_collected(void **state) {
    const struct turn script[] = {{.want = "GET /v1/batches/batch_1", .status = 200, .body = BATCH("finalizing", FILES)}, {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    collect(&f, 0);
    case_done(&f, "transient", "");
    case_teardown(&f);
}

// What can come in place of a file.
static const struct {
    const char *name;
    struct turn turn;
    const char *outcome;
} downloads[] = {
    {"cut in the middle", {.status = 200, .body = ROW(LINE_1, TEXT_1) ROW(LINE_2, TEXT_2), .cut_at = 300}, "broken-answer"},
    {"a page", {.status = 200, .type = "text/html", .body = "<html>x</html>"}, "transient"},
    {"a gateway's page", {.status = 502, .type = "text/html", .body = "<html>x</html>"}, "transient"},
    {"a reset", {.status = 0}, "broken-answer"},
    {"a file of no bytes", {.status = 200, .body = ""}, "ok"},
    {"no file any more", {.status = 404, .body = "{\"error\":{\"message\":\"No such File object\"}}"}, "ok"},
};

static void a_download_that_fails_loses_nothing(void **state) {
    for (size_t i = 0; i < sizeof(downloads) / sizeof(downloads[0]); i++) {
        struct turn script[4] = {{.want = "GET /v1/batches/batch_1", .status = 200,
                                  .body = BATCH("completed", ",\"output_file_id\":\"file-o\"")},
                                 downloads[i].turn, downloads[i].turn, {0}}; // curl may ask again by itself
        struct fixture f;
        script[1].want = script[2].want = "GET /v1/files/file-o/content";
        case_setup(&f, OPENAI, "/v1", COLUMNS, script);
        collect(&f, 0);
        struct message_job_done done = case_expect(&f, MESSAGE_JOB_DONE).job_done;
        if (!slice_is(done.outcome, downloads[i].outcome)) {
            fail_msg("%s: got %.*s: %.*s", downloads[i].name, SLICE_FMT(done.outcome), SLICE_FMT(done.detail));
        }
        assert_int_equal(done.answers, 0);
        case_teardown(&f);
    }
}

static void files_are_deleted_and_what_is_not_there_does_not_count(void **state) {
    const struct turn script[] = {
        {.want = "GET /v1/batches/batch_1", .status = 200, .body = BATCH("completed", FILES)},
        {.want = "DELETE /v1/files/file-1", .status = 200, .body = "{\"deleted\":true}"},
        {.want = "DELETE /v1/files/file-o", .status = 404, .body = "{\"error\":{\"message\":\"No such File object\"}}"},
        {.want = "DELETE /v1/files/file-e", .status = 200, .body = "{\"deleted\":true}"},
        {0}};
    struct fixture f;
    case_setup(&f, OPENAI, "/v1", COLUMNS, script);
    struct message_job job = case_job_of(6, "delete", "batch_1");
    job.file = SLICE_LIT("file-1");
    case_order(&f, job);
    case_done(&f, "ok", "ended");
    assert_int_equal(f.n_turns, 4);
    case_teardown(&f);
}

static void embeddings_are_lines_too(void **state) {
    const struct turn script[] = {
        {.want = "POST /v1/files", .has = {"\"url\":\"/v1/embeddings\",\"body\":{\"model\":\"x\",\"input\":[\"two\",\"two\"]"},
         .status = 200, .body = "{\"id\":\"file-1\"}"},
        {.want = "GET /v1/batches/batch_1", .status = 200, .body = BATCH("completed", ",\"output_file_id\":\"file-o\"")},
        {.want = "GET /v1/files/file-o/content", .status = 200,
         .body = ROW(LINE_2, "{\"status_code\":200,\"body\":{\"data\":[{\"index\":1,\"embedding\":[0.5]},"
                             "{\"index\":0,\"embedding\":[2.0]}],\"usage\":{\"prompt_tokens\":4}}}")},
        {0}};
    struct fixture f;
    case_setup(&f, OPENAI ", 'task' = 'embedding'", "/v1", "INPUT (t STRING) OUTPUT (v ARRAY<FLOAT>)", script);
    case_order(&f, case_job(1, "upload"));
    case_three_lines(&f, 1);
    case_done(&f, "ok", "");
    collect(&f, 0);
    case_answers(&f, 5, 0, "2-2 ok 4/0 0=[[2]] 1=[[0.5]]\n");
    case_done(&f, "ok", "ended");
    case_teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_uploaded_as_calls_would_be_sent),
        cmocka_unit_test(a_line_too_large_is_left_out_and_reported),
        cmocka_unit_test(a_batch_is_created_with_our_name),
        cmocka_unit_test(a_create_that_fails_says_what_is_known),
        cmocka_unit_test(a_batch_is_found_by_its_name_on_a_later_page),
        cmocka_unit_test(looking_for_a_batch_ends_with_those_that_are_older),
        cmocka_unit_test(a_poll_tells_the_state),
        cmocka_unit_test(a_batch_that_has_ended_cannot_be_cancelled_and_tells_so),
        cmocka_unit_test(answers_of_both_files_are_read_as_those_of_calls),
        cmocka_unit_test(answers_that_are_durable_are_passed_by),
        cmocka_unit_test(what_has_not_ended_cannot_be_collected),
        cmocka_unit_test(a_download_that_fails_loses_nothing),
        cmocka_unit_test(files_are_deleted_and_what_is_not_there_does_not_count),
        cmocka_unit_test(embeddings_are_lines_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
