// Rows as producers send them: each case is a frame and what is told of it, as text: one line a row,
// "id|key|model|options|fields", or "TOO_LONG/BAD_RECORD id sentence".
#include "proto/record.h"

#include "common/mem.h"
#include "proto/pack.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int add_row(void *arg, const struct row *row) {
    struct buf *out = arg;
    if (row->outcome != OUTCOME_OK) {
        assert_true(row->fields.n == 0);
        return buf_addf(out, "%s %.*s %s\n", outcome_of(row->outcome)->text, SLICE_FMT(row->id),
                        row->why.text);
    }
    int rc = buf_addf(out, "%.*s|%.*s|%.*s|", SLICE_FMT(row->id), SLICE_FMT(row->key),
                      SLICE_FMT(row->model));
    rc = rc == 0 && row->options.n > 0 ? msgpack_to_json(row->options, out) : rc;
    rc = rc == 0 ? buf_add_byte(out, '|') : rc;
    rc = rc == 0 ? msgpack_to_json(row->fields, out) : rc;
    return rc == 0 ? buf_add_byte(out, '\n') : rc;
}

static const struct frame_case {
    const char *name;
    struct slice frame;
    const char *want; // each line of what is told starts with the line here; a '*' ends the comparison
} cases[] = {
#define S(text) {text, sizeof(text) - 1}
    {"an empty frame has no rows", S(""), ""},
    {"white space has no rows", S(" \n\t\r\n"), ""},
    {"one object", S("{\"id\":\"a\",\"x\":1}"), "a|||" "|{\"id\":\"a\",\"x\":1}\n"},
    {"an object over several lines", S("{\n \"id\": 7,\n \"x\": [1,\n2]\n}\n"),
     "7||||{\"id\":7,\"x\":[1,2]}\n"},
    {"lines with empty ones between them", S("{\"id\":1}\n\n\r\n{\"id\":2}\r\n"),
     "1||||{\"id\":1}\n2||||{\"id\":2}\n"},
    {"two objects on a line", S("{\"id\":1} {\"id\":2}"), "1||||{\"id\":1}\n2||||{\"id\":2}\n"},
    {"a byte order mark", S("\xEF\xBB\xBF{\"id\":1}"), "1||||{\"id\":1}\n"},
    {"an array", S(" [{\"id\":1},\n {\"id\":2}] \n"), "1||||{\"id\":1}\n2||||{\"id\":2}\n"},
    {"an empty array", S("[]"), ""},
    {"an envelope",
     S("{\"id\":true,\"key\":-5,\"model\":\"m\",\"options\":{\"b\":2,\"a\":\"x\",\"c\":false},"
       "\"fields\":{\"t\":null}}"),
     "true|-5|m|{\"a\":\"x\",\"b\":\"2\",\"c\":\"false\"}|{\"t\":null}\n"},
    {"an envelope with a column that it does not know is flat",
     S("{\"id\":1,\"fields\":{\"t\":1},\"x\":2}"), "1||||{\"id\":1,\"fields\":{\"t\":1},\"x\":2}\n"},
    {"fields that are no object make it flat", S("{\"id\":1,\"fields\":\"f\"}"),
     "1||||{\"id\":1,\"fields\":\"f\"}\n"},
    {"null stands for nothing", S("{\"id\":null,\"key\":null,\"model\":null,\"options\":null,\"fields\":{}}"),
     "||||{}\n"},
    {"an integer past int64 as id", S("{\"id\":18446744073709551615}"),
     "18446744073709551615||||{\"id\":18446744073709551615}\n"},
    {"the last of two members counts", S("{\"id\":1,\"id\":2}"), "2||||{\"id\":2}\n"},
    {"a broken line costs no other", S("{\"id\":1}\n{\"id\":2,\n{\"id\":3}\n"),
     "1||||{\"id\":1}\nbad-record  row 2: offset *\n3||||{\"id\":3}\n"},
    {"a first line that is broken", S("oops\n{\"id\":2}\n"),
     "bad-record  row 1: offset 0: got 'o'*\n2||||{\"id\":2}\n"},
    {"text behind a row", S("{\"id\":1} x\n{\"id\":2}"),
     "bad-record  row 1: offset 8: got more text behind the value*\n2||||{\"id\":2}\n"},
    {"a line that is no object", S("{\"id\":1}\n[1]\n\"x\"\n"),
     "1||||{\"id\":1}\nbad-record  row 2: got an array, want an object\nbad-record  row 3: got a string*\n"},
    {"text that is not UTF-8", S("{\"id\":1,\"t\":\"\xff\"}\n{\"id\":2}"),
     "bad-record  row 1: offset 13: *\n2||||{\"id\":2}\n"},
    {"an id of a wrong type", S("{\"id\":[1]}\n{\"id\":1.5}"),
     "bad-record  row 1: column 'id': got an array, want a string*\nbad-record  row 2: column 'id': got a fl*\n"},
    {"a key of a wrong type keeps the id", S("{\"id\":\"a\",\"key\":{}}"),
     "bad-record a row 1: column 'key': got a map*\n"},
    {"a model of a wrong type", S("{\"model\":3,\"fields\":{}}"),
     "bad-record  row 1: column 'model': got an integer*\n"},
    {"options of a wrong type", S("{\"options\":[],\"fields\":{}}"),
     "bad-record  row 1: column 'options': got options that are no map*\n"},
    {"an option of a wrong type", S("{\"options\":{\"a\":{}},\"fields\":{}}"),
     "bad-record  row 1: column 'options': option 'a': got a map, want a string\n"},
    {"an array that does not end", S("[{\"id\":1},"),
     "1||||{\"id\":1}\nbad-record  row 2: got the end of the frame*\n"},
    {"an array with a broken row", S("[{\"id\":1},\n{\"id\":},\n{\"id\":3}]"),
     "1||||{\"id\":1}\nbad-record  row 2: offset 6:*\n3||||{\"id\":3}\n"},
    {"text behind an array", S("[{\"id\":1}]x"),
     "1||||{\"id\":1}\nbad-record  row 2: got more text behind the array*\n"},
    {"neither JSON nor msgpack", S("\x01\x02\x03"), "bad-record  row 1: offset 0: got byte 0x01*\n"},
    {"a NUL in the text", S("{\"id\":1}\0{\"id\":2}"), "bad-record  row 1: offset 8*\n"},
    {"a msgpack map", S("\x82\xa2id\xa1" "a\xa1x\x01"), "a||||{\"id\":\"a\",\"x\":1}\n"},
    {"several maps", S("\x81\xa2id\x01\x81\xa2id\xff"), "1||||{\"id\":1}\n-1||||{\"id\":-1}\n"},
    {"an array of maps", S("\x92\x81\xa2id\x01\x81\xa2id\x02"), "1||||{\"id\":1}\n2||||{\"id\":2}\n"},
    {"a msgpack envelope",
     S("\x84\xa2id\x01\xa5model\xa1m\xa7options\x81\xa1" "a\x07\xa6" "fields\x81\xa1t\xc0"),
     "1||m|{\"a\":\"7\"}|{\"t\":null}\n"},
    {"a map that is cut short", S("\x81\xa2id\x01\x82\xa2id\x02"),
     "1||||{\"id\":1}\nbad-record  row 2: offset 5:*\n"},
    {"a value that is no map costs no other", S("\x92\x07\x81\xa2id\x02"),
     "bad-record  row 1: got an integer, want a map\n2||||{\"id\":2}\n"},
    {"a string that is not UTF-8 costs no other", S("\x92\x81\xa2id\xa1\xff\x81\xa2id\x02"),
     "bad-record  row 1: offset 5: got byte 0xff in a string, want UTF-8\n2||||{\"id\":2}\n"},
    {"an array longer than its frame", S("\xdd\xff\xff\xff\xff\x81\xa2id\x01"),
     "1||||{\"id\":1}\nbad-record  row 2: offset 0: got *\n"},
    {"bytes behind an array", S("\x91\x81\xa2id\x01\xc0"),
     "1||||{\"id\":1}\nbad-record  row 2: offset 6 of the frame*\n"},
    {"a column name that is a number", S("\x81\x01\x01"), "bad-record  row 1: got a column name*\n"},
    {"an ext type", S("\x81\xa1x\xd4\x01\x01\x81\xa2id\x02"),
     "bad-record  row 1: offset 3: got an ext type, want none\n2||||{\"id\":2}\n"},
};

// is_like compares line by line; a '*' in want takes the rest of the line.
static bool is_like(const char *got, const char *want) {
    while (*want != '\0') {
        if (*want == '*') {
            got += strcspn(got, "\n");
            want++;
        } else if (*got++ != *want++) {
            return false;
        }
    }
    return *got == '\0';
}

static void frames_and_their_rows(void **state) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct frame_case *c = &cases[i];
        struct buf out = {.max = 1 << 20};
        char *copy = mem_alloc(c->frame.n); // exact size, for ASan
        memcpy(copy, c->frame.p, c->frame.n);
        long n = rows_read((struct slice){copy, c->frame.n}, NULL, add_row, &out);
        free(copy);
        const char *got = out.p != NULL ? out.p : "";
        long n_lines = 0;
        for (const char *p = got; *p != '\0'; p++) {
            n_lines += *p == '\n';
        }
        if (n != n_lines || !is_like(got, c->want)) {
            fail_msg("%s: got %ld\n%s\nwant\n%s", c->name, n, got, c->want);
        }
        buf_free(&out);
    }
}

static void other_columns_can_be_id_and_key(void **state) {
    struct buf out = {.max = 1 << 20};
    struct row_columns columns = {.id = SLICE_LIT("no"), .key = SLICE_LIT("user")};
    assert_int_equal(rows_read(SLICE_LIT("{\"id\":1,\"no\":2,\"user\":\"u\"}"), &columns, add_row, &out), 1);
    assert_string_equal(out.p, "2|u|||{\"id\":1,\"no\":2,\"user\":\"u\"}\n");
    buf_free(&out);
}

static void a_row_too_long_costs_no_other(void **state) {
    struct buf frame = {.max = 8 << 20}, out = {.max = 1 << 20};
    char *text = mem_alloc(RECORD_MAX_BYTES);
    memset(text, 'x', RECORD_MAX_BYTES);
    assert_int_equal(buf_add_str(&frame, "{\"id\":1}\n{\"id\":2,\"t\":\""), 0);
    assert_int_equal(buf_add(&frame, text, RECORD_MAX_BYTES), 0);
    assert_int_equal(buf_add_str(&frame, "\"}\n{\"id\":3}\n"), 0);
    assert_int_equal(rows_read(buf_slice(&frame), NULL, add_row, &out), 3);
    assert_true(is_like(out.p, "1||||{\"id\":1}\nrecord-too-long  row 2: got 1048591 bytes, want at"
                               " most 1048576\n3||||{\"id\":3}\n"));
    buf_clear(&frame);
    buf_clear(&out);
    assert_int_equal(pack_map(&frame, 1), 0);
    assert_int_equal(pack_str(&frame, SLICE_LIT("t")), 0);
    assert_int_equal(pack_str(&frame, (struct slice){text, RECORD_MAX_BYTES}), 0);
    assert_int_equal(buf_add_str(&frame, "\x81\xa2id\x03"), 0);
    assert_int_equal(rows_read(buf_slice(&frame), NULL, add_row, &out), 2);
    assert_true(is_like(out.p, "record-too-long  row 1: *\n3||||{\"id\":3}\n"));
    // An id may have 1024 bytes.
    buf_clear(&frame);
    buf_clear(&out);
    assert_int_equal(buf_addf(&frame, "{\"id\":\"%.1024s\"}\n{\"id\":\"%.1025s\"}", text, text), 0);
    assert_int_equal(rows_read(buf_slice(&frame), NULL, add_row, &out), 2);
    assert_non_null(strstr(out.p, "bad-record  row 2: column 'id': got 1025 bytes, want at most 1024"));
    free(text);
    buf_free(&frame);
    buf_free(&out);
}

static int stop_at_second(void *arg, const struct row *row) {
    int *n = arg;
    return ++*n == 2 ? -EAGAIN : 0;
}

static void the_reader_stops_when_told(void **state) {
    static const char *const frames[] = {"{}\n{}\n{}", "[{},{},{}]", "\x80\x80\x80", "\x93\x80\x80\x80"};
    for (size_t i = 0; i < 4; i++) {
        int n = 0;
        assert_int_equal(rows_read(slice_of(frames[i]), NULL, stop_at_second, &n), -EAGAIN);
        assert_int_equal(n, 2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_and_their_rows),
        cmocka_unit_test(other_columns_can_be_id_and_key),
        cmocka_unit_test(a_row_too_long_costs_no_other),
        cmocka_unit_test(the_reader_stops_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
