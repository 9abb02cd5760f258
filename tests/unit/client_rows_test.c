// Rows in from files of three formats, and lines out with results in them.
#include "client/merge.h"
#include "client/rows.h"
#include "common/json.h"
#include "common/model.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX_BYTES 100

static void write_file(char *path, size_t size, const char *suffix, const char *text, size_t n) {
    const char *tmp = getenv("TMPDIR");
    snprintf(path, size, "%s/rows_XXXXXX%s", tmp != NULL ? tmp : "/tmp", suffix);
    int fd = mkstemps(path, (int)strlen(suffix));
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
    close(fd);
}

// all_rows reads a file and writes each row as a line: its JSON, or "LINE:CODE: what".
static void all_rows(const char *suffix, const char *text, size_t n, char *got, size_t size) {
    char path[256];
    write_file(path, sizeof(path), suffix, text, n);
    char *files[] = {path};
    struct rows_config config = {
        .files = files, .n_files = 1, .column = "text", .max_bytes = MAX_BYTES};
    struct error why = {0};
    struct rows *rows = rows_open(&config, &why);
    char *end = got;
    *got = '\0';
    struct rows_row row;
    int status = 0;
    while (rows != NULL && (status = rows_next(rows, &row, &why)) > 0) {
        if (row.outcome == OUTCOME_OK) {
            end += snprintf(end, size - (size_t)(end - got), "%.*s\n", SLICE_FMT(row.json));
        } else {
            const char *what = row.why.text + strlen(path) + 1;
            end += snprintf(end, size - (size_t)(end - got), "%s: %s\n",
                            outcome_of(row.outcome)->text, what);
        }
    }
    if (rows == NULL || status < 0) {
        const char *what = strstr(why.text, path);
        snprintf(end, size - (size_t)(end - got), "refused: %s\n",
                 what == why.text ? why.text + strlen(path) : why.text);
    }
    rows_close(rows);
    unlink(path);
}

struct case_in {
    const char *name, *suffix, *text, *want;
};

static const struct case_in cases[] = {
    {"rows keep their text", ".jsonl", "{\"a\":1}\n{ \"b\" : \"x\" }\n", "{\"a\":1}\n{ \"b\" : \"x\" }\n"},
    {"the last line needs no end", ".jsonl", "{\"a\":1}", "{\"a\":1}\n"},
    {"CR LF, blank lines and a byte order mark are fine", ".jsonl",
     "\xef\xbb\xbf{\"a\":1}\r\n\r\n  \n{\"a\":2}\r\n", "{\"a\":1}\n{\"a\":2}\n"},
    {"an empty file has no rows", ".jsonl", "", ""},
    {"a row that is not an object says so in its place", ".jsonl", "{\"a\":1}\n[1]\n\n7\n{\"a\":2}\n",
     "{\"a\":1}\nbad-record: 2: got an array, want a JSON object\n"
     "bad-record: 4: got a int, want a JSON object\n{\"a\":2}\n"},
    {"lines of text become objects", ".txt", "one \"1\"\n\ntwo\r\n",
     "{\"text\": \"one \\\"1\\\"\"}\n{\"text\": \"two\"}\n"},
    {"text that is not UTF-8", ".txt", "ok\na\xff\nok\n",
     "{\"text\": \"ok\"}\nbad-record: 2: byte 2 of the row is not UTF-8\n{\"text\": \"ok\"}\n"},
    {"CSV quotes, commas, breaks and doubled quotes", ".csv",
     "a,b\n1,\"x, \"\"y\"\"\nz\"\n,\n", "{\"a\": \"1\", \"b\": \"x, \\\"y\\\"\\nz\"}\n{\"a\": \"\", \"b\": \"\"}\n"},
    {"CSV with CR LF and no last line end", ".csv", "a,b\r\n1,2\r\n3,4",
     "{\"a\": \"1\", \"b\": \"2\"}\n{\"a\": \"3\", \"b\": \"4\"}\n"},
    {"CSV rows of the wrong width", ".csv", "a,b\n1\n1,2,3\n1,2\n",
     "bad-record: 2: got 1 field, want 2 as the header has\n"
     "bad-record: 3: got 3 fields, want 2 as the header has\n{\"a\": \"1\", \"b\": \"2\"}\n"},
    {"a quote inside an unquoted field stands for itself", ".csv", "a\n5\" disk\n",
     "{\"a\": \"5\\\" disk\"}\n"},
    {"text after a closing quote", ".csv", "a\n\"x\"y\n1\n",
     "bad-record: 2: field 1: got text after a closing quote, want ',' or the end\n{\"a\": \"1\"}\n"},
    {"a quote never closed costs one line", ".csv", "a\n\"x\n1\n2\n",
     "bad-record: 2: a quote is opened and never closed\n{\"a\": \"1\"}\n{\"a\": \"2\"}\n"},
    {"the line number counts breaks inside quotes", ".csv", "a\n\"x\ny\"\n1,2\n",
     "{\"a\": \"x\\ny\"}\nbad-record: 4: got 2 fields, want 1 as the header has\n"},
    {"a tab separates in .tsv", ".tsv", "a\tb\n1,5\t2\n", "{\"a\": \"1,5\", \"b\": \"2\"}\n"},
    {"an empty CSV file is refused", ".csv", "", "refused: : got an empty file, want a CSV header\n"},
    {"a column without a name is refused", ".csv", "a,,b\n", "refused: :1: CSV header: column 2 has no name\n"},
    {"a column named twice is refused", ".csv", "a,b,a\n", "refused: :1: CSV header: column 'a' is there twice\n"},
};

static void test_reads(void **state) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char got[4096];
        all_rows(cases[i].suffix, cases[i].text, strlen(cases[i].text), got, sizeof(got));
        if (strcmp(got, cases[i].want) != 0) {
            print_message("%s\n", cases[i].name);
        }
        assert_string_equal(got, cases[i].want);
    }
}

static void test_a_json_array_is_refused(void **state) {
    const char *const texts[] = {"[{\"a\":1}]", "\xef\xbb\xbf\n [\n{\"a\":1}\n]\n", "["};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        char got[4096];
        all_rows(".json", texts[i], strlen(texts[i]), got, sizeof(got));
        assert_non_null(strstr(got, "refused: : got a JSON array, want JSON Lines: one object a line"));
    }
}

static void test_a_pipe_gives_its_header_in_pieces(void **state) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    char path[64];
    snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
    char *files[] = {path};
    struct rows_config config = {
        .files = files, .n_files = 1, .format = ROWS_CSV, .max_bytes = MAX_BYTES};
    struct error why = {0};
    struct rows *rows = rows_open(&config, &why);
    assert_non_null(rows);
    struct rows_row row;
    const char *const pieces[] = {"\xef\xbb\xbf", "\n\n", "a,"};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
        assert_int_equal(write(ends[1], pieces[i], strlen(pieces[i])), strlen(pieces[i]));
        assert_int_equal(rows_next(rows, &row, &why), -EAGAIN);
    }
    assert_int_equal(write(ends[1], "b\n1,2\n", 6), 6);
    close(ends[1]);
    assert_int_equal(rows_await_header(rows, &why), 0);
    size_t n;
    assert_string_equal(rows_header(rows, &n)[1], "b");
    assert_int_equal(rows_next(rows, &row, &why), 1);
    assert_int_equal(row.outcome, OUTCOME_OK);
    assert_true(slice_is(row.json, "{\"a\": \"1\", \"b\": \"2\"}"));
    assert_int_equal(rows_next(rows, &row, &why), 0);
    rows_close(rows);
    close(ends[0]);
}

static void test_bad_json_says_where(void **state) {
    char got[4096];
    const char text[] = "{\"a\":1}\n{\"a\":\n{\"a\":2}{\"a\":3}\n{\"a\":\"\xff\"}\n{\"a\":4}\n";
    all_rows(".jsonl", text, sizeof(text) - 1, got, sizeof(got));
    assert_non_null(strstr(got, "{\"a\":1}\nbad-record: 2: not JSON: "));
    assert_non_null(strstr(got, "\nbad-record: 3: not JSON: "));
    assert_non_null(strstr(got, "\nbad-record: 4: not JSON: "));
    assert_non_null(strstr(got, "\n{\"a\":4}\n"));
}

static void test_too_long_is_one_row(void **state) {
    // Longer than many reads, so that the skipping has to go on over several windows.
    size_t n = 300000;
    char *text = malloc(n + 32);
    memcpy(text, "{\"a\":\"", 6);
    memset(text + 6, 'x', n);
    memcpy(text + 6 + n, "\"}\n{\"a\":1}\n", 11);
    char got[4096];
    all_rows(".jsonl", text, n + 17, got, sizeof(got));
    assert_string_equal(got, "record-too-long: 1: the row is longer than 100 bytes\n{\"a\":1}\n");
    free(text);
}

static void test_many_files(void **state) {
    char a[256], b[256], c[256];
    write_file(a, sizeof(a), ".csv", "x\n1\n", 4);
    write_file(b, sizeof(b), ".csv", "x\n2\n", 4);
    write_file(c, sizeof(c), ".csv", "y\n3\n", 4);
    char *files[] = {a, b, c};
    struct rows_config config = {.files = files, .n_files = 3, .max_bytes = MAX_BYTES};
    struct error why = {0};
    struct rows *rows = rows_open(&config, &why);
    assert_non_null(rows);
    struct rows_row row;
    assert_int_equal(rows_next(rows, &row, &why), 1);
    assert_int_equal(rows_next(rows, &row, &why), 1);
    assert_string_equal(row.file, b);
    assert_int_equal(row.line, 2);
    assert_int_equal(rows_next(rows, &row, &why), -EINVAL);
    assert_non_null(strstr(why.text, "differ"));
    uint64_t done, total;
    rows_progress(rows, &done, &total);
    assert_int_equal(total, 12);
    rows_close(rows);
    unlink(c);
    assert_null(rows_open(&config, &why));
    assert_non_null(strstr(why.text, c));
    unlink(a);
    unlink(b);
}

// ---- Out --------------------------------------------------------------------------------------

static struct column outputs[] = {{.name = (char *)"sentiment"}, {.name = (char *)"score"}};
static const struct model two_columns = {.output = outputs, .n_output = 2};

struct case_out {
    const char *name, *row, *result, *want;
    bool meta;
};

static const struct case_out outs[] = {
    {"columns follow the row's own text", "{ \"a\" : 1.50 , \"b\":\"}\" }",
     "{\"id\":\"1\",\"sentiment\":\"positive\",\"score\":1.0,\"error\":null}",
     "{ \"a\" : 1.50 , \"b\":\"}\", \"sentiment\": \"positive\", \"score\": 1.0, \"error\": null}\n", false},
    {"an empty row", "{ }", "{\"sentiment\":\"x\",\"score\":2,\"error\":null}",
     "{\"sentiment\": \"x\", \"score\": 2, \"error\": null}\n", false},
    {"a member of the same name gives way", "{\"sentiment\":{\"x\":[1,\"]\"]},\"a\":1, \"error\":\"e\",\"meta\":5}",
     "{\"sentiment\":\"x\",\"score\":2,\"error\":null,\"meta\":{\"call\":1}}",
     "{\"a\":1, \"sentiment\": \"x\", \"score\": 2, \"error\": null, \"meta\": {\"call\":1}}\n", true},
    {"also when it is written with an escape, and when it is the only one", "{\"\\u0073core\":1}",
     "{\"sentiment\":\"x\",\"score\":2,\"error\":null}",
     "{\"sentiment\": \"x\", \"score\": 2, \"error\": null}\n", false},
    {"an error says where the row stood", "{\"a\":1}",
     "{\"sentiment\":null,\"score\":null,\"error\":{\"code\":\"filtered\",\"message\":\"no\",\"attempts\":2}}",
     "{\"a\":1, \"sentiment\": null, \"score\": null, \"error\": {\"code\": \"filtered\", "
     "\"message\": \"in.jsonl:7: no\", \"attempts\": 2}}\n", false},
};

static void test_merges(void **state) {
    for (size_t i = 0; i < sizeof(outs) / sizeof(*outs); i++) {
        struct merge merge = {.model = &two_columns, .meta = outs[i].meta};
        struct rows_row row = {.file = "in.jsonl", .line = 7, .json = slice_of(outs[i].row)};
        struct json_object *result = NULL;
        struct error why = {0};
        assert_int_equal(json_parse(slice_of(outs[i].result), &result, &why), 0);
        struct buf out;
        buf_init(&out, 4096);
        assert_int_equal(merge_result(&merge, &row, result, &out), 0);
        if (strcmp(out.p, outs[i].want) != 0) {
            print_message("%s\n", outs[i].name);
        }
        assert_string_equal(out.p, outs[i].want);
        struct json_object *again = NULL;
        assert_int_equal(json_parse(buf_slice(&out), &again, &why), 0);
        json_object_put(again);
        json_object_put(result);
        buf_free(&out);
    }
}

static void test_merges_csv(void **state) {
    char *header[] = {(char *)"id", (char *)"score", (char *)"text"};
    struct merge merge = {
        .model = &two_columns, .csv = true, .delimiter = ',', .header = header, .n_header = 3};
    struct rows_row row = {.file = "in.csv", .line = 2, .csv = SLICE_LIT("1,old,\"a, b\"")};
    struct json_object *result = NULL;
    assert_int_equal(json_parse(SLICE_LIT("{\"sentiment\":\"say \\\"x\\\"\",\"score\":2.5}"), &result, NULL), 0);
    struct rows_row bad = {.file = "in.csv", .line = 3, .outcome = OUTCOME_BAD_RECORD};
    error_set(&bad.why, 0, "in.csv:3: odd");
    struct buf out;
    buf_init(&out, 4096);
    assert_int_equal(merge_header(&merge, &out), 0);
    assert_int_equal(merge_result(&merge, &row, result, &out), 0);
    assert_int_equal(merge_bad(&merge, &bad, &out), 0);
    assert_string_equal(out.p, "id,text,sentiment,score,error\n"
                               "1,\"a, b\",\"say \"\"x\"\"\",2.5,\n"
                               ",,,,bad-record: in.csv:3: odd\n");
    json_object_put(result);
    buf_free(&out);
}

static void test_bad_row_out(void **state) {
    struct merge merge = {.model = &two_columns};
    struct rows_row bad = {.file = "in.jsonl", .line = 3, .outcome = OUTCOME_BAD_RECORD};
    error_set(&bad.why, 0, "in.jsonl:3: odd");
    struct buf out;
    buf_init(&out, 4096);
    assert_int_equal(merge_bad(&merge, &bad, &out), 0);
    assert_string_equal(out.p, "{\"file\": \"in.jsonl\", \"line\": 3, \"sentiment\": null, \"score\": null, "
                               "\"error\": {\"code\": \"bad-record\", \"message\": \"in.jsonl:3: odd\", "
                               "\"attempts\": 0}}\n");
    buf_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_a_json_array_is_refused),
        cmocka_unit_test(test_a_pipe_gives_its_header_in_pieces),
        cmocka_unit_test(test_bad_json_says_where),
        cmocka_unit_test(test_too_long_is_one_row),
        cmocka_unit_test(test_many_files),
        cmocka_unit_test(test_merges),
        cmocka_unit_test(test_merges_csv),
        cmocka_unit_test(test_bad_row_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
