// `headrace limits`: what the limits of a coordinator's pools hold, and what waits for them: a table or JSON;
// and `headrace limits resume`: stopped pools go on.
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

struct limits_options {
#define OPTION OPTION_FIELD
#include "client/limits_options.def"
#undef OPTION
};

static const struct option_spec rows_of_options[] = {
#define OPTION(...) OPTION_ROW(limits_options, __VA_ARGS__)
#include "client/limits_options.def"
#undef OPTION
};

static const struct option_program program = {
    .name = "headrace limits",
    .args = "[resume POOL | resume --all]",
    .text = "Prints what the limits of each pool hold, and what waits for them; or lets stopped pools go on.",
    .after = "Exit status: 0 done; 2 wrong options; 5 no answer, or refused.",
    .rows = rows_of_options,
    .n_rows = sizeof(rows_of_options) / sizeof(*rows_of_options),
    .most_args = ARGS_MOST,
};

static int64_t number(struct json_object *object, const char *name) {
    return json_object_get_int64(json_get(object, name));
}

static double real(struct json_object *object, const char *name) {
    return json_object_get_double(json_get(object, name));
}

static void print_kind(struct json_object *kind) {
    printf("  %-14.*s %14" PRId64, SLICE_FMT(json_text(json_get(kind, "kind"))), number(kind, "limit"));
    struct json_object *level = json_get(kind, "level"), *refill = json_get(kind, "refill");
    if (level != NULL) {
        printf(" %14.1f", json_object_get_double(level));
    } else {
        printf(" %14s", "-");
    }
    if (refill != NULL) {
        printf(" %14.0f\n", json_object_get_double(refill));
    } else {
        printf(" %14s\n", "-");
    }
}

static void print_pool(struct json_object *pool) {
    printf("%.*s  (%.*s)\n", SLICE_FMT(json_text(json_get(pool, "pool"))),
           SLICE_FMT(json_text(json_get(pool, "profile"))));
    printf("  %" PRId64 " calls ready, %" PRId64 " at the provider", number(pool, "ready"), number(pool, "inflight"));
    if (number(pool, "calls_limit") > 0) {
        printf(" (%" PRId64 " of %" PRId64 " granted to this coordinator)", number(pool, "calls_granted"),
               number(pool, "calls_limit"));
    }
    printf(", %" PRId64 " permits at hand, %" PRId64 " sent in the minute before\n", number(pool, "permits"),
           number(pool, "sent_last_minute"));
    if (real(pool, "scale") < 1) {
        printf("  rates at %.0f %% after refusals\n", 100 * real(pool, "scale"));
    }
    struct slice why = json_text(json_get(pool, "why"));
    if (why.n > 0) {
        printf("  waits: %.*s\n", SLICE_FMT(why));
    }
    struct json_object *kinds = json_get(pool, "kinds");
    size_t n = json_object_is_type(kinds, json_type_array) ? json_object_array_length(kinds) : 0;
    if (n == 0) {
        puts("  no limits known");
        return;
    }
    printf("  %-14s %14s %14s %14s\n", "limit of", "limit", "level", "refill/min");
    for (size_t i = 0; i < n; i++) {
        print_kind(json_object_array_get_idx(kinds, i));
    }
}

static int print(struct json_object *value, bool as_json) {
    struct json_object *pools = json_get(value, "pools");
    if (!json_object_is_type(pools, json_type_array)) {
        return client_say(EXIT_PART_LOST, "the coordinator's answer has no pools");
    }
    if (as_json) {
        puts(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        return 0;
    }
    size_t n = json_object_array_length(pools);
    for (size_t i = 0; i < n; i++) {
        print_pool(json_object_array_get_idx(pools, i));
    }
    if (n == 0) {
        puts("no pools: nothing was submitted yet");
    }
    return 0;
}

static int print_resumed(struct json_object *value, bool as_json) {
    struct json_object *pools = json_get(value, "resumed");
    if (!json_object_is_type(pools, json_type_array)) {
        return client_say(EXIT_PART_LOST, "the coordinator's answer names no resumed pools");
    }
    if (as_json) {
        puts(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        return 0;
    }
    size_t n = json_object_array_length(pools);
    for (size_t i = 0; i < n; i++) {
        printf("resumed %.*s\n", SLICE_FMT(json_text(json_object_array_get_idx(pools, i))));
    }
    if (n == 0) {
        puts("nothing had stopped");
    }
    return 0;
}

// question_of makes the question of the command line. Returns 0 or -EINVAL with why.
static int question_of(const struct limits_options *options, const char *const *args, int n,
                       struct message *question, struct error *why) {
    bool all = options->all != 0;
    if (n == 0 && !all) {
        *question = (struct message){.kind = MESSAGE_STATUS_GET, .status_get.about = SLICE_LIT("limits")};
        return 0;
    }
    if (n == 0 || strcmp(args[0], "resume") != 0 || (n == 1) != all || (n == 2 && args[1][0] == '\0')) {
        return error_set(why, -EINVAL,
                         "limits: got '%s', want: headrace limits, or headrace limits resume POOL, or --all in "
                         "place of POOL", n > 0 ? args[0] : "--all");
    }
    *question = (struct message){.kind = MESSAGE_RESUME};
    question->resume.pool = all ? SLICE_NONE : slice_of(args[1]);
    return 0;
}

int limits_main(int argc, char **argv) {
    struct limits_options options = {0};
    struct error why = {0};
    log_setup("limits", LOG_WARN);
    int code = EXIT_BAD_USE;
    const char *args[ARGS_MOST];
    struct message question;
    struct json_object *value = NULL;
    int n = options_parse(&program, argc, argv, &options, args, &why);
    if (n < 0 || question_of(&options, args, n, &question, &why) < 0) {
        client_say(code, "%s", why.text);
    } else if (ask_json(options.coordinator, &question, options.timeout, &value, &why) < 0) {
        code = client_say(EXIT_PART_LOST, "%s", why.text);
    } else if (question.kind == MESSAGE_RESUME) {
        code = print_resumed(value, options.json);
    } else {
        code = print(value, options.json);
    }
    json_object_put(value);
    options_free(&program, &options);
    return code;
}
