// Secrets: what a file may hold, who wins, what is refused, and that no value is ever told.
#include "common/secrets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], path[96];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof(folder), "%s/secrets_XXXXXX", P_tmpdir);
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/keys", folder);
    return 0;
}

static int drop_folder(void **state) {
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void write_file(const char *text, mode_t mode) {
    unlink(path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static const struct {
    const char *says, *file, *text, *want; // want NULL: refused
} cases[] = {
    {"a plain line", "A_KEY=abc", "Bearer ${A_KEY}", "Bearer abc"},
    {"double quotes are taken off", "A_KEY=\"a b\"\n", "${A_KEY}", "a b"},
    {"single quotes are taken off", "A_KEY='x'\n", "${A_KEY}", "x"},
    {"comments and empty lines", "# c\n\n  \nA_KEY=x\r\n", "${A_KEY}", "x"},
    {"spaces around", "  A_KEY = x  \n", "${A_KEY}", "x"},
    {"an equals sign in the value", "A_KEY=a=b=", "${A_KEY}", "a=b="},
    {"the last line wins", "A_KEY=x\nA_KEY=y\n", "${A_KEY}", "y"},
    {"twice in one text", "A_KEY=x", "${A_KEY}-${A_KEY}", "x-x"},
    {"a value is not expanded again", "A_KEY=${B_KEY}\nB_KEY=b\n", "${A_KEY}", "${B_KEY}"},
    {"the environment", "", "${HR_TEST_ENV}", "from-env"},
    {"the file wins over the environment", "HR_TEST_ENV=f", "${HR_TEST_ENV}", "f"},
    {"text without names", "", "plain $ {x} ${} ${1A} ${A", "plain $ {x} ${} ${1A} ${A"},
    {"an empty value is none", "A_KEY=\n", "${A_KEY}", NULL},
    {"an empty value hides the environment", "HR_TEST_ENV=\n", "${HR_TEST_ENV}", NULL},
    {"a name that is not there", "A_KEY=x", "${A_KEY}${HR_NOT_THERE}", NULL},
    {"a control character", "A_KEY=top\tsecret", "${A_KEY}", NULL},
};

static void expands(void **state) {
    (void)state;
    setenv("HR_TEST_ENV", "from-env", 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_file(cases[i].file, 0600);
        struct error why = {0};
        struct secrets *secrets = secrets_load(path, &why);
        if (secrets == NULL) {
            fail_msg("%s: %s", cases[i].says, why.text);
        }
        struct buf out;
        buf_init(&out, 100);
        assert_int_equal(buf_add_str(&out, "> "), 0);
        int rc = secrets_expand(secrets, slice_of(cases[i].text), &out, &why);
        if ((rc == 0) != (cases[i].want != NULL)) {
            fail_msg("%s: got %d %s", cases[i].says, rc, why.text);
        }
        const char *want = cases[i].want != NULL ? cases[i].want : "";
        if (strcmp(out.p + 2, want) != 0) {
            fail_msg("%s: got '%s'", cases[i].says, out.p);
        }
        assert_null(strstr(why.text, "top"));
        buf_free(&out);
        secrets_free(secrets);
    }
}

static const struct {
    const char *says, *file;
    mode_t mode;
    const char *want; // in the sentence
} bad_files[] = {
    {"others can read it", "A=x", 0644, "mode 644"},
    {"the group can read it", "A=x", 0640, "chmod 600"},
    {"a line without =", "A=x\n# c\nhunter2\n", 0600, ":3:"},
    {"a name with a dash", "A-B=hunter2\n", 0600, ":1:"},
    {"no name", "=hunter2\n", 0600, ":1:"},
    {"a quote that is not closed", "A=\"hunter2\n", 0600, ":1:"},
};

static void refuses_files(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++) {
        write_file(bad_files[i].file, bad_files[i].mode);
        struct error why = {0};
        struct secrets *secrets = secrets_load(path, &why);
        if (secrets != NULL || strstr(why.text, bad_files[i].want) == NULL ||
            strstr(why.text, "hunter2") != NULL) {
            fail_msg("%s: got '%s'", bad_files[i].says, why.text);
        }
    }
    struct error why = {0};
    assert_null(secrets_load(folder, &why)); // a folder
    unlink(path);
    assert_null(secrets_load(path, &why)); // not there
    assert_non_null(strstr(why.text, "No such file"));
}

static void says_what_is_there(void **state) {
    (void)state;
    setenv("HR_TEST_ENV", "from-env", 1);
    setenv("HR_TEST_EMPTY", "", 1);
    struct error why = {0};
    struct secrets *secrets = secrets_load(NULL, &why);
    assert_non_null(secrets);
    assert_true(secrets_has(secrets, SLICE_LIT("HR_TEST_ENV")));
    assert_false(secrets_has(secrets, SLICE_LIT("HR_TEST_EMPTY")));
    assert_false(secrets_has(secrets, SLICE_LIT("HR_NOT_THERE")));
    assert_false(secrets_has(secrets, SLICE_LIT("")));
    struct buf out;
    buf_init(&out, 3);
    assert_int_equal(secrets_expand(secrets, SLICE_LIT("${HR_TEST_ENV}"), &out, &why), -EMSGSIZE);
    assert_int_equal(out.n, 0);
    buf_free(&out);
    secrets_free(secrets);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(expands), cmocka_unit_test(refuses_files),
                                       cmocka_unit_test(says_what_is_there)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
