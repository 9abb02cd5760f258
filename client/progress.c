// The line that a person watches, and the summary at the end. The texts are made by functions
// without I/O; struct progress only decides when to draw. Called by run.c and submit.c.
#include "client/progress.h"

#include "common/clock.h"
#include "common/mem.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LIVE_US 200000   // least time between two drawings on a terminal
#define PLAIN_US 5000000 // and elsewhere
#define RATE_US 3000000  // the rate is that of about the last 3 s
#define BAR_MAX 24       // columns

const char *progress_number(uint64_t n, char text[32]) {
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
    char *to = text;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            *to++ = ',';
        }
        *to++ = digits[i];
    }
    *to = '\0';
    return text;
}

// short_time writes 75 s as "1m15s".
static const char *short_time(double seconds, char text[32]) {
    uint64_t s = seconds > 0 ? (uint64_t)(seconds + 0.5) : 0;
    if (s < 60) {
        snprintf(text, 32, "%us", (unsigned)s);
    } else if (s < 3600) {
        snprintf(text, 32, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
    } else if (s < 100 * 3600) {
        snprintf(text, 32, "%uh%02um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    } else {
        snprintf(text, 32, "%llud", (unsigned long long)(s / 86400));
    }
    return text;
}

static double fraction(const struct progress_view *view) {
    if (view->total == 0) {
        return 0;
    }
    double f = (double)view->done / (double)view->total;
    return f > 1 ? 1 : f;
}

// add_bar appends "[####----] " of `cells` cells.
static int add_bar(double part, size_t cells, struct buf *out) {
    int status = buf_add_byte(out, '[');
    size_t full = (size_t)(part * (double)cells);
    for (size_t i = 0; status == 0 && i < cells; i++) {
        status = buf_add_byte(out, i < full ? '#' : '-');
    }
    return status ? status : buf_add_str(out, "] ");
}

// add_facts appends all but the bar, the most important first.
static int add_facts(const struct progress_view *view, struct buf *out) {
    char a[32], b[32];
    int status = buf_add_str(out, progress_number(view->done, a));
    if (view->total > 0) {
        status = status ? status
                        : buf_addf(out, "/%s%s %d%%", view->total_is_exact ? "" : "~",
                                   progress_number(view->total, b), (int)(100 * fraction(view)));
    }
    status = status ? status : buf_addf(out, "  %s/s", progress_number((uint64_t)view->rate, a));
    if (view->total > view->done && view->rate > 0) {
        double left = (double)(view->total - view->done) / view->rate;
        status = status ? status : buf_addf(out, "  ETA %s", short_time(left, a));
    }
    status = status ? status : buf_addf(out, "  %s calls", progress_number(view->calls, a));
    status = status ? status
                    : buf_addf(out, "  %s error%s", progress_number(view->errors, a),
                               view->errors == 1 ? "" : "s");
    if (view->cost_known) {
        status = status ? status : buf_addf(out, "  $%.4f", view->cost);
    }
    if (view->waiting != NULL && *view->waiting != '\0') {
        status = status ? status : buf_addf(out, "  (%s)", view->waiting);
    }
    return status;
}

int progress_line(const struct progress_view *view, size_t width, struct buf *out) {
    char text[32];
    if (width == 0) {
        int status = buf_addf(out, "%s  ", short_time(view->seconds, text));
        return status ? status : add_facts(view, out);
    }
    size_t before = out->n;
    struct buf facts;
    buf_init(&facts, out->max);
    int status = add_facts(view, &facts);
    // The bar takes what the facts leave, and is left out when that is too little to see.
    size_t room = width > facts.n + 3 ? width - facts.n - 3 : 0;
    if (view->total > 0 && room >= 6) {
        status = status ? status : add_bar(fraction(view), room < BAR_MAX ? room : BAR_MAX, out);
    }
    status = status ? status : buf_add_slice(out, buf_slice(&facts));
    buf_free(&facts);
    if (status == 0 && out->n - before > width) {
        out->n = before + width; // ASCII, but for what a provider said: cut at a character
        while (out->n > before && slice_utf8_error((struct slice){out->p + before, out->n - before}) >= 0) {
            out->n--;
        }
        out->p[out->n] = '\0';
    }
    return status;
}

struct progress {
    FILE *out;
    bool quiet, is_live;
    bool is_drawn;        // a live line stands on the terminal
    int64_t drawn_us;     // when something was last drawn
    int64_t mark_us;      // the rate's base
    uint64_t mark_done;
    double rate;
    struct buf line;
};

struct progress *progress_new(FILE *out, bool quiet) {
    struct progress *progress = mem_zalloc(sizeof(*progress));
    progress->out = out;
    progress->quiet = quiet;
    progress->is_live = isatty(fileno(out)) == 1;
    progress->mark_us = progress->drawn_us = clock_us();
    buf_init(&progress->line, 4096);
    return progress;
}

void progress_free(struct progress *progress) {
    if (progress != NULL) {
        progress_clear(progress);
        buf_free(&progress->line);
        free(progress);
    }
}

static void update_rate(struct progress *progress, struct progress_view *view, int64_t now) {
    int64_t span = now - progress->mark_us;
    if (span > 0 && (span >= RATE_US || progress->rate == 0)) {
        double fresh = (double)(view->done - progress->mark_done) * 1e6 / (double)span;
        progress->rate = progress->rate == 0 ? fresh : (progress->rate + fresh) / 2;
        if (span >= RATE_US) {
            progress->mark_us = now;
            progress->mark_done = view->done;
        }
    }
    view->rate = progress->rate;
}

static size_t columns(FILE *out) {
    struct winsize size;
    return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u : 79;
}

void progress_show(struct progress *progress, struct progress_view *view, bool force) {
    int64_t now = clock_us();
    update_rate(progress, view, now);
    int64_t least = progress->is_live ? LIVE_US : PLAIN_US;
    if (progress->quiet || (!force && now - progress->drawn_us < least)) {
        return;
    }
    progress->drawn_us = now;
    buf_clear(&progress->line);
    size_t width = progress->is_live ? columns(progress->out) : 0;
    if (progress_line(view, width, &progress->line) < 0) {
        return; // a line of over 4 KiB helps nobody
    }
    fprintf(progress->out, progress->is_live ? "\r\033[K%s" : "headrace: %s\n", progress->line.p);
    fflush(progress->out);
    progress->is_drawn = progress->is_live;
}

void progress_clear(struct progress *progress) {
    if (progress->is_drawn) {
        fputs("\r\033[K", progress->out);
        fflush(progress->out);
        progress->is_drawn = false;
    }
}

int progress_errors(const struct progress_summary *s, struct buf *out) {
    char a[32];
    int status = buf_add_str(out, progress_number(s->rows - s->ok, a));
    for (size_t i = 0; status == 0 && i < s->n_codes; i++) {
        status = buf_addf(out, "%s%s %s", i == 0 ? " (" : ", ", progress_number(s->codes[i].n, a),
                          s->codes[i].code);
    }
    return status ? status : buf_add_str(out, s->n_codes > 0 ? ")" : "");
}

static int add_calls(const struct progress_summary *s, struct buf *out) {
    char a[32], b[32], c[32];
    int status = buf_addf(out, "  calls     %s", progress_number(s->calls, a));
    if (s->ok > s->calls && s->calls > 0) { // one call a record is what an answer costs otherwise
        uint64_t saved = s->ok - s->calls;
        status = status ? status
                        : buf_addf(out, " for %s records: %s saved (%.1f %%)",
                                   progress_number(s->ok, b), progress_number(saved, c),
                                   100.0 * (double)saved / (double)s->ok);
    }
    if (s->calls_failed > 0 || s->retries > 0) {
        status = status ? status
                        : buf_addf(out, "; %s failed, %s tried again",
                                   progress_number(s->calls_failed, b), progress_number(s->retries, c));
    }
    status = status ? status : buf_add_byte(out, '\n');
    if (s->ambiguous > 0) {
        char timed_out[32], broken[32], lost[32], crashed[32];
        status = status ? status
                        : buf_addf(out, "  ambiguous %s call%s may have been billed without an answer: %s timed "
                                        "out, %s cut off, %s lost with a worker, %s with a coordinator\n",
                                   progress_number(s->ambiguous, a), s->ambiguous == 1 ? "" : "s",
                                   progress_number(s->timed_out, timed_out),
                                   progress_number(s->broken, broken), progress_number(s->lost, lost),
                                   progress_number(s->crashed, crashed));
    }
    if (s->outages > 0) {
        status = status ? status
                        : buf_addf(out, "  outages   %s: calls waited %.1f s for the provider%s\n",
                                   progress_number(s->outages, a), s->outage_seconds,
                                   s->is_out ? ", which is still out" : "");
    }
    if (s->again > 0) {
        status = status ? status
                        : buf_addf(out, "  restarts  %s parts that ended were started again\n",
                                   progress_number(s->again, a));
    }
    return status;
}

static int add_cost(const struct progress_summary *s, struct buf *out) {
    char a[32];
    if (s->price == NULL) {
        return buf_add_str(out, "  cost      unknown (no price of this model is known)\n");
    }
    int status = buf_addf(out, "  cost      $%.4f", s->cost);
    if (s->asked > 0) {
        status = status ? status
                        : buf_addf(out, ", $%.4f per 1,000 records",
                                   s->cost * 1000 / (double)s->asked);
    }
    status = status ? status : buf_addf(out, " (%s)", s->price);
    if (s->unpriced > 0) {
        status = status ? status
                        : buf_addf(out, ", and %s call%s of unknown cost", progress_number(s->unpriced, a),
                                   s->unpriced == 1 ? "" : "s");
    }
    return status ? status : buf_add_byte(out, '\n');
}

int progress_summary_text(const struct progress_summary *s, struct buf *out) {
    char a[32], b[32];
    double rate = s->seconds > 0 ? (double)(s->rows - s->resumed) / s->seconds : 0;
    int status = buf_addf(out, "headrace: %s: %s\n", s->model, s->ended);
    status = status ? status
                    : buf_addf(out, "  records   %s, %s with a value", progress_number(s->rows, a),
                               progress_number(s->ok, b));
    if (s->resumed > 0) {
        status = status ? status
                        : buf_addf(out, "; %s written by earlier starts",
                                   progress_number(s->resumed, a));
    }
    status = status ? status : buf_add_byte(out, '\n');
    status = status ? status : buf_add_str(out, "  errors    ");
    status = status ? status : progress_errors(s, out);
    status = status ? status : buf_add_byte(out, '\n');
    if (s->missing > 0) {
        status = status ? status
                        : buf_addf(out, "  missing   %s row%s read and not in the output%s\n",
                                   progress_number(s->missing, a), s->missing == 1 ? "" : "s",
                                   s->is_detached ? ": in jobs at the provider"
                                   : s->has_more ? "; the input goes on behind them" : "");
    }
    status = status ? status : add_calls(s, out);
    status = status ? status
                    : buf_addf(out, "  tokens    %s in, %s out\n",
                               progress_number(s->input_tokens, a),
                               progress_number(s->output_tokens, b));
    status = status ? status : add_cost(s, out);
    status = status ? status
                    : buf_addf(out, "  time      %.1f s, %s records/s\n", s->seconds,
                               progress_number((uint64_t)rate, a));
    return status ? status : buf_addf(out, "  result    %s\n", s->output);
}
