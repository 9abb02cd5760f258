// limits_file: the limits of accounts that several models share, apart from CREATE MODEL.
//
// A limits file is CSV. Its first line names the columns, in any order; lines that are empty or begin
// with # are skipped; quotes are not needed and not understood. The first row that fits a model holds.
//
//   pool,provider,account,model,rpm,tpm,itpm,otpm,rpd,tpd,concurrency,profile
//   mini,openai,OPENAI_API_KEY,gpt-5.4-mini*,500,200k,,,,,,openai
//   rest,openai,*,*,100,,,,,,8,
//
//   pool               needed: its name, 1 to 64 of a-z A-Z 0-9 . _ -; rows with one name have the same limits
//   provider           needed: that of the model's options, or *
//   account            needed: NAME of the credential ${NAME}, never its value; * is any, and none
//   model              needed: the provider's name of it; '*' at the end: any that begins so
//   rpm … concurrency  as the options limit.*; empty: no limit
//   profile            as limit.profile; empty: the model's own
#ifndef HEADRACE_COMMON_LIMITS_FILE_H
#define HEADRACE_COMMON_LIMITS_FILE_H

#include "common/bytes.h"
#include "common/error.h"

#include <stdint.h>

struct model_options;
struct limits_file;

struct limits_row {
    const char *pool, *provider, *account, *model; // never NULL
    int64_t rpm, tpm, itpm, otpm, rpd, tpd, concurrency; // 0: none
    const char *profile; // a name that limit_profile_find knows, or NULL
    size_t line;         // of the file
};

// limits_file_parse reads a file's text; file stands in sentences: "limits.csv:3: rpm: got 'many', want a
// whole number, 1 to 1000000000". What stands as account is never repeated: it may be a credential.
// Returns 0 with *out (free with limits_file_free), or -EINVAL with why.
MUST_CHECK int limits_file_parse(struct slice text, const char *file, struct limits_file **out, struct error *why);
// limits_file_load does so for a file; "" is no file, and *out is NULL.
MUST_CHECK int limits_file_load(const char *file, struct limits_file **out, struct error *why);
void limits_file_free(struct limits_file *limits); // may be NULL

// limits_file_find returns the first row that fits a model, or NULL. limits may be NULL. A leading
// "models/" of the model's name is dropped. The row is borrowed.
const struct limits_row *limits_file_find(const struct limits_file *limits, const struct model_options *o);

// limits_row_apply puts a row's limits into the options of a model that it fits: the model's own limit.*
// stay where they are lower. What it puts there is borrowed from the row.
void limits_row_apply(const struct limits_row *row, struct model_options *o);

#endif
