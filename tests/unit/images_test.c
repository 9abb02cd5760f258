// images: which files a row can make the client read, and what becomes of the row.
#include "client/images.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define GIF "GIF89a\x01\x02\x01\x02;"
#define GIF_64 "R0lGODlhAQIBAjs="
#define MAX_BYTES 64

static char base[PATH_MAX]; // has: outside.gif, in/a.gif, in/sub/b.gif, in/link.gif, in/away, in/text.gif ...

static void path_to(const char *name, char *path) {
    assert_true(snprintf(path, PATH_MAX, "%s/%s", base, name) < PATH_MAX);
}

static void write_file(const char *name, const char *text, size_t n) {
    char path[PATH_MAX];
    path_to(name, path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static int make_files(void **state) {
    char path[PATH_MAX], to[PATH_MAX], large[MAX_BYTES + 1] = GIF;
    snprintf(base, sizeof(base), "%s/images_test.XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(base));
    static const char *const folders[] = {"in", "in/sub", "in/folder.gif"};
    for (size_t i = 0; i < 3; i++) {
        path_to(folders[i], path);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    write_file("outside.gif", GIF, strlen(GIF));
    write_file("in/a.gif", GIF, strlen(GIF));
    write_file("in/sub/b.gif", GIF, strlen(GIF));
    write_file("in/text.gif", "root:x:0:0", 10);
    write_file("in/empty.gif", "", 0);
    write_file("in/large.gif", large, sizeof(large));
    path_to("outside.gif", to);
    path_to("in/link.gif", path);
    assert_int_equal(symlink(to, path), 0);
    path_to("in/away", path);
    assert_int_equal(symlink(base, path), 0);
    path_to("in/near.gif", path);
    assert_int_equal(symlink("a.gif", path), 0);
    path_to("in/pipe.gif", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    return 0;
}

static int remove_files(void **state) {
    static const char *const names[] = {"in/pipe.gif", "in/near.gif", "in/away", "in/link.gif", "in/large.gif",
                                        "in/empty.gif", "in/text.gif", "in/sub/b.gif", "in/a.gif", "outside.gif",
                                        "in/folder.gif", "in/sub", "in", ""};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        path_to(names[i], path);
        assert_int_equal(remove(path), 0);
    }
    return 0;
}

static struct statements model_of(const char *columns) {
    char sql[256];
    struct statements list = {0};
    struct error why = {0};
    snprintf(sql, sizeof(sql), "CREATE MODEL m INPUT (%s) OUTPUT (s STRING) WITH ('provider' = 'openai', 'model' = "
                               "'x');", columns);
    assert_int_equal(model_sql_parse(slice_of(sql), "case", &list, &why), 0);
    return list;
}

// BASE in a row stands for the folder's path.
static const struct {
    const char *name, *row, *want; // want: the row, or what why ends in
} rows[] = {
    // clang-format off
    {"a path", "{\"p\":\"a.gif\"}", "{\"p\":\"" GIF_64 "\"}"},
    {"a path below", "{\"p\":\"./sub//b.gif\"}", "{\"p\":\"" GIF_64 "\"}"},
    {"a whole path into the folder", "{\"p\":\"BASE/in/a.gif\"}", "{\"p\":\"" GIF_64 "\"}"},
    {"what else the row holds stays as it was written", "{ \"id\" : 1.50, \"p\":\"a.gif\", \"x\":{\"p\":\"a.gif\"} }",
     "{ \"id\" : 1.50, \"x\":{\"p\":\"a.gif\"},\"p\":\"" GIF_64 "\"}"},
    {"both columns", "{\"q\":\"a.gif\",\"p\":\"sub/b.gif\"}", "{\"p\":\"" GIF_64 "\",\"q\":\"" GIF_64 "\"}"},
    {"an envelope", "{\"id\":7,\"fields\":{\"t\":\"a.gif\",\"p\":\"a.gif\"}}",
     "{\"id\":7,\"fields\":{\"t\":\"a.gif\",\"p\":\"" GIF_64 "\"}}"},
    {"an envelope of this model", "{\"model\":\"m\",\"fields\":{\"p\":\"a.gif\"}}",
     "{\"model\":\"m\",\"fields\":{\"p\":\"" GIF_64 "\"}}"},
    {"an envelope of another model", "{\"model\":\"n\",\"fields\":{\"p\":\"a.gif\"}}", "{\"model\":\"n\",\"fields\":{\"p\":\"a.gif\"}}"},
    {"a column that is no image", "{\"t\":\"a.gif\"}", "{\"t\":\"a.gif\"}"},
    {"base64", "{\"p\":\"" GIF_64 "\"}", "{\"p\":\"" GIF_64 "\"}"},
    {"a data: URL", "{\"p\":\"data:image/gif;base64," GIF_64 "\"}", "{\"p\":\"data:image/gif;base64," GIF_64 "\"}"},
    {"a link", "{\"p\":\"HTTPS://h/a.gif\"}", "{\"p\":\"HTTPS://h/a.gif\"}"},
    {"null", "{\"p\":null}", "{\"p\":null}"},
    {"nothing", "{\"p\":\" \"}", "{\"p\":\" \"}"},
    {"a row that is none", "{\"p\":", "{\"p\":"},
    {"a file that is not there", "{\"p\":\"z.gif\"}", "column 'p': image 'z.gif': No such file or directory"},
    {"the folder above", "{\"p\":\"../outside.gif\"}", "leads out of the folder of images, want a file below it (--image-folder)"},
    {"the folder above, further on", "{\"p\":\"sub/../../outside.gif\"}", "leads out of the folder of images, want a file below it (--image-folder)"},
    {"a whole path to elsewhere", "{\"p\":\"BASE/outside.gif\"}", "leads out of the folder of images, want a file below it (--image-folder)"},
    {"a whole path that only begins alike", "{\"p\":\"BASE/inside.gif\"}", "leads out of the folder of images, want a file below it (--image-folder)"},
    {"a link to elsewhere", "{\"p\":\"link.gif\"}", "is a symbolic link, want a file"},
    {"a link inside", "{\"p\":\"near.gif\"}", "is a symbolic link, want a file"},
    {"a link on the way", "{\"p\":\"away/outside.gif\"}", "has something else than a folder on its way: a symbolic link is not followed"},
    {"something that is no image", "{\"p\":\"text.gif\"}", "image 'text.gif': got something else, want a PNG, JPEG, GIF or WEBP image"},
    {"an empty file", "{\"p\":\"empty.gif\"}", "got something else, want a PNG, JPEG, GIF or WEBP image"},
    {"a file that is too large", "{\"p\":\"large.gif\"}", "got 65 bytes, want at most 64 (--image-max-bytes)"},
    {"a pipe", "{\"p\":\"pipe.gif\"}", "image 'pipe.gif': is no regular file"},
    {"a folder", "{\"p\":\"folder.gif\"}", "image 'folder.gif': is no regular file"},
    {"the folder itself", "{\"p\":\"/\"}", "leads out of the folder of images, want a file below it (--image-folder)"},
    {"a file as if it were a folder", "{\"p\":\"a.gif/b.gif\"}", "has something else than a folder on its way: a symbolic link is not followed"},
    {"a URL of a file", "{\"p\":\"file:///etc/passwd\"}", "image 'file:///etc/passwd': No such file or directory"},
    {"a path that a terminal would obey", "{\"p\":\"\\u001b[2J\"}", "image '?[2J': No such file or directory"},
    // clang-format on
};

// row_of puts the folder's path into a case's row.
static void row_of(const char *text, char *out, size_t size) {
    const char *at = strstr(text, "BASE");
    if (at == NULL) {
        snprintf(out, size, "%s", text);
    } else {
        char *real = realpath(base, NULL);
        snprintf(out, size, "%.*s%s%s", (int)(at - text), text, real, at + 4);
        free(real);
    }
}

static size_t try_rows(const struct images_config *config, const char *file) {
    struct images *images = images_new(config);
    size_t n_failed = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char row[PATH_MAX + 256];
        struct slice out;
        struct error why = {0};
        row_of(rows[i].row, row, sizeof(row));
        int rc = images_fill(images, file, slice_of(row), &out, &why);
        size_t n = strlen(why.text), n_want = strlen(rows[i].want);
        bool good = rc == 0 ? slice_is(out, rows[i].want)
                            : rc == -EINVAL && n >= n_want && strcmp(why.text + n - n_want, rows[i].want) == 0;
        if (!good) {
            print_error("%s: got %d %.*s %s\n", rows[i].name, rc, SLICE_FMT(out), why.text);
            n_failed++;
        }
    }
    images_free(images);
    return n_failed;
}

static void rows_name_files_of_one_folder_alone(void **state) {
    struct statements list = model_of("t STRING, p IMAGE, q IMAGE");
    char folder[PATH_MAX], file[PATH_MAX];
    path_to("in", folder);
    path_to("in/rows.jsonl", file);
    struct images_config beside = {.model = list.items[0].model, .folder = "", .max_bytes = MAX_BYTES};
    assert_int_equal(try_rows(&beside, file), 0);
    struct images_config given = {.model = list.items[0].model, .folder = folder, .max_bytes = MAX_BYTES};
    assert_int_equal(try_rows(&given, "standard input"), 0);
    statements_free(&list);
}

static void several_inputs_have_a_folder_each(void **state) {
    struct statements list = model_of("p IMAGE");
    struct images_config config = {.model = list.items[0].model, .folder = "", .max_bytes = MAX_BYTES};
    struct images *images = images_new(&config);
    char file[2][PATH_MAX];
    path_to("in/rows.jsonl", file[0]);
    path_to("in/sub/rows.jsonl", file[1]);
    for (int i = 0; i < 4; i++) {
        struct slice out;
        struct error why = {0};
        int rc = images_fill(images, file[i % 2], SLICE_LIT("{\"p\":\"b.gif\"}"), &out, &why);
        assert_int_equal(rc, i % 2 == 0 ? -EINVAL : 0); // b.gif is in sub
    }
    images_free(images);
    statements_free(&list);
}

static void a_model_without_images_reads_nothing(void **state) {
    struct statements list = model_of("p STRING");
    struct images_config config = {.model = list.items[0].model, .folder = "", .max_bytes = MAX_BYTES};
    assert_null(images_new(&config));
    statements_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_name_files_of_one_folder_alone),
        cmocka_unit_test(several_inputs_have_a_folder_each),
        cmocka_unit_test(a_model_without_images_reads_nothing),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
