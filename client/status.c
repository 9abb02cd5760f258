// `headrace status`: a coordinator's counters as JSON, one member a line.
#include "client/ask.h"
#include "client/commands.h"
#include "client/setup.h"

#include "common/log.h"

#include <stdio.h>

struct status_options {
#define OPTION OPTION_FIELD
#include "client/ask_options.def"
#undef OPTION
};

static const struct option_spec rows_of_options[] = {
#define OPTION(...) OPTION_ROW(status_options, __VA_ARGS__)
#include "client/ask_options.def"
#undef OPTION
};

static const struct option_program program = {
    .name = "headrace status",
    .args = "",
    .text = "Prints how a coordinator is doing, as one JSON object.",
    .after = "Exit status: 0 printed; 2 wrong options; 5 no answer.",
    .rows = rows_of_options,
    .n_rows = sizeof(rows_of_options) / sizeof(*rows_of_options),
};

int status_main(int argc, char **argv) {
    struct status_options options = {0};
    struct error why = {0};
    log_setup("status", LOG_WARN);
    int code = EXIT_BAD_USE;
    struct message get = {.kind = MESSAGE_STATUS_GET};
    struct json_object *value = NULL;
    if (options_parse(&program, argc, argv, &options, NULL, &why) < 0) {
        client_say(code, "%s", why.text);
    } else if (ask_json(options.coordinator, &get, options.timeout, &value, &why) < 0) {
        code = client_say(EXIT_PART_LOST, "%s", why.text);
    } else {
        puts(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                       JSON_C_TO_STRING_NOSLASHESCAPE));
        code = 0;
    }
    json_object_put(value);
    options_free(&program, &options);
    return code;
}
