// `headrace dlq`: records that were given up on: list, show, ask again (redrive), drop. A letter's name is
// "PARTITION/ID" of its stream. The coordinator answers {"partitions", "letters": [...], "done", "more",
// "last", "left", "why"} for up to 64 letters at a time.
#include "client/ask.h"
#include "client/commands.h"
#include "client/setup.h"

#include "common/json.h"
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX (17 * 1024 * 1024)
#define ID_MAX 48
#define NAMES_MOST 1000 // letters named on the command line

struct dlq_options {
#define OPTION OPTION_FIELD
#include "client/dlq_options.def"
#undef OPTION
};

static const struct option_spec rows_of_options[] = {
#define OPTION(...) OPTION_ROW(dlq_options, __VA_ARGS__)
#include "client/dlq_options.def"
#undef OPTION
};

static const struct option_program program = {
    .name = "headrace dlq",
    .args = "list | show LETTER | redrive LETTER... | drop LETTER...",
    .text = "Dead letters are records that were given up on. Lists them, shows one with its fields, asks "
            "again (redrive) or drops them.",
    .after = "Exit status: 0 done; 1 some letters could not be asked again; 2 wrong options or no such "
             "letter; 5 no answer.",
    .rows = rows_of_options,
    .n_rows = sizeof(rows_of_options) / sizeof(*rows_of_options),
    .most_args = NAMES_MOST,
};

struct dlq {
    struct dlq_options options;
    struct error why;
    uint64_t n_partitions; // 0: not known yet
    uint64_t n_done;
    bool is_partial;       // a letter could not be used
};

// A range of letters of one partition.
struct range {
    uint64_t partition;
    char from[ID_MAX], to[ID_MAX];
};

// ask_range asks about letters. Returns the answer (free with json_object_put), or NULL with why.
static struct json_object *ask_range(struct dlq *dlq, const char *action, const struct range *range) {
    struct json_object *answer = NULL;
    struct message question = {
        .kind = MESSAGE_LETTERS,
        .letters = {
            .action = slice_of(action),
            .partition = range->partition,
            .from = slice_of(range->from),
            .to = slice_of(range->to),
            .model = slice_of(dlq->options.model),
        },
    };
    int status = ask_json(dlq->options.coordinator, &question, dlq->options.timeout, &answer, &dlq->why);
    if (status == 0) {
        dlq->n_partitions = (uint64_t)json_object_get_int64(json_get(answer, "partitions"));
        dlq->n_done += (uint64_t)json_object_get_int64(json_get(answer, "done"));
    }
    return status == 0 ? answer : NULL;
}

// next_page moves a range behind what was answered; false: that was all.
static bool next_page(struct range *range, struct json_object *answer) {
    struct slice last = json_text(json_get(answer, "last"));
    if (!json_object_get_boolean(json_get(answer, "more")) || last.n == 0) {
        return false;
    }
    snprintf(range->from, sizeof(range->from), "(%.*s", SLICE_FMT(last));
    return true;
}

static void print_letters(struct json_object *answer) {
    struct json_object *letters = json_get(answer, "letters");
    struct buf line;
    buf_init(&line, ANSWER_MAX);
    for (size_t i = 0; letters != NULL && i < json_object_array_length(letters); i++) {
        buf_clear(&line);
        if (json_add(&line, json_object_array_get_idx(letters, i)) == 0) {
            puts(line.p);
        }
    }
    buf_free(&line);
}

// list prints the letters of a range. newest receives the id of its last letter, "" when there is none; may
// be NULL, else nothing is printed.
static int list(struct dlq *dlq, uint64_t partition, char newest[ID_MAX]) {
    struct range range = {.partition = partition, .from = "-", .to = "+"};
    for (bool more = true; more;) {
        struct json_object *answer = ask_range(dlq, "list", &range);
        if (answer == NULL) {
            return -EIO;
        }
        struct slice last = json_text(json_get(answer, "last"));
        if (newest == NULL) {
            print_letters(answer);
        } else if (last.n > 0) {
            slice_copy(last, newest, ID_MAX);
        }
        more = next_page(&range, answer);
        json_object_put(answer);
    }
    return 0;
}

static int list_all(struct dlq *dlq) {
    int status = list(dlq, 0, NULL);
    for (uint64_t p = 1; status == 0 && p < dlq->n_partitions; p++) {
        status = list(dlq, p, NULL);
    }
    return status;
}

// note_left says which letter could not be used, and moves on behind it.
static bool note_left(struct dlq *dlq, struct range *range, struct json_object *answer) {
    struct slice left = json_text(json_get(answer, "left"));
    struct slice why = json_text(json_get(answer, "why"));
    const char *slash = left.n > 0 ? memchr(left.p, '/', left.n) : NULL;
    if (slash == NULL) {
        return false;
    }
    dlq->is_partial = true;
    client_say(0, "letter %.*s stays: %.*s", SLICE_FMT(left), SLICE_FMT(why));
    snprintf(range->from, sizeof(range->from), "(%.*s", (int)(left.p + left.n - slash - 1), slash + 1);
    return true;
}

// use_range redrives or drops a range, page by page.
static int use_range(struct dlq *dlq, const char *action, struct range *range) {
    for (bool more = true; more;) {
        struct json_object *answer = ask_range(dlq, action, range);
        if (answer == NULL) {
            return -EIO;
        }
        more = note_left(dlq, range, answer) || next_page(range, answer);
        json_object_put(answer);
    }
    return 0;
}

// use_all takes the letters that are there now: what is given up on again meanwhile stays.
static int use_all(struct dlq *dlq, const char *action) {
    int status = 0;
    for (uint64_t p = 0; status == 0 && (p == 0 || p < dlq->n_partitions); p++) {
        struct range range = {.partition = p, .from = "-"};
        status = list(dlq, p, range.to);
        if (status == 0 && range.to[0] != '\0') {
            status = use_range(dlq, action, &range);
        }
    }
    return status;
}

// read_name reads "PARTITION/ID" into a range of one.
static int read_name(const char *name, struct range *range, struct error *why) {
    char *end;
    errno = 0;
    range->partition = strtoull(name, &end, 10);
    size_t n = *end == '/' ? strspn(end + 1, "0123456789-") : 0;
    if (errno != 0 || end == name || n == 0 || end[1 + n] != '\0' || n >= ID_MAX ||
        strchr(end, '-') == NULL) {
        return error_set(why, -EINVAL, "got letter '%s', want one like 0/1700000000000-0: see headrace "
                                       "dlq list", name);
    }
    snprintf(range->from, sizeof(range->from), "%s", end + 1);
    memcpy(range->to, range->from, sizeof(range->to));
    return 0;
}

static int show(struct dlq *dlq, const char *name) {
    struct range range;
    int status = read_name(name, &range, &dlq->why);
    if (status < 0) {
        return status;
    }
    struct json_object *answer = ask_range(dlq, "show", &range);
    if (answer == NULL) {
        return -EIO;
    }
    size_t n = json_object_array_length(json_get(answer, "letters"));
    print_letters(answer);
    json_object_put(answer);
    return n == 1 ? 0 : error_set(&dlq->why, -ENOENT, "got letter '%s', which is not there", name);
}

static int use_names(struct dlq *dlq, const char *action, const char *const *names, int n) {
    for (int i = 0; i < n; i++) {
        struct range range;
        uint64_t before = dlq->n_done;
        int status = read_name(names[i], &range, &dlq->why);
        status = status ? status : use_range(dlq, action, &range);
        if (status == 0 && dlq->n_done == before && !dlq->is_partial) {
            status = error_set(&dlq->why, -ENOENT, "got letter '%s', which is not there", names[i]);
        }
        if (status < 0) {
            return status;
        }
    }
    return 0;
}

// carry_out runs one command. Returns 0, -EINVAL or -ENOENT (wrong use), or another negative errno.
static int carry_out(struct dlq *dlq, const char *const *args, int n) {
    const char *action = n > 0 ? args[0] : "";
    if (n == 1 && strcmp(action, "list") == 0) {
        return list_all(dlq);
    }
    if (n == 2 && strcmp(action, "show") == 0) {
        return show(dlq, args[1]);
    }
    bool is_use = strcmp(action, "redrive") == 0 || strcmp(action, "drop") == 0;
    if (!is_use || (n == 1) != (dlq->options.all != 0)) {
        return error_set(&dlq->why, -EINVAL,
                         "dlq: got '%s', want: headrace dlq list | show LETTER | redrive LETTER... | drop "
                         "LETTER..., or --all in place of letters", action);
    }
    int status = n == 1 ? use_all(dlq, action) : use_names(dlq, action, args + 1, n - 1);
    printf("%" PRIu64 " dead letter%s %s\n", dlq->n_done, dlq->n_done == 1 ? "" : "s",
           action[0] == 'r' ? "asked again" : "dropped");
    return status;
}

int dlq_main(int argc, char **argv) {
    struct dlq dlq = {0};
    const char *args[NAMES_MOST];
    log_setup("dlq", LOG_WARN);
    int code = EXIT_BAD_USE;
    int n = options_parse(&program, argc, argv, &dlq.options, args, &dlq.why);
    if (n < 0) {
        client_say(code, "%s", dlq.why.text);
    } else {
        int status = carry_out(&dlq, args, n);
        code = dlq.is_partial ? EXIT_ROW_ERRORS : EXIT_ALL_OK;
        if (status < 0) {
            bool is_use = status == -EINVAL || status == -ENOENT;
            code = client_say(is_use ? EXIT_BAD_USE : EXIT_PART_LOST, "%s", dlq.why.text);
        }
    }
    options_free(&program, &dlq.options);
    return code;
}
