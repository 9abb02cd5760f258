// Rows as producers send them, JSON or msgpack, enveloped or flat. Invariant: each row of a frame is
// told exactly once and in order, good or bad, and a bad one costs no other. The bufs live as long as
// the frame and are used again for each row. Called by intake and by the client.
#include "proto/record.h"

#include "common/json.h"
#include "common/model.h"
#include "proto/frame.h"
#include "proto/pack.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FIELDS_MAX (4 * RECORD_MAX_BYTES + RECORD_LONG_MAX_BYTES) // msgpack may be longer than JSON: 1.0 is 9 bytes
#define ID_TEXT_MAX 24                    // bytes of the longest integer as text

struct rows {
    const struct row_columns *columns;
    row_fn *each;
    void *arg;
    long n; // rows told
    struct row row;
    struct buf fields, options, raw_options;
    char id_text[ID_TEXT_MAX], key_text[ID_TEXT_MAX];
};

enum part { PART_ID, PART_KEY, PART_MODEL, PART_OPTIONS, PART_FIELDS, PART_COUNT };
static const char *const part_names[] = {[PART_ID] = "id",           [PART_KEY] = "key",
                                         [PART_MODEL] = "model",     [PART_OPTIONS] = "options",
                                         [PART_FIELDS] = "fields"};

static int bad(struct rows *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

// bad marks the row that is being read. The sentence says where in the row; `tell` adds which row.
static int bad(struct rows *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->row.why.text, sizeof(r->row.why.text), format, args);
    va_end(args);
    r->row.outcome = OUTCOME_BAD_RECORD;
    return -EINVAL;
}

static void too_long(struct rows *r, size_t n) {
    bad(r, "got %zu bytes, want at most %zu", n, r->columns->max_bytes);
    r->row.outcome = OUTCOME_TOO_LONG;
}

static void begin(struct rows *r) {
    struct row *row = &r->row;
    row->id = row->key = row->model = row->options = row->fields = SLICE_NONE;
    row->n_bytes = 0;
    row->outcome = OUTCOME_OK;
    row->why.text[0] = '\0';
    buf_clear(&r->fields);
    buf_clear(&r->options);
}

static int tell(struct rows *r) {
    r->n++;
    if (r->row.outcome != OUTCOME_OK) {
        r->row.options = r->row.fields = SLICE_NONE;
        error_prefix(&r->row.why, "row %ld: ", r->n);
    }
    return r->each(r->arg, &r->row);
}

// take_text sets an id or key from a value; number is room for one that was no string.
static int take_text(struct rows *r, struct slice name, const struct pack_value *v, char *number,
                     struct slice *into) {
    switch (v->type) {
    case PACK_NIL:
        return 0;
    case PACK_STR:
        *into = v->bytes;
        break;
    case PACK_BOOL:
        *into = v->truth ? SLICE_LIT("true") : SLICE_LIT("false");
        return 0;
    case PACK_UINT:
        snprintf(number, ID_TEXT_MAX, "%llu", (unsigned long long)v->u);
        *into = slice_of(number);
        return 0;
    case PACK_INT:
        snprintf(number, ID_TEXT_MAX, "%lld", (long long)v->i);
        *into = slice_of(number);
        return 0;
    default:
        return bad(r, "column '%.*s': got %s, want a string, an integer or a boolean",
                   SLICE_FMT(slice_sub(name, 0, MODEL_NAME_MAX)), pack_describe(v));
    }
    if (into->n > RECORD_ID_MAX) {
        size_t n = into->n;
        *into = SLICE_NONE;
        return bad(r, "column '%.*s': got %zu bytes, want at most %d",
                   SLICE_FMT(slice_sub(name, 0, MODEL_NAME_MAX)), n, RECORD_ID_MAX);
    }
    return 0;
}

static int take_model(struct rows *r, const struct pack_value *v) {
    if (v->type == PACK_NIL) {
        return 0;
    }
    if (v->type != PACK_STR || v->bytes.n > MODEL_NAME_MAX) {
        return bad(r, "column 'model': got %s, want a string of at most %d bytes", pack_describe(v),
                   MODEL_NAME_MAX);
    }
    r->row.model = v->bytes;
    return 0;
}

static int take_options(struct rows *r, struct slice map) {
    struct pack_value v = {0};
    struct slice at = map;
    if (pack_next(&at, &v) == 1 && v.type == PACK_NIL) {
        return 0;
    }
    struct error why = {0};
    int rc = options_canonical(map, &r->options, &why);
    if (rc != 0) {
        return bad(r, "column 'options': %s", why.text[0] != '\0' ? why.text : "too long");
    }
    r->row.options = buf_slice(&r->options);
    return 0;
}

// ---- msgpack ------------------------------------------------------------------------------------

// What one pass over a row's map finds.
struct found {
    struct slice part[PART_COUNT]; // the envelope's values; empty: not there
    struct slice id, key;          // the flat form's
    bool has_other;                // a column that the envelope does not know
};

static int find_parts(struct rows *r, struct slice map, struct found *f) {
    uint32_t n;
    if (pack_map_next(&map, &n) != 0) {
        struct pack_value v = {0};
        return bad(r, "got %s, want a map", pack_next(&map, &v) == 1 ? pack_describe(&v) : "nothing");
    }
    for (uint32_t i = 0; i < n; i++) {
        struct slice name, value;
        if (pack_str_next(&map, &name) != 0) {
            return bad(r, "got a column name that is no string");
        }
        if (pack_whole(&map, &value) != 1) {
            return bad(r, "got a column without a value");
        }
        int part = 0;
        while (part < PART_COUNT && !slice_is(name, part_names[part])) {
            part++;
        }
        if (part < PART_COUNT) {
            f->part[part] = value;
        } else {
            f->has_other = true;
        }
        if (slice_eq(name, r->columns->id)) {
            f->id = value;
        }
        if (slice_eq(name, r->columns->key)) {
            f->key = value;
        }
    }
    return 0;
}

static struct pack_value head_of(struct slice value) {
    struct pack_value v = {.type = PACK_NIL};
    if (value.n > 0 && pack_next(&value, &v) != 1) {
        v.type = PACK_NIL;
    }
    return v;
}

// read_map reads a row that is a whole, scanned msgpack value.
static void read_map(struct rows *r, struct slice map) {
    struct found f = {0};
    if (find_parts(r, map, &f) != 0) {
        return;
    }
    bool enveloped = !f.has_other && head_of(f.part[PART_FIELDS]).type == PACK_MAP;
    struct pack_value id = head_of(enveloped ? f.part[PART_ID] : f.id);
    struct pack_value key = head_of(enveloped ? f.part[PART_KEY] : f.key);
    struct slice id_name = enveloped ? SLICE_LIT("id") : r->columns->id;
    struct slice key_name = enveloped ? SLICE_LIT("key") : r->columns->key;
    if (take_text(r, id_name, &id, r->id_text, &r->row.id) != 0 ||
        take_text(r, key_name, &key, r->key_text, &r->row.key) != 0) {
        return;
    }
    r->row.fields = enveloped ? f.part[PART_FIELDS] : map;
    if (enveloped) {
        struct pack_value model = head_of(f.part[PART_MODEL]);
        if (take_model(r, &model) == 0 && f.part[PART_OPTIONS].n > 0) {
            take_options(r, f.part[PART_OPTIONS]);
        }
    }
}

// read_packed reads one row off *rest. -EPROTO: what follows cannot be found any more.
static int read_packed(struct rows *r, struct slice *rest) {
    struct slice whole;
    struct error why = {0};
    begin(r);
    int rc = pack_whole(rest, &whole) == 1 ? 0 : -EPROTO;
    if (rc != 0) {
        long n = frame_scan(*rest, -1, &why);
        bad(r, "%s", n < 0 ? why.text : "want a whole msgpack value");
    } else if (whole.n > r->columns->max_bytes) {
        too_long(r, whole.n);
    } else if (frame_scan(whole, 1, &why) < 0) {
        bad(r, "%s", why.text);
    } else {
        read_map(r, whole);
    }
    r->row.n_bytes = rc == 0 ? whole.n : 0;
    int told = tell(r);
    return told != 0 ? told : rc;
}

static int read_msgpack(struct rows *r, struct slice frame) {
    struct slice rest = frame;
    uint32_t n = UINT32_MAX;
    bool is_array = pack_array_next(&rest, &n) == 0;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && (is_array ? i < n : rest.n > 0); i++) {
        size_t before = rest.n;
        rc = read_packed(r, &rest);
        if (rc == -EPROTO && rest.n == before) {
            return 0; // told as the last row
        }
    }
    if (rc == 0 && rest.n > 0) {
        begin(r);
        bad(r, "offset %zu of the frame: got %zu more bytes behind an array of %u, want the end",
            frame.n - rest.n, rest.n, n);
        rc = tell(r);
    }
    return rc;
}

// ---- JSON ---------------------------------------------------------------------------------------

// as_value borrows a JSON scalar as the msgpack value that it would become; an array or map only by
// its type.
static struct pack_value as_value(struct json_object *json) {
    struct pack_value v = {.type = PACK_NIL};
    switch (json_object_get_type(json)) {
    case json_type_null:
        break;
    case json_type_boolean:
        v.type = PACK_BOOL;
        v.truth = json_object_get_boolean(json);
        break;
    case json_type_double:
        v.type = PACK_REAL;
        break;
    case json_type_int:
        v.i = json_object_get_int64(json);
        v.type = v.i < 0 ? PACK_INT : PACK_UINT;
        if (v.type == PACK_UINT) {
            v.u = json_object_get_uint64(json);
        }
        break;
    case json_type_string:
        v.type = PACK_STR;
        v.bytes = json_text(json);
        break;
    case json_type_array:
        v.type = PACK_ARRAY;
        break;
    case json_type_object:
        v.type = PACK_MAP;
        break;
    }
    return v;
}

// read_object reads a row; its texts are borrowed from json until it was told.
static void read_object(struct rows *r, struct json_object *json) {
    struct pack_value v = as_value(json);
    if (v.type != PACK_MAP) {
        bad(r, "got %s, want an object", pack_describe(&v));
        return;
    }
    struct json_object *part[PART_COUNT] = {0}, *id = NULL, *key = NULL;
    bool has_other = false;
    json_object_object_foreach(json, name, member) {
        int i = 0;
        while (i < PART_COUNT && strcmp(name, part_names[i]) != 0) {
            i++;
        }
        has_other = has_other || i == PART_COUNT;
        if (i < PART_COUNT) {
            part[i] = member;
        }
        id = slice_is(r->columns->id, name) ? member : id;
        key = slice_is(r->columns->key, name) ? member : key;
    }
    bool enveloped = !has_other && json_object_is_type(part[PART_FIELDS], json_type_object);
    struct pack_value id_value = as_value(enveloped ? part[PART_ID] : id);
    struct pack_value key_value = as_value(enveloped ? part[PART_KEY] : key);
    struct slice id_name = enveloped ? SLICE_LIT("id") : r->columns->id;
    struct slice key_name = enveloped ? SLICE_LIT("key") : r->columns->key;
    if (take_text(r, id_name, &id_value, r->id_text, &r->row.id) != 0 ||
        take_text(r, key_name, &key_value, r->key_text, &r->row.key) != 0) {
        return;
    }
    if (enveloped) {
        struct pack_value model = as_value(part[PART_MODEL]);
        buf_clear(&r->raw_options);
        if (take_model(r, &model) != 0) {
            return;
        }
        if (part[PART_OPTIONS] != NULL) {
            if (json_to_msgpack(part[PART_OPTIONS], &r->raw_options) != 0) {
                bad(r, "column 'options': too long");
                return;
            }
            if (take_options(r, buf_slice(&r->raw_options)) != 0) {
                return;
            }
        }
    }
    if (json_to_msgpack(enveloped ? part[PART_FIELDS] : json, &r->fields) != 0) {
        bad(r, "got a row that is over %d bytes as msgpack", FIELDS_MAX);
        r->row.outcome = OUTCOME_TOO_LONG;
        return;
    }
    r->row.fields = buf_slice(&r->fields);
}

static struct slice after(struct slice text, size_t n) {
    return slice_sub(text, n, text.n);
}

static struct slice skip_space(struct slice text, const char *space) {
    while (text.n > 0 && text.p[0] != '\0' && strchr(space, text.p[0]) != NULL) {
        text.p++;
        text.n--;
    }
    return text;
}

// line_length counts the bytes up to the end of the line, its newline not among them.
static size_t line_length(struct slice text) {
    const char *end = text.n > 0 ? memchr(text.p, '\n', text.n) : NULL;
    return end != NULL ? (size_t)(end - text.p) : text.n;
}

// has_run_out says whether a row failed only because its text did not end inside the window.
static bool has_run_out(const struct rows *r, struct slice rest, size_t most, bool in_array) {
    return line_length(rest) > most &&
           (!in_array || strstr(r->row.why.text, "got the end") != NULL);
}

// window_of says how far a row may be looked for: RECORD_MAX_BYTES, or, if it is longer and no more than
// that stands outside of strings (which become objects of many times their size), max_bytes. It reads
// no further than the row, or than a parser would: so no input makes it read a byte too often.
static size_t window_of(struct slice rest, size_t max_bytes) {
    size_t most = rest.n < max_bytes ? rest.n : max_bytes, n_bare = 0, depth = 0;
    bool in_string = false;
    for (size_t i = 0; most > RECORD_MAX_BYTES && i < most; i++) {
        char c = rest.p[i];
        if (in_string) {
            in_string = c != '"';
            i += c == '\\';
            if ((unsigned char)c < 0x20) {
                return RECORD_MAX_BYTES;
            }
            continue;
        }
        in_string = c == '"';
        depth += c == '{' || c == '[';
        depth -= depth > 0 && (c == '}' || c == ']');
        if (depth == 0) {
            return i < RECORD_MAX_BYTES ? RECORD_MAX_BYTES : max_bytes;
        }
        if (++n_bare > RECORD_MAX_BYTES || depth > JSON_MAX_DEPTH) {
            return RECORD_MAX_BYTES;
        }
    }
    return most > RECORD_MAX_BYTES ? max_bytes : RECORD_MAX_BYTES;
}

// read_text reads one row off *rest and stops in front of what ends it; behind a bad one it goes on
// at the next line.
static int read_text(struct rows *r, struct slice *rest, bool in_array) {
    struct json_object *json = NULL;
    size_t used = 0;
    begin(r);
    // No row is longer than the window, so no input makes the parser read a byte too often.
    size_t most = window_of(*rest, r->columns->max_bytes);
    struct slice window = slice_sub(*rest, 0, most + 1);
    struct slice tail = after(*rest, line_length(*rest));
    if (json_parse_first(window, &json, &used, &r->row.why) != 0) {
        r->row.outcome = OUTCOME_BAD_RECORD;
        if (has_run_out(r, *rest, most, in_array)) {
            too_long(r, line_length(*rest));
        }
    } else if (used > most) {
        too_long(r, used);
    } else {
        struct slice next = skip_space(after(*rest, used), in_array ? " \t\r\n" : " \t\r");
        bool ends = next.n == 0 || (in_array ? next.p[0] == ',' || next.p[0] == ']'
                                             : next.p[0] == '\n' || next.p[0] == '{');
        if (ends) {
            tail = next;
            r->row.n_bytes = used;
            read_object(r, json);
        } else {
            bad(r, "offset %zu: got more text behind the value, want %s", used,
                in_array ? "',' or ']'" : "the end of the line");
        }
    }
    *rest = tail;
    int rc = tell(r);
    json_object_put(json);
    return rc;
}

static int read_lines(struct rows *r, struct slice rest) {
    int rc = 0;
    rest = skip_space(rest, " \t\r\n");
    while (rc == 0 && rest.n > 0) {
        rc = read_text(r, &rest, false);
        rest = skip_space(rest, " \t\r\n");
    }
    return rc;
}

static int read_array(struct rows *r, struct slice rest) {
    rest = skip_space(after(rest, 1), " \t\r\n");
    r->row.outcome = OUTCOME_OK;
    while (rest.n > 0 && rest.p[0] != ']') {
        int rc = read_text(r, &rest, true);
        if (rc != 0) {
            return rc;
        }
        rest = skip_space(rest, " \t\r\n");
        if (rest.n > 0 && rest.p[0] == ',') {
            rest = skip_space(after(rest, 1), " \t\r\n");
        }
    }
    struct slice behind = skip_space(after(rest, 1), " \t\r\n");
    if (rest.n > 0 ? behind.n == 0 : r->row.outcome != OUTCOME_OK) {
        return 0; // the whole array; or its end was on the line of the bad row
    }
    begin(r);
    bad(r, "%s", rest.n > 0 ? "got more text behind the array, want the end"
                            : "got the end of the frame, want ',' or ']'");
    return tell(r);
}

// ---- The frame ----------------------------------------------------------------------------------

static bool is_msgpack(struct slice frame) {
    struct pack_value v;
    return pack_next(&frame, &v) == 1 && (v.type == PACK_MAP || v.type == PACK_ARRAY);
}

// is_msgpack_lead: the first byte of an array or map, even when it is cut short.
static bool is_msgpack_lead(unsigned char c) {
    return (c >= 0x80 && c < 0xa0) || (c >= 0xdc && c < 0xe0);
}

// has_json_line says whether some line starts as an object does.
static bool has_json_line(struct slice text) {
    while (text.n > 0) {
        text = skip_space(text, " \t\r\n");
        if (text.n > 0 && text.p[0] == '{') {
            return true;
        }
        text = after(text, line_length(text));
    }
    return false;
}

static int read_frame(struct rows *r, struct slice frame) {
    if (frame.n == 0) {
        return 0;
    }
    struct slice text = slice_starts(frame, "\xEF\xBB\xBF") ? after(frame, 3) : frame;
    text = skip_space(text, " \t\r\n");
    if (text.n > 0 && text.p[0] == '[') {
        return read_array(r, text);
    }
    if (is_msgpack_lead((unsigned char)frame.p[0]) && (is_msgpack(frame) || !has_json_line(frame))) {
        return read_msgpack(r, frame);
    }
    if (text.n == 0 || has_json_line(text)) {
        return read_lines(r, text);
    }
    begin(r);
    bad(r, "offset %zu: got byte 0x%02x, want a JSON object or a msgpack map",
        (size_t)(text.p - frame.p), (unsigned char)text.p[0]);
    return tell(r);
}

long rows_read(struct slice frame, const struct row_columns *columns, row_fn *each, void *arg) {
    struct row_columns names = columns != NULL ? *columns : (struct row_columns){0};
    names.id = names.id.n > 0 ? names.id : SLICE_LIT("id");
    names.key = names.key.n > 0 ? names.key : SLICE_LIT("key");
    names.max_bytes = names.max_bytes > 0 ? names.max_bytes : RECORD_MAX_BYTES;
    struct rows r = {.columns = &names, .each = each, .arg = arg};
    r.fields.max = r.raw_options.max = r.options.max = FIELDS_MAX;
    int rc = read_frame(&r, frame);
    buf_free(&r.fields);
    buf_free(&r.options);
    buf_free(&r.raw_options);
    return rc != 0 ? rc : r.n;
}
