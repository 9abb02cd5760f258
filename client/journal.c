// Durable steps of a run. Invariant: the file holds whole lines, and last is what its last line says.
// Called by run.c (what there is) and run_flow.c (new steps).
#include "client/journal.h"

#include "common/json.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_MAX ((size_t)1 << 26)
#define ROWS_MOST (UINT64_C(1) << 40) // of a run: what stands above is no journal of ours

struct range {
    uint64_t first, last;
};

struct journal {
    const char *path;
    int fd;
    struct journal_step last;
    uint64_t *bits;       // of rows done, by row / 64
    size_t n_words;
    struct range *noted;  // of the next step, in the order of writing
    size_t n_noted, cap_noted;
    struct buf line;
};

// ---- Reading ------------------------------------------------------------------------------------

static void set_done(struct journal *journal, uint64_t row) {
    size_t word = (size_t)(row / 64);
    if (word >= journal->n_words) {
        size_t n = word + 1 + journal->n_words;
        journal->bits = mem_realloc(journal->bits, n * sizeof(*journal->bits));
        memset(journal->bits + journal->n_words, 0, (n - journal->n_words) * sizeof(*journal->bits));
        journal->n_words = n;
    }
    journal->bits[word] |= UINT64_C(1) << (row % 64);
}

bool journal_is_done(const struct journal *journal, uint64_t row) {
    size_t word = (size_t)(row / 64);
    return word < journal->n_words && (journal->bits[word] >> (row % 64) & 1) != 0;
}

static uint64_t number_of(struct json_object *object, const char *name) {
    struct json_object *value = json_get(object, name);
    int64_t n = value != NULL ? json_object_get_int64(value) : 0;
    return n > 0 ? (uint64_t)n : 0;
}

static void read_done(struct journal *journal, struct json_object *ranges) {
    size_t n = json_object_is_type(ranges, json_type_array) ? json_object_array_length(ranges) : 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *pair = json_object_array_get_idx(ranges, i);
        if (!json_object_is_type(pair, json_type_array) || json_object_array_length(pair) != 2) {
            continue;
        }
        int64_t first = json_object_get_int64(json_object_array_get_idx(pair, 0));
        int64_t last = json_object_get_int64(json_object_array_get_idx(pair, 1));
        for (int64_t row = first; first > 0 && row <= last && row < (int64_t)ROWS_MOST; row++) {
            set_done(journal, (uint64_t)row);
        }
    }
}

static void read_codes(struct journal_step *step, struct json_object *codes) {
    if (!json_object_is_type(codes, json_type_object)) {
        return;
    }
    json_object_object_foreach(codes, name, value) {
        if (step->n_codes < JOURNAL_CODES_MAX) {
            struct journal_code *code = &step->codes[step->n_codes++];
            slice_copy(slice_of(name), code->code, sizeof(code->code));
            code->n = (uint64_t)json_object_get_int64(value);
        }
    }
}

// read_step takes one line; false: it is torn.
static bool read_step(struct journal *journal, struct slice line) {
    struct json_object *object = NULL;
    struct error ignored = {0};
    if (json_parse(line, &object, &ignored) < 0 || json_get(object, "offset") == NULL) {
        json_object_put(object);
        return false;
    }
    struct journal_step step = {
        .offset = (int64_t)number_of(object, "offset"),
        .rows = number_of(object, "rows"),
        .ok = number_of(object, "ok"),
        .is_end = json_object_get_boolean(json_get(object, "end")) != 0,
    };
    read_codes(&step, json_get(object, "codes"));
    struct json_object *used = json_get(object, "used");
    size_t n = json_object_is_type(used, json_type_array) ? json_object_array_length(used) : 0;
    for (size_t i = 0; i < n && i < JOURNAL_USED_MAX; i++) {
        step.used[i] = json_object_get_double(json_object_array_get_idx(used, i));
    }
    read_done(journal, json_get(object, "done"));
    journal->last = step;
    json_object_put(object);
    return true;
}

// read_all reads whole lines until one is torn, and cuts the file behind the last good one.
static int read_all(struct journal *journal) {
    int copy = fcntl(journal->fd, F_DUPFD_CLOEXEC, 0);
    FILE *file = copy >= 0 ? fdopen(copy, "re") : NULL;
    if (file == NULL) {
        return -errno;
    }
    char *line = NULL;
    size_t cap = 0;
    int64_t end = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, file)) > 0 && line[n - 1] == '\n' &&
           read_step(journal, (struct slice){line, (size_t)n - 1})) {
        end += n;
    }
    free(line);
    int status = ferror(file) ? -EIO : 0;
    fclose(file);
    if (status == 0 && (ftruncate(journal->fd, end) != 0 || lseek(journal->fd, end, SEEK_SET) < 0)) {
        status = -errno;
    }
    return status;
}

// ---- Life ---------------------------------------------------------------------------------------

struct journal *journal_open(const char *path, struct error *why) {
    struct journal *journal = mem_zalloc(sizeof(*journal));
    journal->path = path;
    buf_init(&journal->line, STEP_MAX);
    journal->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int status = journal->fd >= 0 ? read_all(journal) : -errno;
    if (status < 0) {
        error_set(why, status, "cannot use '%s': %s", path, strerror(-status));
        journal_close(journal);
        return NULL;
    }
    return journal;
}

void journal_close(struct journal *journal) {
    if (journal != NULL) {
        if (journal->fd >= 0) {
            close(journal->fd);
        }
        free(journal->bits);
        free(journal->noted);
        buf_free(&journal->line);
        free(journal);
    }
}

const struct journal_step *journal_last(const struct journal *journal) {
    return &journal->last;
}

// ---- Writing ------------------------------------------------------------------------------------

void journal_note(struct journal *journal, uint64_t row) {
    struct range *last = journal->n_noted > 0 ? &journal->noted[journal->n_noted - 1] : NULL;
    if (last != NULL && row == last->last + 1) {
        last->last = row;
        return;
    }
    if (journal->n_noted == journal->cap_noted) {
        journal->cap_noted = journal->cap_noted > 0 ? journal->cap_noted * 2 : 64;
        journal->noted = mem_realloc(journal->noted, journal->cap_noted * sizeof(*journal->noted));
    }
    journal->noted[journal->n_noted++] = (struct range){row, row};
}

static int format_step(struct journal *journal, const struct journal_step *step) {
    struct buf *line = &journal->line;
    buf_clear(line);
    int status = buf_addf(line, "{\"offset\":%" PRId64 ",\"rows\":%" PRIu64 ",\"ok\":%" PRIu64
                                ",\"codes\":{", step->offset, step->rows, step->ok);
    for (size_t i = 0; status == 0 && i < step->n_codes; i++) {
        status = i > 0 ? buf_add_byte(line, ',') : 0;
        status = status ? status : json_add_string(line, slice_of(step->codes[i].code));
        status = status ? status : buf_addf(line, ":%" PRIu64, step->codes[i].n);
    }
    status = status ? status : buf_add_str(line, "},\"used\":[");
    for (size_t i = 0; status == 0 && i < JOURNAL_USED_MAX; i++) {
        status = i > 0 ? buf_add_byte(line, ',') : 0;
        status = status ? status : json_add_double(line, step->used[i]);
    }
    status = status ? status : buf_add_byte(line, ']');
    for (size_t i = 0; status == 0 && i < journal->n_noted; i++) {
        status = buf_addf(line, "%s[%" PRIu64 ",%" PRIu64 "]", i > 0 ? "," : ",\"done\":[",
                          journal->noted[i].first, journal->noted[i].last);
    }
    if (status == 0 && journal->n_noted > 0) {
        status = buf_add_byte(line, ']');
    }
    return status ? status : buf_add_str(line, step->is_end ? ",\"end\":true}\n" : "}\n");
}

int journal_add(struct journal *journal, const struct journal_step *step, struct error *why) {
    int status = format_step(journal, step);
    struct slice rest = buf_slice(&journal->line);
    while (status == 0 && rest.n > 0) {
        ssize_t n = write(journal->fd, rest.p, rest.n);
        if (n < 0 && errno != EINTR) {
            status = -errno;
        }
        rest = slice_sub(rest, n > 0 ? (size_t)n : 0, rest.n);
    }
    if (status == 0 && fdatasync(journal->fd) != 0) {
        status = -errno;
    }
    if (status < 0) {
        return error_set(why, status, "cannot write '%s': %s", journal->path, strerror(-status));
    }
    journal->last = *step;
    journal->n_noted = 0;
    return 0;
}
