// progress: the line that a person watches, and the summary at the end.
#ifndef HEADRACE_CLIENT_PROGRESS_H
#define HEADRACE_CLIENT_PROGRESS_H

#include "common/bytes.h"

#include <stdio.h>

// How far a run is.
struct progress_view {
    uint64_t done;         // rows written
    uint64_t total;        // rows in all; 0: not known
    bool total_is_exact;   // else an estimate from the part that was read
    double seconds;        // since the start
    double rate;           // rows a second, lately
    uint64_t calls, errors;
    bool cost_known;
    double cost;           // USD
    const char *waiting;   // why nothing moves; "" or NULL: nothing to say
};

// progress_line appends one line without a line break.
//   width  columns of the terminal, the line is cut to fit; 0: a plain line for a log, never cut
// Returns 0 or -EMSGSIZE.
MUST_CHECK int progress_line(const struct progress_view *view, size_t width, struct buf *out);

struct progress;

// progress_new watches out (stderr): a line that is drawn anew at most 5 times a second on a
// terminal, else one line each 5 s. quiet: nothing at all.
struct progress *progress_new(FILE *out, bool quiet);
void progress_free(struct progress *progress); // progress may be NULL
// progress_show draws when it is time to; it fills in view->rate. force: draw now.
void progress_show(struct progress *progress, struct progress_view *view, bool force);
// progress_clear takes the live line away, before something else is printed.
void progress_clear(struct progress *progress);

struct progress_code {
    char code[32];
    uint64_t n;
};

// What a run came to.
struct progress_summary {
    const char *ended;              // "finished", "stopped by the provider", "interrupted", ...
    const char *model;              // "llm_sentiment (openai gpt-5.4-mini)"
    uint64_t rows, ok;              // written, and of these with a value
    const struct progress_code *codes; // n_codes error codes
    size_t n_codes;
    uint64_t resumed;               // rows that earlier starts of the run wrote
    uint64_t missing;               // rows that were read and are not in the output
    bool is_detached;               // what is missing is at the provider
    bool has_more;                  // the input was not read to its end
    uint64_t asked;                 // records that went into calls
    uint64_t calls, calls_failed, retries;
    uint64_t ambiguous;             // calls that may have been billed without an answer
    uint64_t timed_out, broken, lost; // of these, by cause: no answer in time, cut off, worker lost,
    uint64_t crashed;                 // coordinator lost
    uint64_t outages;               // times that the provider was out
    double outage_seconds;          // how long, of those that are over
    bool is_out;                    // it is out now
    uint64_t again;                 // parts that were started again
    uint64_t input_tokens, output_tokens;
    double cost;                    // USD, of the calls whose cost is known
    uint64_t unpriced;              // calls whose cost is not known
    const char *price;              // "price of gpt-5.4-mini as of 2026-11-01"; NULL: not known
    double seconds;
    const char *output;             // where the result is
};

// progress_errors appends "3 (2 filtered, 1 bad-record)": rows without a value, by code. Returns 0 or
// -EMSGSIZE.
MUST_CHECK int progress_errors(const struct progress_summary *summary, struct buf *out);

// progress_summary_text appends the summary, several lines. Returns 0 or -EMSGSIZE.
MUST_CHECK int progress_summary_text(const struct progress_summary *summary, struct buf *out);

// progress_number writes 1234567 as "1,234,567" into text, which is returned.
const char *progress_number(uint64_t n, char text[32]);

#endif
