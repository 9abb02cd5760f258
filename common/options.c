// Options over glibc's argp, from one table of rows. Invariant: every value, the default too, goes
// through set_value with the bounds of its row, in the order default, file, environment, command
// line; so the last source that names an option wins. Called by every main.c and subcommand.
#include "common/options.h"

#include "common/bytes.h"
#include "common/mem.h"

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define KEY_FIRST 0x1000             // argp keys of options without a letter: KEY_FIRST + row
#define KEY_CONFIG 0xfff
#define NAME_MOST 128                // bytes of HEADRACE_NAME
#define CONFIG_MAX_BYTES (64 * 1024) // of the file behind --config

enum source { FROM_NOWHERE, FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_COMMAND_LINE };

// One option as it stood on the command line.
struct given {
    size_t row;
    const char *text;
};

struct parse {
    const struct option_program *program;
    void *into;
    enum source *from;   // per row: who set it last
    struct given *given; // n_given options of the command line, in order
    size_t n_given;
    const char *config; // the file, or NULL
    const char **args;  // plain arguments
    size_t n_args;
    struct error *why;
    int stopped;  // where in argv argp gave up
    bool refused; // why is written
};

// ---- One value ----------------------------------------------------------------------------------

struct unit {
    const char *name;
    int64_t times;
};

static const struct unit count_units[] = {
    {"", 1}, {"k", 1000}, {"K", 1000}, {"M", 1000000}, {"G", 1000000000}, {NULL, 0}};
static const struct unit ms_units[] = {
    {"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit byte_units[] = {
    {"", 1},       {"B", 1},        {"k", 1 << 10}, {"kB", 1 << 10}, {"K", 1 << 10}, {"KB", 1 << 10},
    {"M", 1 << 20}, {"MB", 1 << 20}, {"G", 1 << 30}, {"GB", 1 << 30}, {NULL, 0}};

struct number_type {
    const struct unit *units;
    const char *want; // form of the number, for a human
    const char *unit; // of the bounds
};

static const struct number_type number_types[] = {
    [OPTION_COUNT] = {count_units, "a whole number, or one ending in k, M or G", ""},
    [OPTION_MS] = {ms_units, "a time: a whole number with its unit, ms, s, m or h", " ms"},
    [OPTION_BYTES] = {byte_units, "a size: a whole number of bytes, or one ending in k, M or G", " bytes"},
};

static int flag_parse(const char *what, const char *text, int64_t *value, struct error *why) {
    static const char *const on[] = {"on", "true", "yes", "1"};
    static const char *const off[] = {"off", "false", "no", "0"};
    for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++) {
        if (strcmp(text, on[i]) == 0 || strcmp(text, off[i]) == 0) {
            *value = strcmp(text, on[i]) == 0;
            return 0;
        }
    }
    return error_set(why, -EINVAL, "%s: got '%s', want on or off", what, text);
}

// names_ms says whether an option's name ends in "ms", as --latency-ms and 'batch.timeout.ms' do: then a
// plain number can only mean milliseconds. Of others people think that it means seconds.
static bool names_ms(const char *what) {
    size_t n = strlen(what);
    n -= n > 0 && what[n - 1] == '\'';
    return n >= 2 && strncasecmp(what + n - 2, "ms", 2) == 0;
}

int option_value_parse(const char *what, enum option_type type, const char *text, int64_t least,
                       int64_t most, int64_t *value, struct error *why) {
    if (type == OPTION_FLAG) {
        return flag_parse(what, text, value, why);
    }
    const struct number_type *t = &number_types[type];
    const char *digits = text[0] == '-' ? text + 1 : text;
    char *end = NULL;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    const struct unit *unit = t->units;
    while (unit->name != NULL && strcmp(unit->name, end) != 0) {
        unit++;
    }
    if (!isdigit((unsigned char)digits[0]) || unit->name == NULL) {
        return error_set(why, -EINVAL, "%s: got '%s', want %s", what, text, t->want);
    }
    if (type == OPTION_MS && *end == '\0' && n != 0 && !names_ms(what)) {
        return error_set(why, -EINVAL, "%s: got '%s', want a time with its unit: %sms, %ss, %sm or %sh", what,
                         text, text, text, text, text);
    }
    int64_t scaled = 0;
    bool fits = errno == 0 && !__builtin_mul_overflow((int64_t)n, unit->times, &scaled);
    if (!fits || scaled < least || scaled > most) {
        return error_set(why, -EINVAL, "%s: got '%s', want %lld to %lld%s", what, text,
                         (long long)least, (long long)most, t->unit);
    }
    *value = scaled;
    return 0;
}

static void list_clear(struct option_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct option_list){0};
}

static void list_add(struct option_list *list, const char *text, size_t n) {
    list->items = mem_realloc(list->items, (list->n + 1) * sizeof(list->items[0]));
    list->items[list->n++] = mem_dup(text, n);
}

static void list_split(struct option_list *list, const char *text) {
    for (const char *at = text; *at != '\0';) {
        size_t n = strcspn(at, ",");
        if (n > 0) {
            list_add(list, at, n);
        }
        at += n + (at[n] == ',');
    }
}

// The text of an option is not repeated in a sentence: an address may hold a password.
static int text_check(const struct option_spec *row, const char *what, size_t n, struct error *why) {
    if (row->most > 0 && n > (size_t)row->most) {
        return error_set(why, -EINVAL, "%s: got %zu bytes, want at most %lld", what, n,
                         (long long)row->most);
    }
    if (n < (size_t)(row->least > 0 ? row->least : 0)) {
        return error_set(why, -EINVAL, "%s: got %zu bytes, want at least %lld (%s)", what, n,
                         (long long)row->least, row->text);
    }
    return 0;
}

static int set_value(struct parse *p, size_t i, enum source from, const char *what, const char *text) {
    const struct option_spec *row = &p->program->rows[i];
    char *field = (char *)p->into + row->offset;
    bool first = p->from[i] != from;
    p->from[i] = from;
    if (row->type == OPTION_LIST) {
        struct option_list *list = (struct option_list *)field;
        if (first) {
            list_clear(list);
        }
        if (from == FROM_DEFAULT || from == FROM_ENVIRONMENT) {
            list_split(list, text);
        } else {
            list_add(list, text, strlen(text));
        }
        return 0;
    }
    if (row->type == OPTION_TEXT) {
        // An empty default of a required option is looked at when every source was read.
        int rc = from == FROM_DEFAULT ? 0 : text_check(row, what, strlen(text), p->why);
        if (rc == 0) {
            free(*(char **)field);
            *(char **)field = mem_dup_str(text);
        }
        return rc;
    }
    return option_value_parse(what, row->type, text, row->least, row->most, (int64_t *)field, p->why);
}

// ---- The sources, the weakest first -------------------------------------------------------------

static int read_defaults(struct parse *p) {
    for (size_t i = 0; i < p->program->n_rows; i++) {
        char what[NAME_MOST];
        snprintf(what, sizeof(what), "default of --%s", p->program->rows[i].name);
        int rc = set_value(p, i, FROM_DEFAULT, what, p->program->rows[i].def);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static long find_row(const struct option_program *program, struct slice name) {
    for (size_t i = 0; i < program->n_rows; i++) {
        if (slice_is(name, program->rows[i].name)) {
            return (long)i;
        }
    }
    return -1;
}

static int read_line(struct parse *p, const char *file, int line, struct slice text) {
    text = slice_trim(text);
    if (text.n == 0 || text.p[0] == '#') {
        return 0;
    }
    const char *equals = memchr(text.p, '=', text.n);
    if (equals == NULL) {
        return error_set(p->why, -EINVAL, "%s:%d: got a line without '=', want 'name = value'", file,
                         line);
    }
    size_t n = (size_t)(equals - text.p);
    struct slice name = slice_trim(slice_sub(text, 0, n));
    long row = find_row(p->program, name);
    if (row < 0) {
        return error_set(p->why, -EINVAL, "%s:%d: got '%.*s', want the name of an option (see --help)",
                         file, line, (int)(name.n < NAME_MOST ? name.n : NAME_MOST), name.p);
    }
    char *value = slice_dup(slice_trim(slice_sub(text, n + 1, text.n)));
    char what[512];
    snprintf(what, sizeof(what), "%s:%d: %s", file, line, p->program->rows[row].name);
    int rc = set_value(p, (size_t)row, FROM_FILE, what, value);
    free(value);
    return rc;
}

static int read_config(struct parse *p) {
    const char *file = p->config != NULL ? p->config : getenv("HEADRACE_CONFIG");
    if (file == NULL || file[0] == '\0') {
        return 0;
    }
    FILE *f = fopen(file, "rb");
    if (f == NULL) {
        return error_set(p->why, -EINVAL, "--config: cannot open '%s': %s", file, strerror(errno));
    }
    char *text = mem_alloc(CONFIG_MAX_BYTES + 1);
    size_t n = fread(text, 1, CONFIG_MAX_BYTES + 1, f);
    int rc = 0;
    if (ferror(f)) {
        rc = error_set(p->why, -EINVAL, "--config: cannot read '%s': %s", file, strerror(errno));
    } else if (n > CONFIG_MAX_BYTES || memchr(text, '\0', n) != NULL) {
        rc = error_set(p->why, -EINVAL, "--config: '%s' is not text of at most %d bytes", file,
                       CONFIG_MAX_BYTES);
    }
    fclose(f);
    int line = 1;
    for (size_t at = 0; rc == 0 && at < n; line++) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end != NULL ? (size_t)(end - (text + at)) : n - at;
        rc = read_line(p, file, line, (struct slice){text + at, length});
        at += length + 1;
    }
    free(text);
    return rc;
}

static int read_environment(struct parse *p) {
    for (size_t i = 0; i < p->program->n_rows; i++) {
        char name[NAME_MOST];
        snprintf(name, sizeof(name), "HEADRACE_%s", p->program->rows[i].name);
        for (char *c = name; *c != '\0'; c++) {
            *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        }
        const char *text = getenv(name);
        int rc = text != NULL ? set_value(p, i, FROM_ENVIRONMENT, name, text) : 0;
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int read_given(struct parse *p) {
    for (size_t i = 0; i < p->n_given; i++) {
        char what[NAME_MOST];
        snprintf(what, sizeof(what), "--%s", p->program->rows[p->given[i].row].name);
        int rc = set_value(p, p->given[i].row, FROM_COMMAND_LINE, what, p->given[i].text);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int check_required(const struct parse *p) {
    for (size_t i = 0; i < p->program->n_rows; i++) {
        const struct option_spec *row = &p->program->rows[i];
        const char *field = (const char *)p->into + row->offset;
        size_t n = row->type == OPTION_LIST   ? ((const struct option_list *)field)->n
                   : row->type == OPTION_TEXT ? strlen(*(char *const *)field)
                                              : SIZE_MAX;
        if (n == SIZE_MAX) {
            continue;
        }
        if (n == 0 && row->least > 0) {
            return error_set(p->why, -EINVAL, "--%s is missing: want %s", row->name, row->text);
        }
        if (row->type == OPTION_LIST && ((row->most > 0 && n > (size_t)row->most) ||
                                         (row->least > 0 && n < (size_t)row->least))) {
            return error_set(p->why, -EINVAL, "--%s: got %zu values, want %lld to %lld", row->name, n,
                             (long long)row->least, (long long)row->most);
        }
    }
    return 0;
}

// ---- The command line ---------------------------------------------------------------------------

static int take_arg(struct parse *p, const char *arg) {
    if (p->n_args == p->program->most_args) {
        error_set(p->why, 0, "got argument '%s', want at most %zu of them%s%s", arg,
                  p->program->most_args, p->program->args[0] != '\0' ? ": " : "", p->program->args);
        p->refused = true;
        return EINVAL;
    }
    p->args[p->n_args++] = arg;
    return 0;
}

static error_t on_key(int key, char *arg, struct argp_state *state) {
    struct parse *p = state->input;
    if (key == ARGP_KEY_ERROR) {
        p->stopped = state->next;
        return 0;
    }
    if (key == ARGP_KEY_ARG) {
        return take_arg(p, arg);
    }
    if (key == KEY_CONFIG) {
        p->config = arg;
        return 0;
    }
    for (size_t i = 0; i < p->program->n_rows; i++) {
        const struct option_spec *row = &p->program->rows[i];
        if (key == (row->letter != 0 ? row->letter : KEY_FIRST + (int)i)) {
            p->given = mem_realloc(p->given, (p->n_given + 1) * sizeof(p->given[0]));
            p->given[p->n_given++] = (struct given){.row = i, .text = arg != NULL ? arg : "on"};
            return 0;
        }
    }
    return ARGP_ERR_UNKNOWN;
}

// argp's own sentences go to stderr and do not say what was wanted, so ours is made from the word at
// which it stopped. In a cluster of letters (-xq) argp stands on the word, otherwise behind it.
static int say_refused(struct parse *p, int argc, char **argv) {
    if (p->refused) {
        return -EINVAL;
    }
    int at = p->stopped > 1 ? p->stopped - 1 : 1;
    if (at < argc && argv[at][0] != '-' && p->stopped < argc) {
        at = p->stopped;
    }
    const char *word = at < argc ? argv[at] : "";
    size_t n = strncmp(word, "--", 2) == 0 ? strcspn(word, "=") : strlen(word);
    struct slice name = {word + (n > 2 ? 2 : 0), n > 2 ? n - 2 : n};
    long row = word[0] == '-' && word[1] == '-' ? find_row(p->program, name) : -1;
    if (row >= 0 && p->program->rows[row].type == OPTION_FLAG) {
        return error_set(p->why, -EINVAL, "%.*s: got a value, want none", (int)n, word);
    }
    if (row >= 0 || slice_is(name, "config")) {
        return error_set(p->why, -EINVAL, "%.*s: got no value, want %s", (int)n, word,
                         row >= 0 ? p->program->rows[row].text : "a file");
    }
    return error_set(p->why, -EINVAL, "got '%.*s', want an option of %s (see --help)", (int)n, word,
                     p->program->name);
}

// The table of argp, with the default at the end of each text. The caller frees doc of each and the
// table itself.
static struct argp_option *make_table(const struct option_program *program) {
    struct argp_option *table = mem_zalloc((program->n_rows + 2) * sizeof(*table));
    for (size_t i = 0; i < program->n_rows; i++) {
        const struct option_spec *row = &program->rows[i];
        bool show = row->type != OPTION_FLAG && row->def[0] != '\0';
        char doc[1024];
        snprintf(doc, sizeof(doc), "%s%s%s%s", row->text, show ? " (default: " : "",
                 show ? row->def : "", show ? ")" : "");
        table[i] = (struct argp_option){
            .name = row->name,
            .key = row->letter != 0 ? row->letter : KEY_FIRST + (int)i,
            .arg = row->type == OPTION_FLAG ? NULL : row->arg != NULL ? row->arg : "VALUE",
            .doc = mem_dup_str(doc),
        };
    }
    table[program->n_rows] = (struct argp_option){
        .name = "config",
        .key = KEY_CONFIG,
        .arg = "FILE",
        .doc = mem_dup_str("options from a file, one 'name = value' a line; the environment"
                           " (HEADRACE_NAME) and the command line win over it"),
    };
    return table;
}

// answer_help prints what --help, --usage or --version ask for, and exits. argp would do so itself, but
// not with ARGP_NO_ERRS.
static void answer_help(const struct argp *argp, char *name, int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        bool is_help = strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-?") == 0;
        if (is_help || strcmp(argv[i], "--usage") == 0) {
            argp_help(argp, stdout, is_help ? ARGP_HELP_STD_HELP & ~ARGP_HELP_EXIT_OK : ARGP_HELP_USAGE,
                      name);
            exit(0);
        }
        if (strcmp(argv[i], "--version") == 0) {
            puts(argp_program_version);
            exit(0);
        }
    }
}

static int read_command_line(struct parse *p, int argc, char **argv) {
    struct argp_option *table = make_table(p->program);
    struct buf doc = {.max = 64 * 1024};
    char version[NAME_MOST];
    snprintf(version, sizeof(version), "%s %s", p->program->name, HEADRACE_VERSION);
    argp_program_version = version;
    if (buf_addf(&doc, "%s%s%s", p->program->text, p->program->after != NULL ? "\v" : "",
                 p->program->after != NULL ? p->program->after : "") != 0) {
        abort(); // our own text, longer than a help text may be
    }
    struct argp argp = {
        .options = table, .parser = on_key, .args_doc = p->program->args, .doc = doc.p};
    answer_help(&argp, (char *)p->program->name, argc, argv);
    int rc = argp_parse(&argp, argc, argv, ARGP_NO_ERRS, NULL, p);
    argp_program_version = NULL;
    buf_free(&doc);
    for (size_t i = 0; i <= p->program->n_rows; i++) {
        free((char *)table[i].doc);
    }
    free(table);
    return rc == 0 ? 0 : say_refused(p, argc, argv);
}

// ---- The whole ----------------------------------------------------------------------------------

int options_parse(const struct option_program *program, int argc, char **argv, void *into,
                  const char **args, struct error *why) {
    struct parse p = {.program = program, .into = into, .args = args, .why = why};
    p.from = mem_zalloc(program->n_rows * sizeof(p.from[0]));
    // argp moves plain arguments to the end and takes its own name from argv[0]: give it a copy.
    char **copy = mem_alloc(((size_t)argc + 1) * sizeof(copy[0]));
    memcpy(copy, argv, (size_t)argc * sizeof(copy[0]));
    copy[argc] = NULL;
    copy[0] = (char *)program->name;
    int rc = read_command_line(&p, argc, copy);
    rc = rc == 0 ? read_defaults(&p) : rc;
    rc = rc == 0 ? read_config(&p) : rc;
    rc = rc == 0 ? read_environment(&p) : rc;
    rc = rc == 0 ? read_given(&p) : rc;
    rc = rc == 0 ? check_required(&p) : rc;
    free(copy);
    free(p.given);
    free(p.from);
    if (rc != 0) {
        options_free(program, into);
        return rc;
    }
    return (int)p.n_args;
}

void options_free(const struct option_program *program, void *into) {
    for (size_t i = 0; i < program->n_rows; i++) {
        char *field = (char *)into + program->rows[i].offset;
        if (program->rows[i].type == OPTION_TEXT) {
            free(*(char **)field);
            *(char **)field = NULL;
        } else if (program->rows[i].type == OPTION_LIST) {
            list_clear((struct option_list *)field);
        }
    }
}
