// dry_run: what a run would take, without one call: its rows are read, batched and rendered as a run
// does it, and the prompts are counted instead of sent.
#ifndef HEADRACE_CLIENT_DRY_RUN_H
#define HEADRACE_CLIENT_DRY_RUN_H

#include "client/images.h"
#include "client/rows.h"
#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"
#include "common/prices.h"

#define DRY_RUN_SHOWN 20 // rows that make no call: so many are named

// One way to ask: how much of what.
struct dry_run_sum {
    int64_t batch_size;
    uint64_t records, calls, input_tokens, output_tokens;
    double cost; // USD; 0 when no price is known
};

struct dry_run_config {
    const struct model *model;
    const struct prices *prices;   // of a file; NULL: none
    struct rows *rows;             // at their beginning; read to their end
    struct images *images;         // reads the files that rows name; NULL: the model has none
    const char *id_column, *key_column; // "": id and key
    int64_t partitions;
    int64_t answer_tokens;         // of one record's answer; 0: guessed from the OUTPUT columns
    double budget_usd;             // 0: none
    // bad is told of each of the first DRY_RUN_SHOWN rows that make no call.
    void (*bad)(void *arg, const struct error *why);
    void *arg;
};

struct dry_run {
    uint64_t rows, bad;            // in all; of these, rows that make no call
    struct dry_run_sum batched, single; // batch.size as the model has it; batch.size 1
    bool has_single;               // the model batches, and can be asked with batch.size 1
    bool is_exact;                 // input tokens were counted with tokenizer.file
    bool is_priced;
    struct price price;
};

// dry_run_count reads all rows. Returns 0, or a negative errno with why: a file that cannot be read, a
// prompt that cannot be rendered.
MUST_CHECK int dry_run_count(const struct dry_run_config *config, struct dry_run *out, struct error *why);

// dry_run_minutes says how long calls and tokens take at the model's limits, by the one that binds:
// *limit is its name, NULL when the model has none (the result is 0 then).
double dry_run_minutes(const struct model_options *o, const struct dry_run_sum *sum, const char **limit);

// dry_run_text appends the table that a person reads. Returns 0 or -EMSGSIZE.
MUST_CHECK int dry_run_text(const struct dry_run_config *config, const struct dry_run *run, struct buf *out);

#endif
