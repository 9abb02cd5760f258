// Files of whole lines: opened anew, behind what is there, and by one process at a time.
#include "client/output.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[256];

static int make_path(void **state) {
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof(path), "%s/output_XXXXXX", tmp != NULL ? tmp : "/tmp");
    int fd = mkstemp(path);
    close(fd);
    return fd < 0 ? -1 : 0;
}

static int remove_path(void **state) {
    return unlink(path);
}

static void check_text(const char *want) {
    char got[256] = "";
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    got[fread(got, 1, sizeof(got) - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(got, want);
}

static void put(struct output *output, const char *text) {
    struct error why = {0};
    assert_int_equal(output_add(output, slice_of(text)), 0);
    assert_int_equal(output_flush(output, &why), 0);
}

static void test_opens(void **state) {
    struct output output;
    struct error why = {0};
    assert_int_equal(output_open(&output, path, false, &why), 0);
    put(&output, "one\ntwo\nto"); // torn, as a crash leaves it
    output_close(&output);
    assert_int_equal(output_open(&output, path, true, &why), 0);
    put(&output, "three\n");
    output_close(&output);
    check_text("one\ntwo\nthree\n");
    assert_int_equal(output_open_at(&output, path, 4, &why), 0);
    put(&output, "2\n");
    output_close(&output);
    check_text("one\n2\n");
    assert_int_equal(output_open_at(&output, path, 100, &why), -EIO);
    output_close(&output);
    assert_int_equal(output_open(&output, path, false, &why), 0);
    output_close(&output);
    check_text("");
}

static void test_one_writer(void **state) {
    struct output first, second;
    struct error why = {0};
    assert_int_equal(output_open(&first, path, false, &why), 0);
    put(&first, "kept\n");
    assert_int_equal(output_open(&second, path, false, &why), -EBUSY);
    assert_non_null(strstr(why.text, "another headrace is writing it"));
    output_close(&second);
    assert_int_equal(output_open(&second, path, true, &why), -EBUSY);
    output_close(&second);
    assert_int_equal(output_open_at(&second, path, 0, &why), -EBUSY);
    output_close(&second);
    check_text("kept\n"); // who was refused changed nothing
    output_close(&first);
    assert_int_equal(output_open(&second, path, true, &why), 0);
    output_close(&second);
    // What is no file can be written by many.
    assert_int_equal(output_open(&first, "/dev/null", false, &why), 0);
    assert_int_equal(output_open(&second, "/dev/null", false, &why), 0);
    output_close(&first);
    output_close(&second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_opens, make_path, remove_path),
        cmocka_unit_test_setup_teardown(test_one_writer, make_path, remove_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
