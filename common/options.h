// options: one table row an option: default, config file, environment, command line, --help.
//
// A program keeps its rows in options.def:
//   OPTION(field, "name", letter, TYPE, default, least, most, "ARG", "what it is")
// and makes from them a struct and a table with OPTION_FIELD and OPTION_ROW below. Defaults are text
// and pass the same parser and bounds as the user's value. Later sources win:
// default, then --config FILE (lines `name = value`, # comments; HEADRACE_CONFIG names it too), then
// HEADRACE_NAME (upper case, dashes become underscores), then the command line. --config, --help,
// --usage and --version are there without a row.
#ifndef HEADRACE_COMMON_OPTIONS_H
#define HEADRACE_COMMON_OPTIONS_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_TEXT,  // const char *; "" when not given. least/most: length in bytes, most 0: any
    OPTION_FLAG,  // int64_t 0 or 1; no argument on the command line, on/off elsewhere
    OPTION_COUNT, // int64_t; may end in k, M, G (powers of 1000)
    OPTION_MS,    // int64_t milliseconds; ends in ms, s, m or h; a plain number is refused unless it is 0
                  // or the option's name ends in ms
    OPTION_BYTES, // int64_t bytes; may end in k, M, G (powers of 1024), with or without B
    OPTION_LIST,  // struct option_list; given many times on the command line and in the file, split
                  // at commas in the default and the environment. least/most: items, most 0: any
};

struct option_list {
    char **items; // n NUL-terminated strings
    size_t n;
};

struct option_spec {
    const char *name;      // long name, as in --name; lower case, dashes
    char letter;           // short name or 0
    enum option_type type;
    const char *def;       // default as text
    int64_t least, most;   // bounds, both inclusive
    const char *arg;       // what stands for the value in --help; NULL for a flag
    const char *text;      // what it is, one sentence
    size_t offset;         // of the field in the options struct
};

#define OPTION_C_TEXT const char *
#define OPTION_C_FLAG int64_t
#define OPTION_C_COUNT int64_t
#define OPTION_C_MS int64_t
#define OPTION_C_BYTES int64_t
#define OPTION_C_LIST struct option_list
// In a struct: #define OPTION OPTION_FIELD / #include "x/options.def" / #undef OPTION
#define OPTION_FIELD(field, name, letter, type, def, least, most, arg, text) OPTION_C_##type field;
// In a table of struct x_options: #define OPTION(...) OPTION_ROW(x_options, __VA_ARGS__)
#define OPTION_ROW(s, ...) OPTION_ROW_(s, __VA_ARGS__)
#define OPTION_ROW_(s, f, nm, let, ty, df, lo, hi, ar, tx) \
    {.name = nm, .letter = let, .type = OPTION_##ty, .def = df, .least = lo, .most = hi, \
     .arg = ar, .text = tx, .offset = offsetof(struct s, f)},

struct option_program {
    const char *name;               // "headrace-worker"
    const char *args;               // what stands after the options in --help, or ""
    const char *text;               // what the program does; first line of --help
    const char *after;              // text after the options in --help, or NULL
    const struct option_spec *rows; // n_rows options
    size_t n_rows;
    size_t most_args;               // how many plain arguments it takes
};

// options_parse fills the struct at `into` (zeroed by the caller) from all sources. --help, --usage
// and --version print and exit(0).
//   argc, argv  as given to main; argv[0] is skipped
//   args        receives the plain arguments, at most program->most_args; may be NULL if that is 0
// Returns the number of plain arguments, or -EINVAL with why (names the option, its source, what it
// got and what it wanted). Strings live until options_free.
MUST_CHECK int options_parse(const struct option_program *program, int argc, char **argv, void *into,
                             const char **args, struct error *why);
void options_free(const struct option_program *program, void *into);

// option_value_parse reads one number as the types COUNT, MS, BYTES, FLAG do.
//   what   names the value in the sentence: "--workers", "option 'batch.size'"
// Returns 0 or -EINVAL with why.
MUST_CHECK int option_value_parse(const char *what, enum option_type type, const char *text,
                                  int64_t least, int64_t most, int64_t *value, struct error *why);

#endif
