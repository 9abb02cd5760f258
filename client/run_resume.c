// What a run remembers of itself. Invariant: run.json is written before the first row is sent and
// removed before anything else of a run is, so a folder without it holds nothing that matters.
// Called by run.c.
#include "client/run_resume.h"

#include "client/run.h"
#include "common/json.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST "run.json"
#define MANIFEST_NEW "run.json.new"
#define JOURNAL "run.journal"
#define REDIS_DATA "appendonlydir"
#define MANIFEST_MAX (16 * 1024 * 1024)
#define HEAD_BYTES (64 * 1024) // of an input file, that are compared

// ---- The file -----------------------------------------------------------------------------------

// load reads run.json. Returns NULL when there is none or it is not ours.
static struct json_object *load(const char *folder) {
    char path[STATE_FILE_MAX];
    struct json_object *object = NULL;
    struct error ignored = {0};
    size_t n;
    snprintf(path, sizeof(path), "%.500s/" MANIFEST, folder);
    char *text = access(path, F_OK) == 0 ? setup_read_file(path, MANIFEST_MAX, &n, &ignored) : NULL;
    if (text != NULL && json_parse((struct slice){text, n}, &object, &ignored) < 0) {
        object = NULL;
    }
    free(text);
    return object;
}

static const char *member(struct json_object *object, const char *name) {
    struct json_object *value = json_get(object, name);
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

static int save(const struct state *state, struct json_object *object, struct error *why) {
    char path[STATE_FILE_MAX], final[STATE_FILE_MAX];
    struct buf text;
    buf_init(&text, MANIFEST_MAX);
    int status = json_add(&text, object);
    status = status ? status : buf_add_byte(&text, '\n');
    state_file(state, MANIFEST_NEW, path);
    int fd = status == 0 ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    bool is_written = fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n && fsync(fd) == 0;
    is_written = is_written && rename(path, state_file(state, MANIFEST, final)) == 0;
    if (!is_written) {
        status = error_set(why, -EIO, "--state: cannot write in folder '%s'", state->path);
    }
    if (fd >= 0) {
        close(fd);
    }
    buf_free(&text);
    return status ? status : state_sync(state->path, why);
}

// ---- --resume -----------------------------------------------------------------------------------

static const char *value_of(int argc, char **argv, const char *name) {
    size_t n = strlen(name);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=') {
            return argv[i] + n + 1;
        }
        if (strcmp(argv[i], name) == 0 && i + 1 < argc) {
            return argv[i + 1];
        }
    }
    return NULL;
}

static bool has_word(int argc, char **argv, const char *word) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], word) == 0) {
            return true;
        }
    }
    return false;
}

// is_given says whether an option stands among the words.
static bool is_given(int argc, char **argv, const struct option_spec *row) {
    for (int i = 1; i < argc; i++) {
        size_t n = strlen(row->name);
        bool is_long = strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, row->name, n) == 0 &&
                       (argv[i][2 + n] == '=' || argv[i][2 + n] == '\0');
        bool is_short = row->letter != 0 && argv[i][0] == '-' && argv[i][1] == row->letter;
        if (is_long || is_short) {
            return true;
        }
    }
    return false;
}

// is_replaced says whether a saved word, "--name=value" or "--name", gives way to one given now.
static bool is_replaced(const struct option_program *program, int argc, char **argv,
                        const char *word) {
    size_t n = strcspn(word + 2, "=");
    for (size_t i = 0; i < program->n_rows; i++) {
        const struct option_spec *row = &program->rows[i];
        if (strlen(row->name) == n && strncmp(row->name, word + 2, n) == 0) {
            return is_given(argc, argv, row);
        }
    }
    return true; // an option that is no more
}

int run_resume_args(const struct option_program *program, int *argc, char ***argv,
                    struct error *why) {
    if (!has_word(*argc, *argv, "--resume")) {
        return 0;
    }
    const char *given = value_of(*argc, *argv, "--state");
    char folder[PATH_MAX];
    if (given == NULL) {
        return error_set(why, -EINVAL, "--resume: got no --state, want the folder of the run");
    }
    struct json_object *manifest = realpath(given, folder) != NULL ? load(folder) : NULL;
    struct json_object *saved = json_get(manifest, "args");
    if (!json_object_is_type(saved, json_type_array)) {
        json_object_put(manifest);
        return error_set(why, -ENOENT, "--resume: folder '%s' holds no run to go on with", given);
    }
    size_t n = json_object_array_length(saved);
    static char **made; // argv, to the end of the process
    made = mem_zalloc((n + (size_t)*argc + 3) * sizeof(*made));
    int m = 0;
    made[m++] = (*argv)[0];
    for (size_t i = 0; i < n; i++) {
        const char *word = json_object_get_string(json_object_array_get_idx(saved, i));
        if (strncmp(word, "--", 2) == 0 && !is_replaced(program, *argc, *argv, word)) {
            made[m++] = mem_dup_str(word);
        }
    }
    for (int i = 1; i < *argc; i++) {
        made[m++] = (*argv)[i];
    }
    made[m++] = mem_dup_str("--state");
    made[m++] = mem_dup_str(folder);
    const char *cwd = member(manifest, "cwd");
    int status = *cwd != '\0' && chdir(cwd) != 0
                     ? error_set(why, -errno, "--resume: cannot go to '%s', where the run began", cwd)
                     : 0;
    json_object_put(manifest);
    *argc = m;
    *argv = made;
    return status;
}

// ---- What this run is ---------------------------------------------------------------------------

static void put_text(struct json_object *object, const char *name, const char *text) {
    json_object_object_add(object, name, json_object_new_string(text));
}

static void add_word(struct json_object *words, const struct option_spec *row, const char *value) {
    struct buf word;
    buf_init(&word, MANIFEST_MAX);
    int status = value != NULL ? buf_addf(&word, "--%s=%s", row->name, value)
                               : buf_addf(&word, "--%s", row->name);
    if (status == 0) {
        json_object_array_add(words, json_object_new_string(word.p));
    }
    buf_free(&word);
}

// words_of writes the options as words, all but those that belong to one start.
static struct json_object *words_of(const struct option_program *program,
                                    const struct run_options *options) {
    static const char *const own[] = {"state", "resume", "quiet", "keep-state", "detach"};
    struct json_object *words = json_object_new_array();
    for (size_t i = 0; i < program->n_rows; i++) {
        const struct option_spec *row = &program->rows[i];
        const void *at = (const char *)options + row->offset;
        bool is_own = false;
        for (size_t j = 0; j < sizeof(own) / sizeof(*own); j++) {
            is_own = is_own || strcmp(row->name, own[j]) == 0;
        }
        if (is_own) {
            continue;
        }
        char number[32];
        if (row->type == OPTION_TEXT) {
            add_word(words, row, *(const char *const *)at);
        } else if (row->type == OPTION_LIST) {
            const struct option_list *list = at;
            for (size_t j = 0; j < list->n; j++) {
                add_word(words, row, list->items[j]);
            }
        } else if (row->type != OPTION_FLAG) {
            const char *unit = row->type == OPTION_MS ? "ms" : "";
            snprintf(number, sizeof(number), "%" PRId64 "%s", *(const int64_t *)at, unit);
            add_word(words, row, number);
        } else if (*(const int64_t *)at != 0) {
            add_word(words, row, NULL);
        }
    }
    return words;
}

static uint64_t hash_add(uint64_t hash, const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) { // FNV-1a, 64 bits
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

#define HASH_START UINT64_C(0xcbf29ce484222325)

static struct json_object *hash_text(uint64_t hash) {
    char text[24];
    snprintf(text, sizeof(text), "%016" PRIx64, hash);
    return json_object_new_string(text);
}

// describe_input notes which file it is and what is in it. Returns false when it cannot be read twice.
static bool describe_input(const char *file, struct json_object *object) {
    char path[PATH_MAX], *head = mem_alloc(HEAD_BYTES);
    struct stat st;
    int fd = strcmp(file, "-") != 0 ? open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    bool is_regular = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (is_regular) {
        ssize_t n = pread(fd, head, HEAD_BYTES, 0);
        put_text(object, "path", realpath(file, path) != NULL ? path : file);
        json_object_object_add(object, "size", json_object_new_int64(st.st_size));
        int64_t mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        json_object_object_add(object, "mtime_ns", json_object_new_int64(mtime_ns));
        json_object_object_add(object, "head",
                               hash_text(hash_add(HASH_START, head, n > 0 ? (size_t)n : 0)));
    }
    if (fd >= 0) {
        close(fd);
    }
    free(head);
    return is_regular;
}

// columns_text names the OUTPUT columns, which every line of the output has.
static void columns_text(const struct model *model, struct buf *out) {
    for (size_t i = 0; i < model->n_output; i++) {
        if (buf_addf(out, "%s%s", i > 0 ? ", " : "", model->output[i].name) < 0) {
            return;
        }
    }
}

// fixed_of lists what must be the same for all rows of one output.
static struct json_object *fixed_of(const struct run *run, const char *cwd) {
    static const char *const formats[] = {"auto", "jsonl", "csv", "text"};
    const struct run_options *o = &run->options;
    struct json_object *fixed = json_object_new_object();
    char partitions[24];
    struct buf text;
    buf_init(&text, MANIFEST_MAX);
    bool is_absolute = o->output[0] == '/' || strcmp(o->output, "-") == 0;
    int status = is_absolute ? buf_add_str(&text, o->output)
                             : buf_addf(&text, "%s/%s", cwd, o->output);
    put_text(fixed, "--output", status == 0 ? text.p : o->output);
    buf_clear(&text);
    columns_text(run->model, &text);
    put_text(fixed, "OUTPUT columns", text.n > 0 ? text.p : "");
    buf_free(&text);
    put_text(fixed, "--model", o->model);
    put_text(fixed, "--format", formats[rows_format(run->rows)]);
    put_text(fixed, "--output-format", run->merge.csv ? "csv" : "jsonl");
    put_text(fixed, "--meta", o->meta ? "on" : "off");
    put_text(fixed, "--unordered", o->unordered ? "on" : "off");
    put_text(fixed, "--id-column", o->id_column);
    put_text(fixed, "--key-column", o->key_column);
    snprintf(partitions, sizeof(partitions), "%" PRId64, o->partitions);
    put_text(fixed, "--partitions", partitions);
    return fixed;
}

// describe makes the manifest of this command. stuck: why it could not go on, or "".
static struct json_object *describe(const struct run *run, const struct option_program *program) {
    const struct run_options *o = &run->options;
    struct json_object *manifest = json_object_new_object();
    char cwd[PATH_MAX];
    const char *stuck = strcmp(o->output, "-") == 0 ? "it writes to standard output, which cannot be "
                                                      "cut back to its last whole row"
                                                    : "";
    if (getcwd(cwd, sizeof(cwd)) == NULL) {
        cwd[0] = '\0';
    }
    struct json_object *inputs = json_object_new_array();
    for (size_t i = 0; i < o->input.n; i++) {
        struct json_object *input = json_object_new_object();
        if (!describe_input(o->input.items[i], input)) {
            stuck = "it reads standard input or a pipe, which cannot be read again";
        }
        json_object_array_add(inputs, input);
    }
    struct stat st;
    if (*stuck == '\0' && stat(o->output, &st) == 0 && !S_ISREG(st.st_mode)) {
        stuck = "its output is no regular file";
    }
    put_text(manifest, "cwd", cwd);
    json_object_object_add(manifest, "args", words_of(program, o));
    json_object_object_add(manifest, "fixed", fixed_of(run, cwd));
    json_object_object_add(manifest, "inputs", inputs);
    put_text(manifest, "stuck", stuck);
    uint64_t asked = hash_add(HASH_START, run->create.p, run->create.n);
    asked = hash_add(asked, run->asked.p, run->asked.n);
    json_object_object_add(manifest, "asked", hash_text(asked));
    return manifest;
}

// ---- Comparing ----------------------------------------------------------------------------------

void run_resume_order(struct run *run) {
    struct option_list *list = &run->options.input;
    char folder[PATH_MAX], path[PATH_MAX];
    bool has_folder = *run->options.state != '\0' && realpath(run->options.state, folder) != NULL;
    struct json_object *manifest = has_folder ? load(folder) : NULL;
    struct json_object *inputs = json_get(manifest, "inputs");
    size_t n = json_object_is_type(inputs, json_type_array) ? json_object_array_length(inputs) : 0;
    for (size_t i = 0; i < n && i < list->n; i++) {
        const char *want = member(json_object_array_get_idx(inputs, i), "path");
        for (size_t j = i; j < list->n; j++) {
            if (realpath(list->items[j], path) != NULL && strcmp(path, want) == 0) {
                char *found = list->items[j];
                memmove(list->items + i + 1, list->items + i, (j - i) * sizeof(*list->items));
                list->items[i] = found;
                break;
            }
        }
    }
    json_object_put(manifest);
}

// compare_fixed says which option differs. Returns 0 or -EEXIST with why.
static int compare_fixed(const struct run *run, struct json_object *old, struct json_object *new,
                         struct error *why) {
    struct json_object *had = json_get(old, "fixed"), *has = json_get(new, "fixed");
    json_object_object_foreach(has, name, value) {
        const char *was = member(had, name), *is = json_object_get_string(value);
        if (strcmp(was, is) != 0) {
            return error_set(why, -EEXIST,
                             "--state: folder '%s' holds a run that did not finish, with %s '%s'; got "
                             "'%s': give the same, or another folder, or remove it to begin anew",
                             run->state.path, name, was, is);
        }
    }
    return 0;
}

static void time_text(int64_t ns, char text[40]) {
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(text, 40, "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(text + n, 40 - n, ".%03d UTC", (int)(ns / 1000000 % 1000));
}

static int compare_input(const struct run *run, const char *file, struct json_object *old,
                         struct json_object *new, struct error *why) {
    const char *was = member(old, "path"), *is = member(new, "path");
    if (strcmp(was, is) != 0) {
        return error_set(why, -EEXIST,
                         "--state: folder '%s' holds a run that did not finish, with input '%s'; got "
                         "'%s': give the same files, or another folder, or remove it to begin anew",
                         run->state.path, was, *is != '\0' ? is : file);
    }
    int64_t sizes[2], times[2];
    struct json_object *both[2] = {old, new};
    for (int i = 0; i < 2; i++) {
        sizes[i] = json_object_get_int64(json_get(both[i], "size"));
        times[i] = json_object_get_int64(json_get(both[i], "mtime_ns"));
    }
    bool same_head = strcmp(member(old, "head"), member(new, "head")) == 0;
    if (sizes[0] == sizes[1] && times[0] == times[1] && same_head) {
        return 0;
    }
    char then[40], now[40];
    time_text(times[0], then);
    time_text(times[1], now);
    return error_set(why, -EEXIST,
                     "input '%s' has changed since the run in '%s' began: it had %" PRId64
                     " bytes of %s, it has %" PRId64 " bytes of %s%s; answers would land on wrong "
                     "rows: put the old file back, or begin anew with another folder",
                     is, run->state.path, sizes[0], then, sizes[1], now,
                     same_head ? "" : ", and begins differently");
}

static int compare_inputs(const struct run *run, struct json_object *old, struct json_object *new,
                          struct error *why) {
    struct json_object *had = json_get(old, "inputs"), *has = json_get(new, "inputs");
    size_t n = json_object_is_type(had, json_type_array) ? json_object_array_length(had) : 0;
    if (n != json_object_array_length(has)) {
        return error_set(why, -EEXIST,
                         "--state: folder '%s' holds a run that did not finish, with %zu input files; "
                         "got %zu: give the same files, or another folder, or remove it to begin anew",
                         run->state.path, n, json_object_array_length(has));
    }
    int status = 0;
    for (size_t i = 0; status == 0 && i < n; i++) {
        status = compare_input(run, run->options.input.items[i], json_object_array_get_idx(had, i),
                               json_object_array_get_idx(has, i), why);
    }
    return status;
}

// check_output makes sure that the rows written so far are still there.
static int check_output(const struct run *run, int64_t offset, struct error *why) {
    const char *file = run->options.output;
    struct stat st = {0};
    int status = stat(file, &st) == 0 ? 0 : -errno;
    if (offset == 0 || (status == 0 && st.st_size >= offset)) {
        return 0;
    }
    if (status < 0) {
        return error_set(why, status, "output '%s' is gone, and %" PRId64 " bytes of it were written: "
                         "put it back, or begin anew with another folder", file, offset);
    }
    return error_set(why, -EIO, "output '%s' has %" PRId64 " bytes, and %" PRId64 " were written: put "
                     "it back, or begin anew with another folder", file, (int64_t)st.st_size, offset);
}

// begin_anew clears the folder and writes the manifest.
static int begin_anew(struct run *run, struct json_object *manifest, struct error *why) {
    static const char *const left[] = {MANIFEST, JOURNAL, REDIS_DATA};
    char path[STATE_FILE_MAX];
    journal_close(run->journal);
    free(run->journal_path);
    run->journal = NULL;
    run->journal_path = NULL;
    int status = 0;
    for (size_t i = 0; status == 0 && i < sizeof(left) / sizeof(*left); i++) {
        status = state_remove(&run->state, left[i], why);
        status = status ? status : state_sync(run->state.path, why);
    }
    status = status ? status : save(&run->state, manifest, why);
    if (status == 0) {
        run->journal_path = mem_dup_str(state_file(&run->state, JOURNAL, path));
        run->journal = journal_open(run->journal_path, why);
        status = run->journal == NULL ? -EIO : 0;
    }
    return status ? status : (int)RESUME_ANEW;
}

// go_on checks that an unfinished run is this one, and that nothing has changed since.
static int go_on(struct run *run, struct json_object *old, struct json_object *new,
                 struct error *why) {
    const char *stuck = member(old, "stuck");
    if (*stuck != '\0') {
        return error_set(why, -EEXIST,
                         "--state: folder '%s' holds a run that did not finish, and cannot go on: %s; "
                         "name another folder, or remove it to begin anew",
                         run->state.path, stuck);
    }
    int status = compare_fixed(run, old, new, why);
    status = status ? status : compare_inputs(run, old, new, why);
    status = status ? status : check_output(run, journal_last(run->journal)->offset, why);
    if (status == 0 && strcmp(member(old, "asked"), member(new, "asked")) != 0) {
        client_say(0, "the model or --set has changed since the run began: rows that were not sent yet "
                      "are asked the new way");
        // So that a later start compares with what was asked last.
        status = save(&run->state, new, why);
    }
    return status ? status : (int)RESUME_ON;
}

// is_done says whether a finished run is this one, and its output is there.
static bool is_done(struct run *run, struct json_object *old, struct json_object *new) {
    struct error ignored = {0};
    bool same_asked = strcmp(member(old, "asked"), member(new, "asked")) == 0;
    return *member(old, "stuck") == '\0' && (same_asked || run->options.resume) &&
           compare_fixed(run, old, new, &ignored) == 0 &&
           compare_inputs(run, old, new, &ignored) == 0 &&
           check_output(run, journal_last(run->journal)->offset, &ignored) == 0;
}

int run_resume_decide(struct run *run, const struct option_program *program, struct error *why) {
    char path[STATE_FILE_MAX];
    struct json_object *old = load(run->state.path), *new = describe(run, program);
    int status;
    if (old == NULL) {
        status = begin_anew(run, new, why);
    } else {
        run->journal_path = mem_dup_str(state_file(&run->state, JOURNAL, path));
        run->journal = journal_open(run->journal_path, why);
        if (run->journal == NULL) {
            status = -EIO;
        } else if (!journal_last(run->journal)->is_end) {
            status = go_on(run, old, new, why);
        } else if (is_done(run, old, new)) {
            status = RESUME_DONE;
        } else if (run->options.resume) {
            status = error_set(why, -EEXIST,
                               "--resume: the run in folder '%s' has finished, and its input or output "
                               "is not as it was", run->state.path);
        } else {
            status = begin_anew(run, new, why);
        }
    }
    run->is_stuck = *member(new, "stuck") != '\0';
    json_object_put(old);
    json_object_put(new);
    return status;
}

void run_resume_forget(struct run *run) {
    struct error why = {0};
    if (state_remove(&run->state, MANIFEST, &why) < 0) {
        client_say(0, "%s", why.text);
    }
}
