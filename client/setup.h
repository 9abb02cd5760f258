// setup: what the subcommands share before anything starts: exit codes, models, overrides.
#ifndef HEADRACE_CLIENT_SETUP_H
#define HEADRACE_CLIENT_SETUP_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"
#include "common/options.h"

// Exit codes. README.md and --help list them.
enum client_exit {
    EXIT_ALL_OK = 0,       // every row has a value
    EXIT_ROW_ERRORS = 1,   // some rows ended as errors
    EXIT_BAD_USE = 2,      // wrong options, models or input
    EXIT_NO_START = 3,     // something that is needed is not there
    EXIT_PROVIDER = 4,     // stopped by the provider: credentials, quota, configuration
    EXIT_PART_LOST = 5,    // a part of headrace ended or cannot be reached
    EXIT_BUDGET = 6,       // no money is left for the next call
    EXIT_INTERRUPTED = 130,
};
#define EXIT_CODES_TEXT \
    "Exit status: 0 every row has a value; 1 some rows ended as errors; 2 wrong options, models or " \
    "input; 3 something that is needed is not there; 4 stopped by the provider (credentials, " \
    "quota, configuration); 5 a part of headrace was lost; 6 the budget is used up; 130 interrupted."

// client_say prints "headrace: ..." on stderr and returns code.
int client_say(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

// setup_read_file reads a whole file of at most max bytes; "-" is standard input. Returns the text
// (free it; its length is *n), or NULL with why.
char *setup_read_file(const char *file, size_t max, size_t *n, struct error *why);

// setup_load_models reads and checks a file of CREATE MODEL statements.
// Returns 0 and fills list (free with statements_free), or a negative errno with why.
MUST_CHECK int setup_load_models(const char *file, struct statements *list, struct error *why);

// setup_find_model borrows a model by name, the last one of that name. NULL with why, which lists
// the names that there are.
const struct model *setup_find_model(const struct statements *list, const char *file,
                                     const char *name, struct error *why);

// setup_chain lists the models of a file that may be asked instead of one (fallback.model), each once.
// Returns how many there are, at most MODEL_CHAIN_MAX - 1, or a negative errno with why: one is not there, or
// cannot stand in for it.
MUST_CHECK int setup_chain(const struct statements *list, const struct model *model,
                           const struct model *chain[MODEL_CHAIN_MAX], struct error *why);

// setup_overrides turns "option=value" texts into settings (free with setup_free_overrides).
// Returns 0 or -EINVAL with why.
MUST_CHECK int setup_overrides(const struct option_list *list, struct model_setting **settings,
                               struct error *why);
// setup_budget adds a budget to n settings: budget.usd (text, as the user gave it) and budget.name.
// Returns how many there are now, or -EINVAL with why; "" adds none.
MUST_CHECK int setup_budget(struct model_setting **settings, size_t n, const char *usd, const char *name,
                            struct error *why);
void setup_free_overrides(struct model_setting *settings, size_t n);
// setup_pack_overrides appends them as a msgpack map, names sorted; nothing when there are none.
MUST_CHECK int setup_pack_overrides(const struct model_setting *settings, size_t n, struct buf *out,
                                    struct error *why);

#endif
