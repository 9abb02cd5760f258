// Steps of jobs at Gemini's batches: each order, inline and by file, and what is special about them.
#include "job_case.h"

#define GEMINI "'provider' = 'gemini', 'batch.size' = '2'"
#define OPERATION(state, rest)                                                                           \
    "{\n  \"name\": \"batches/b1\",\n  \"metadata\": {\"displayName\": \"hr-job-7\", \"state\": \"" state       \
    "\",\"createTime\":\"2026-11-21T08:00:00Z\",\"batchStats\":{\"requestCount\":\"3\","                      \
    "\"successfulRequestCount\":\"2\",\"failedRequestCount\":\"1\"}}" rest "}"
#define REPLY(text)                                                                                      \
    "{\"candidates\":[{\"finishReason\":\"STOP\",\"content\":{\"parts\":[{\"text\":\"" text "\"}]}}],"           \
    "\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":2},\"modelVersion\":\"x-1\"}"

static void lines_are_uploaded_to_the_place_that_is_given(void **state) {
    const struct turn script[] = {
        {.want = "POST /upload/v1beta/files", .has = {"{\"file\":{\"displayName\":\"hr-job-7.jsonl\"}}"}, .status = 200,
         .header = "X-Goog-Upload-URL", .value = "BASE/upload/here"},
        {.want = "POST /upload/here", .status = 200,
         .has = {"{\"key\":\"" LINE_1 "\",\"request\":{", "\"contents\":[{\"role\":\"user\"", "}}\n{\"key\":\"" LINE_2 "\""},
         .body = "{\"file\":{\"name\":\"files/abc\",\"state\":\"PROCESSING\"}}"},
        {.want = "GET /v1beta/files/abc", .status = 200, .body = "{\"name\":\"files/abc\",\"state\":\"ACTIVE\"}"},
        {0}};
    struct fixture f;
    case_setup(&f, GEMINI, "", COLUMNS, script);
    case_order(&f, case_job(1, "upload"));
    case_three_lines(&f, 1);
    assert_slice(case_done(&f, "ok", "").file, "files/abc");
    case_teardown(&f);
}

static void a_job_is_created_of_a_file_or_of_lines(void **state) {
    const struct turn script[] = {
        {.want = "POST /v1beta/models/x:batchGenerateContent", .status = 200,
         .has = {"{\"batch\":{\"displayName\":\"hr-job-7\",\"inputConfig\":{\"fileName\":\"files/abc\"}}}"},
         .body = OPERATION("BATCH_STATE_PENDING", "")},
        {.want = "POST /v1beta/models/x:batchGenerateContent", .status = 200,
         .has = {"{\"batch\":{\"displayName\":\"hr-job-7\",\"inputConfig\":{\"requests\":{\"requests\":[{\"request\":{",
                 "},\"metadata\":{\"key\":\"" LINE_1 "\"}},{\"request\":{", "{\"key\":\"" LINE_3 "\"}}]}}}}"},
         .body = OPERATION("JOB_STATE_PENDING", "")},
        {0}};
    struct fixture f;
    case_setup(&f, GEMINI, "/v1beta", COLUMNS, script);
    struct message_job job = case_job(1, "create");
    job.file = SLICE_LIT("files/abc");
    case_order(&f, job);
    assert_slice(case_done(&f, "ok", "running").id, "batches/b1");
    case_order(&f, case_job(2, "create"));
    case_three_lines(&f, 2);
    assert_slice(case_done(&f, "ok", "running").id, "batches/b1");
    case_teardown(&f);
}

static const struct create_case creates[] = {
    {"a lost reply", {.status = 0}, "broken-answer", "", true},
    {"too many enqueued tokens", {.status = 429, .body = "{\"error\":{\"code\":429,\"message\":\"Enqueued tokens for the model\","
                                                         "\"status\":\"RESOURCE_EXHAUSTED\"}}"}, "rate-limited", "full", false},
    {"a limit of the rate", {.status = 429, .body = "{\"error\":{\"code\":429,\"message\":\"quota\",\"status\":"
      "\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":\"x.RetryInfo\",\"retryDelay\":\"37s\"}]}}"}, "rate-limited", "", false, 37000},
    {"a wrong key", {.status = 400, .body = "{\"error\":{\"code\":400,\"message\":\"API key not valid\","
                                            "\"status\":\"INVALID_ARGUMENT\"}}"}, "fatal-auth", "", false},
    {"a payload that is too large", {.status = 400, .body = "{\"error\":{\"code\":400,\"message\":\"Request payload size "
      "exceeds the limit: 20971520 bytes.\",\"status\":\"INVALID_ARGUMENT\"}}"}, "too-large", "too-large", false},
};

static void a_create_that_fails_says_what_is_known(void **state) {
    for (size_t i = 0; i < sizeof(creates) / sizeof(creates[0]); i++) {
        case_create_fails(&creates[i], GEMINI, "", "POST /v1beta/models/x:batchGenerateContent", NULL);
    }
}

static void the_newest_job_of_our_name_is_found(void **state) {
    const struct turn script[] = {
        {.want = "GET /v1beta/batches", .status = 200,
         .body = "{\"operations\":[{\"name\":\"batches/b0\",\"metadata\":{\"displayName\":\"hr-job-7\",\"state\":"
                 "\"BATCH_STATE_FAILED\",\"createTime\":\"2026-11-21T07:00:00Z\"}}],\"nextPageToken\":\"t/2\"}"},
        {.want = "GET /v1beta/batches", .status = 200,
         .body = "{\"operations\":[" OPERATION("BATCH_STATE_RUNNING", "") ",{\"name\":\"batches/b9\",\"metadata\":{"
                 "\"displayName\":\"other\"}}]}"},
        {0}};
    struct fixture f;
    case_setup(&f, GEMINI, "", COLUMNS, script);
    case_order(&f, case_job(1, "find"));
    assert_slice(case_done(&f, "ok", "running").id, "batches/b1");
    assert_string_equal(f.last_query, "pageSize=100&pageToken=t/2");
    case_teardown(&f);
}

// What a poll can tell.
static const struct {
    const char *body, *state, *detail;
} polls[] = {
    {OPERATION("BATCH_STATE_RUNNING", ""), "running", ""},
    {OPERATION("JOB_STATE_QUEUED", ""), "running", ""},
    {OPERATION("JOB_STATE_SUCCEEDED", ",\"done\":true,\"response\":{\"responsesFile\":\"files/o\"}"), "ended", ""},
    {OPERATION("BATCH_STATE_PARTIALLY_SUCCEEDED", ""), "ended", ""},
    {OPERATION("batch_state_expired", ""), "expired", ""},
    {OPERATION("CANCELLED", ""), "cancelled", ""},
    {OPERATION("BATCH_STATE_FAILED", ",\"done\":true,\"error\":{\"code\":3,\"message\":\"no good\"}"), "failed", "no good"},
    {OPERATION("BATCH_STATE_SUCCEEDED", ",\"response\":{\"inlinedResponses\":{\"inlinedResponses\":[{\"response\":"
               "{\"name\":\"x\"}},{\"error\":{\"code\":3,\"message\":\"a line's\"}}]}}"), "ended", ""},
};

static void a_poll_tells_the_state(void **state) {
    for (size_t i = 0; i < sizeof(polls) / sizeof(polls[0]); i++) {
        const struct turn script[] = {{.want = "GET /v1beta/batches/b1", .status = 200, .body = polls[i].body}, {0}};
        struct fixture f;
        case_setup(&f, GEMINI, "", COLUMNS, script);
        case_order(&f, case_job_of(1, "poll", "batches/b1"));
        struct message_job_done done = case_done(&f, "ok", polls[i].state);
        assert_slice(done.detail, polls[i].detail);
        assert_int_equal(done.total, 3);
        assert_int_equal(done.completed, 2);
        case_teardown(&f);
    }
}

static void collect(struct fixture *f) {
    case_order(f, case_job_of(5, "collect", "batches/b1"));
}

static void answers_stand_in_a_file(void **state) {
    const struct turn script[] = {
        {.want = "GET /v1beta/batches/b1", .status = 200,
         .body = OPERATION("BATCH_STATE_SUCCEEDED", ",\"response\":{\"responsesFile\":\"files/batch-o\"}")},
        {.want = "GET /download/v1beta/files/batch-o:download", .status = 200, .type = "application/octet-stream",
         .body = "{\"key\":\"" LINE_2 "\",\"response\":" REPLY("[" ITEM("1", "a") "," ITEM("2", "b") "]") "}\n"
                 "{\"key\":\"" LINE_1 "\",\"error\":{\"code\":3,\"message\":\"the input token count (9) exceeds the maximum number\"}}\n"
                 "{\"key\":\"" LINE_1 "\",\"error\":{\"code\":14,\"message\":\"m\"}}\n"
                 "{\"key\":\"" LINE_1 "\",\"error\":{\"code\":5,\"message\":\"m\"}}\n"
                 "{\"key\":\"" LINE_1 "\",\"error\":{\"code\":7,\"message\":\"m\"}}\n"
                 "{\"key\":\"" LINE_3 "\",\"error\":{\"code\":1,\"message\":\"m\"}}\n"},
        {0}};
    struct fixture f;
    case_setup(&f, GEMINI, "", COLUMNS, script);
    collect(&f);
    case_answers(&f, 5, 0,
                 "2-2 ok 5/2 0=[\"a\"] 1=[\"b\"]\n1-1 too-large\n1-1 transient\n1-1 fatal-request\n1-1 fatal-auth\n"
                 "3-1 unsent\n");
    case_done(&f, "ok", "ended");
    assert_string_equal(f.last_query, "alt=media");
    case_teardown(&f);
}

static void answers_stand_in_the_operation_itself(void **state) {
#define INLINED                                                                                          \
    "{\"inlinedResponses\": {\"inlinedResponses\": [ {\"response\":" REPLY("[" ITEM("1", "]} [{") "]")          \
    ",\"metadata\":{\"key\":\"" LINE_1 "\"}},\n{\"error\":{\"code\":13,\"message\":\"m\"},\"metadata\":{\"key\":\""  \
    LINE_3 "\"}} ]}}"
    const struct turn script[] = {
        {.want = "GET /v1beta/batches/b1", .status = 200,
         .body = OPERATION("BATCH_STATE_SUCCEEDED", ",\"done\":true,\"response\":" INLINED ",\"again\":" INLINED)},
        {0}};
    struct fixture f;
    case_setup(&f, GEMINI, "", COLUMNS, script);
    collect(&f);
    case_answers(&f, 5, 0, "1-1 ok 5/2 0=[\"]} [{\"]\n3-1 transient\n");
    struct message_job_done done = case_done(&f, "ok", "ended");
    assert_int_equal(done.answers, 2);
    assert_int_equal(done.detail.n, 0);
    case_teardown(&f);
}

static void an_embedding_is_a_line_of_its_own(void **state) {
    const struct turn script[] = {
        {.want = "POST /v1beta/models/x:asyncBatchEmbedContent", .status = 200,
         .has = {"[{\"request\":{\"model\":\"models/x\",\"content\":{\"parts\":[{\"text\":\"one\"}]}},\"metadata\":{\"key\":\"" LINE_1},
         .body = OPERATION("BATCH_STATE_PENDING", "")},
        {.want = "GET /v1beta/batches/b1", .status = 200,
         .body = OPERATION("BATCH_STATE_SUCCEEDED", ",\"response\":{\"responsesFile\":\"files/o\"}")},
        {.want = "GET /download/v1beta/files/o:download", .status = 200,
         .body = "{\"key\":\"" LINE_1 "\",\"response\":{\"embedding\":{\"values\":[0.5,1]}}}\n"},
        {0}};
    struct fixture f;
    case_setup(&f, GEMINI ", 'task' = 'embedding'", "", "INPUT (t STRING) OUTPUT (v ARRAY<FLOAT>)", script);
    case_order(&f, case_job(1, "create"));
    struct buf lines;
    buf_init(&lines, 1 << 20);
    case_pack_line(&lines, LINE_2, 2, "two");
    case_pack_line(&lines, LINE_1, 1, "one");
    case_lines(&f, 1, 0, 2, buf_slice(&lines), true);
    buf_free(&lines);
    case_answers(&f, 1, 0, "2-2 too-large\n");
    assert_int_equal(case_expect(&f, MESSAGE_JOB_GOT).job_got.upto, 2);
    case_done(&f, "ok", "running");
    collect(&f);
    case_answers(&f, 5, 0, "1-1 ok 0=[[0.5,1]]\n");
    case_done(&f, "ok", "ended");
    case_teardown(&f);
}

static void cancel_and_delete(void **state) {
    const struct turn script[] = {
        {.want = "POST /v1beta/batches/b1:cancel", .has = {"{}"}, .status = 200, .body = "{}"},
        {.want = "GET /v1beta/batches/b1", .status = 200, .body = OPERATION("BATCH_STATE_CANCELLED", "")},
        {.want = "DELETE /v1beta/batches/b1", .status = 200, .body = "{}"},
        {.want = "DELETE /v1beta/files/abc", .status = 403,
         .body = "{\"error\":{\"code\":403,\"message\":\"You do not have permission\",\"status\":\"PERMISSION_DENIED\"}}"},
        {0}};
    struct fixture f;
    case_setup(&f, GEMINI, "", COLUMNS, script);
    case_order(&f, case_job_of(1, "cancel", "batches/b1"));
    case_done(&f, "ok", "cancelled");
    struct message_job job = case_job_of(2, "delete", "batches/b1");
    job.file = SLICE_LIT("files/abc");
    case_order(&f, job);
    case_done(&f, "ok", "");
    assert_int_equal(f.n_turns, 4);
    case_teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_uploaded_to_the_place_that_is_given),
        cmocka_unit_test(a_job_is_created_of_a_file_or_of_lines),
        cmocka_unit_test(a_create_that_fails_says_what_is_known),
        cmocka_unit_test(the_newest_job_of_our_name_is_found),
        cmocka_unit_test(a_poll_tells_the_state),
        cmocka_unit_test(answers_stand_in_a_file),
        cmocka_unit_test(answers_stand_in_the_operation_itself),
        cmocka_unit_test(an_embedding_is_a_line_of_its_own),
        cmocka_unit_test(cancel_and_delete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
