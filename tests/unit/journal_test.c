// Durable steps of a run: what is added is read back, and what is torn is not.
#include "client/journal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char path[64];

static int make_path(void **state) {
    strcpy(path, "/tmp/journal-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
    return unlink(path);
}

static struct journal *open_it(void) {
    struct error why = {0};
    struct journal *journal = journal_open(path, &why);
    if (journal == NULL) {
        fail_msg("%s", why.text);
    }
    return journal;
}

static void add(struct journal *journal, int64_t offset, uint64_t rows, bool is_end) {
    struct error why = {0};
    struct journal_step step = {
        .offset = offset, .rows = rows, .ok = rows - 1, .n_codes = 1, .used = {1, 2.5}, .is_end = is_end};
    strcpy(step.codes[0].code, "bad-record");
    step.codes[0].n = 1;
    assert_int_equal(journal_add(journal, &step, &why), 0);
}

static void test_steps_are_read_back(void **state) {
    struct journal *journal = open_it();
    assert_int_equal(journal_last(journal)->offset, 0);
    add(journal, 100, 10, false);
    add(journal, 200, 20, true);
    journal_close(journal);
    journal = open_it();
    const struct journal_step *last = journal_last(journal);
    assert_int_equal(last->offset, 200);
    assert_int_equal(last->rows, 20);
    assert_int_equal(last->ok, 19);
    assert_int_equal(last->n_codes, 1);
    assert_string_equal(last->codes[0].code, "bad-record");
    assert_int_equal(last->codes[0].n, 1);
    assert_true(last->used[0] == 1 && last->used[1] == 2.5);
    assert_true(last->is_end);
    journal_close(journal);
}

static void test_rows_out_of_order_are_known_after_a_restart(void **state) {
    static const uint64_t rows[] = {3, 4, 5, 1, 200, 64, 63};
    struct journal *journal = open_it();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        journal_note(journal, rows[i]);
    }
    add(journal, 100, 7, false);
    journal_note(journal, 9); // of a step that was never made
    journal_close(journal);
    journal = open_it();
    for (uint64_t row = 0; row < 300; row++) {
        bool want = false;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            want = want || rows[i] == row;
        }
        if (journal_is_done(journal, row) != want) {
            fail_msg("row %llu: got %d, want %d", (unsigned long long)row, !want, want);
        }
    }
    journal_close(journal);
}

static const struct {
    const char *says;
    const char *tail;
} torn[] = {
    {"half a line", "{\"offset\":300,\"ro"},
    {"a line without its break", "{\"offset\":300,\"rows\":30,\"ok\":30,\"codes\":{},\"used\":[]}"},
    {"an empty line", "\n"},
    {"something else", "hello\n{\"offset\":300,\"rows\":30}\n"},
    {"an object without an offset", "{\"rows\":30}\n"},
};

static void test_a_torn_end_is_cut_off(void **state) {
    for (size_t i = 0; i < sizeof(torn) / sizeof(torn[0]); i++) {
        assert_int_equal(truncate(path, 0), 0);
        struct journal *journal = open_it();
        add(journal, 100, 10, false);
        journal_close(journal);
        struct stat whole, cut;
        assert_int_equal(stat(path, &whole), 0);
        int fd = open(path, O_WRONLY | O_APPEND);
        size_t n = strlen(torn[i].tail);
        assert_int_equal(write(fd, torn[i].tail, n), n);
        close(fd);
        journal = open_it();
        if (journal_last(journal)->offset != 100) {
            fail_msg("%s: got offset %lld", torn[i].says, (long long)journal_last(journal)->offset);
        }
        assert_int_equal(stat(path, &cut), 0);
        assert_int_equal(cut.st_size, whole.st_size);
        add(journal, 150, 15, false);
        journal_close(journal);
        journal = open_it();
        assert_int_equal(journal_last(journal)->offset, 150);
        journal_close(journal);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_steps_are_read_back, make_path, remove_path),
        cmocka_unit_test_setup_teardown(test_rows_out_of_order_are_known_after_a_restart, make_path,
                                        remove_path),
        cmocka_unit_test_setup_teardown(test_a_torn_end_is_cut_off, make_path, remove_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
