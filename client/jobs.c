// `headrace jobs`: jobs at providers' batch APIs: list them, show one, cancel one, adopt one that the coordinator
// does not know. The coordinator answers {"jobs": [...]}, a member for each.
#include "client/ask.h"
#include "client/commands.h"
#include "client/setup.h"

#include "common/json.h"
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ARGS_MOST 2
#define TIME_MAX 32

struct jobs_options {
#define OPTION OPTION_FIELD
#include "client/jobs_options.def"
#undef OPTION
};

static const struct option_spec rows_of_options[] = {
#define OPTION(...) OPTION_ROW(jobs_options, __VA_ARGS__)
#include "client/jobs_options.def"
#undef OPTION
};

static const struct option_program program = {
    .name = "headrace jobs",
    .args = "[list | show JOB | cancel JOB | adopt PROVIDER-ID -m MODEL]",
    .text = "Jobs at providers' batch APIs. Lists them (list may be left out), shows one, cancels one (what is "
            "answered already is kept, the rest is asked again), or adopts one that the provider has and the "
            "coordinator does not know.",
    .after = "Exit status: 0 done; 2 wrong options or no such job; 5 no answer, or refused.",
    .rows = rows_of_options,
    .n_rows = sizeof(rows_of_options) / sizeof(*rows_of_options),
    .most_args = ARGS_MOST,
};

static int64_t number(struct json_object *object, const char *name) {
    return json_object_get_int64(json_get(object, name));
}

// span writes "42 s", "17 min", "5.2 h".
static const char *span(int64_t ms, char text[TIME_MAX]) {
    double s = (double)ms / 1000;
    if (s < 120) {
        snprintf(text, TIME_MAX, "%.0f s", s);
    } else if (s < 7200) {
        snprintf(text, TIME_MAX, "%.0f min", s / 60);
    } else {
        snprintf(text, TIME_MAX, "%.1f h", s / 3600);
    }
    return text;
}

static void cost_text(struct json_object *job, char text[TIME_MAX]) {
    struct json_object *cost = json_get(job, "cost");
    if (json_object_is_type(cost, json_type_double) || json_object_is_type(cost, json_type_int)) {
        snprintf(text, TIME_MAX, "$%.4f", json_object_get_double(cost));
    } else {
        snprintf(text, TIME_MAX, "unknown");
    }
}

static void print_row(struct json_object *job) {
    char age[TIME_MAX], left[TIME_MAX] = "-", cost[TIME_MAX];
    cost_text(job, cost);
    if (json_get(job, "deadline_in_ms") != NULL) {
        span(number(job, "deadline_in_ms"), left);
    }
    printf("%-32.*s %-10.*s %-16.*s %9" PRId64 " %9" PRId64 " %8s %8s %11s\n", SLICE_FMT(json_text(json_get(job, "job"))),
           SLICE_FMT(json_text(json_get(job, "state"))), SLICE_FMT(json_text(json_get(job, "model"))),
           number(job, "lines"), number(job, "answered"), span(number(job, "age_ms"), age), left, cost);
}

static void print_table(struct json_object *jobs, size_t n) {
    if (n == 0) {
        puts("no jobs");
        return;
    }
    printf("%-32s %-10s %-16s %9s %9s %8s %8s %11s\n", "job", "state", "model", "lines", "answered", "age", "deadline",
           "cost");
    for (size_t i = 0; i < n; i++) {
        print_row(json_object_array_get_idx(jobs, i));
    }
}

static void print_one(struct json_object *job) {
    json_object_object_foreach(job, name, value) {
        if (value != NULL) {
            printf("%-16s %s\n", name, json_object_get_string(value));
        }
    }
}

static int print(struct json_object *value, const char *action, const struct jobs_options *options) {
    struct json_object *jobs = json_get(value, "jobs");
    struct slice why = json_text(json_get(value, "why"));
    if (why.n > 0) {
        return client_say(EXIT_BAD_USE, "%.*s", SLICE_FMT(why));
    }
    if (!json_object_is_type(jobs, json_type_array)) {
        return client_say(EXIT_PART_LOST, "the coordinator's answer has no jobs");
    }
    size_t n = json_object_array_length(jobs);
    if (options->json) {
        puts(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    } else if (strcmp(action, "list") == 0) {
        print_table(jobs, n);
    } else {
        for (size_t i = 0; i < n; i++) {
            print_one(json_object_array_get_idx(jobs, i));
        }
    }
    return 0;
}

// question_of makes the question of the command line. Returns 0 or -EINVAL with why.
static int question_of(const struct jobs_options *options, const char *const *args, int n, struct message *question,
                       struct error *why) {
    const char *action = n > 0 ? args[0] : "list";
    bool is_list = strcmp(action, "list") == 0, is_adopt = strcmp(action, "adopt") == 0;
    if (!is_list && !is_adopt && strcmp(action, "show") != 0 && strcmp(action, "cancel") != 0) {
        return error_set(why, -EINVAL, "jobs: got '%s', want list, show, cancel or adopt", action);
    }
    if (!is_list && (n < 2 || args[1][0] == '\0')) {
        return error_set(why, -EINVAL, "jobs %s: got no name, want %s", action,
                         is_adopt ? "the provider's id of a job" : "a job's name, as headrace jobs lists them");
    }
    if (is_list && n > 1) {
        return error_set(why, -EINVAL, "jobs list: got '%s', want nothing more", args[1]);
    }
    if (is_adopt && options->model[0] == '\0') {
        return error_set(why, -EINVAL, "jobs adopt: got no --model, want the model that the job was made for");
    }
    *question = (struct message){.kind = MESSAGE_JOBS};
    question->jobs.action = slice_of(action);
    question->jobs.job = n > 1 ? slice_of(args[1]) : SLICE_NONE;
    question->jobs.model = slice_of(options->model);
    return 0;
}

int jobs_main(int argc, char **argv) {
    struct jobs_options options = {0};
    struct error why = {0};
    log_setup("jobs", LOG_WARN);
    int code = EXIT_BAD_USE;
    const char *args[ARGS_MOST];
    struct message question;
    struct json_object *value = NULL;
    int n = options_parse(&program, argc, argv, &options, args, &why);
    if (n < 0 || question_of(&options, args, n, &question, &why) < 0) {
        client_say(code, "%s", why.text);
    } else if (ask_json(options.coordinator, &question, options.timeout, &value, &why) < 0) {
        code = client_say(EXIT_PART_LOST, "%s", why.text);
    } else {
        code = print(value, n > 0 ? args[0] : "list", &options);
    }
    json_object_put(value);
    options_free(&program, &options);
    return code;
}
