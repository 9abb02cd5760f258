// Steps of jobs at Azure's batch API: where it differs from OpenAI's.
#include "job_case.h"

#define AZURE "'provider' = 'azure-openai', 'batch.size' = '2'"
#define DATED "/openai/deployments/my-batch/chat/completions?api-version=2025-04-01-preview"

static void a_file_is_looked_at_before_it_can_be_used(void **state) {
    const struct turn script[] = {
        {.want = "POST /openai/v1/files", .status = 200,
         .has = {"name=\"expires_after[seconds]\"\r\n\r\n1209600", "filename=\"hr-job-7.jsonl\"\r\nContent-Type: application/json",
                 "\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"x\""},
         .body = "{\"id\":\"file-1\",\"status\":\"pending\"}"},
        {.want = "GET /openai/v1/files/file-1", .status = 200, .body = "{\"id\":\"file-1\",\"status\":\"Processed\"}"},
        {0}};
    struct fixture f;
    case_setup(&f, AZURE, "", COLUMNS, script);
    case_order(&f, case_job(1, "upload"));
    case_three_lines(&f, 1);
    assert_slice(case_done(&f, "ok", "").file, "file-1");
    case_teardown(&f);
}

static void a_dated_endpoint_names_its_deployment_in_the_lines(void **state) {
    const struct turn script[] = {
        {.want = "POST /openai/files", .status = 200,
         .has = {"\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"my-batch\",\"messages\":["},
         .body = "{\"id\":\"file-1\",\"status\":\"processed\"}"},
        {.want = "POST /openai/batches", .has = {"\"input_file_id\":\"file-1\""}, .status = 200,
         .body = "{\"id\":\"batch_1\",\"status\":\"Validating\",\"request_counts\":{\"total\":null}}"},
        {0}};
    struct fixture f;
    case_setup(&f, AZURE, DATED, COLUMNS, script);
    case_order(&f, case_job(1, "upload"));
    case_three_lines(&f, 1);
    case_done(&f, "ok", "");
    struct message_job job = case_job(2, "create");
    job.file = SLICE_LIT("file-1");
    case_order(&f, job);
    assert_slice(case_done(&f, "ok", "running").id, "batch_1");
    case_teardown(&f);
}

static void a_file_of_errors_may_hold_none(void **state) {
    const struct turn script[] = {
        {.want = "GET /openai/v1/batches/batch_1", .status = 200,
         .body = "{\"id\":\"batch_1\",\"status\":\"Completed\",\"output_file_id\":\"file-o\",\"error_file_id\":\"file-e\"}"},
        {.want = "GET /openai/v1/files/file-o/content", .status = 200,
         .body = "{\"custom_id\":\"" LINE_1 "\",\"response\":{\"status_code\":200,\"body\":{\"choices\":[{\"finish_reason\":"
                 "\"content_filter\",\"message\":{\"content\":\"\"}}]}},\"error\":null}\n"
                 "{\"custom_id\":\"" LINE_3 "\",\"response\":{\"status_code\":400,\"body\":{\"error\":{\"code\":"
                 "\"content_filter\",\"message\":\"filtered\"}}},\"error\":null}\n"},
        {.want = "GET /openai/v1/files/file-e/content", .status = 200, .body = ""},
        {0}};
    struct fixture f;
    case_setup(&f, AZURE, "", COLUMNS, script);
    case_order(&f, case_job_of(5, "collect", "batch_1"));
    case_answers(&f, 5, 0, "1-1 filtered\n3-1 filtered\n");
    assert_int_equal(case_done(&f, "ok", "ended").answers, 2);
    case_teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_looked_at_before_it_can_be_used),
        cmocka_unit_test(a_dated_endpoint_names_its_deployment_in_the_lines),
        cmocka_unit_test(a_file_of_errors_may_hold_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
