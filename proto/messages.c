// Packs and unpacks every message by one table that messages.def makes. Invariant: what message_pack
// wrote message_unpack reads back, field by field; what a stranger wrote is refused with its field
// or taken whole. Called by whoever holds a socket.
#include "proto/messages.h"

#include "proto/frame.h"
#include "proto/pack.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MOST 2048 // bytes of a STR that is a name or a sentence, not a document

enum field_type { FIELD_STR, FIELD_BIN, FIELD_U64, FIELD_BOOL };
enum need { NEED_MAY, NEED_MUST };

struct field {
    struct slice name;
    enum field_type type;
    enum need need;
    uint64_t most;
    size_t offset; // in struct message
};

// A table of fields for each message, with an empty one at its end.
#define MESSAGE(NAME, kind, name, text) static const struct field fields_of_##name[] = {
#define FIELD(message_, TYPE, field_, need_, most_, text) \
    {.name = {#field_, sizeof(#field_) - 1}, \
     .type = FIELD_##TYPE, \
     .need = NEED_##need_, \
     .most = most_, \
     .offset = offsetof(struct message, message_.field_)},
#define END_MESSAGE(name_) \
    {.most = 0}, \
    } \
    ;
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef END_MESSAGE

struct kind {
    const char *name;
    const struct field *fields;
    size_t n; // fields, at most 32
};

#define KINDS 256
static const struct kind kinds[KINDS] = {
#define MESSAGE(NAME, kind, name_, text) \
    [kind] = {.name = #NAME, \
              .fields = fields_of_##name_, \
              .n = sizeof(fields_of_##name_) / sizeof(struct field) - 1},
#define FIELD(message, TYPE, field, need, most, text)
#define END_MESSAGE(name)
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef END_MESSAGE
};

// is_in_bounds: STR and BIN always have a bound, U64 has none when most is 0.
static bool is_in_bounds(const struct field *f, const void *at) {
    switch (f->type) {
    case FIELD_STR:
    case FIELD_BIN:
        return ((const struct slice *)at)->n <= f->most;
    case FIELD_U64:
        return f->most == 0 || *(const uint64_t *)at <= f->most;
    case FIELD_BOOL:
        return true;
    }
    return false;
}

static bool is_empty(const struct field *f, const void *at) {
    switch (f->type) {
    case FIELD_STR:
    case FIELD_BIN:
        return ((const struct slice *)at)->n == 0;
    case FIELD_U64:
        return *(const uint64_t *)at == 0;
    case FIELD_BOOL:
        return !*(const bool *)at;
    }
    return false;
}

const char *message_name(enum message_kind kind) {
    return (unsigned)kind < KINDS && kinds[kind].name != NULL ? kinds[kind].name : "?";
}

// ---- Packing ------------------------------------------------------------------------------------

static int pack_field(struct buf *out, const struct field *f, const void *at) {
    int rc = pack_str(out, f->name);
    if (rc != 0) {
        return rc;
    }
    switch (f->type) {
    case FIELD_STR:
        return pack_text(out, *(const struct slice *)at, f->most);
    case FIELD_BIN:
        return pack_bin(out, *(const struct slice *)at);
    case FIELD_U64:
        return pack_uint(out, *(const uint64_t *)at);
    case FIELD_BOOL:
        return pack_bool(out, *(const bool *)at);
    }
    return -EINVAL;
}

int message_pack(const struct message *message, struct buf *out) {
    assert((unsigned)message->kind < KINDS && kinds[message->kind].name != NULL);
    const struct kind *kind = &kinds[message->kind];
    const char *base = (const char *)message;
    size_t start = out->n;
    uint32_t present = 0, count = 0;
    for (size_t i = 0; i < kind->n; i++) {
        const struct field *f = &kind->fields[i];
        bool is_text = f->type == FIELD_STR && f->most <= TEXT_MOST; // pack_text makes it fit
        if (!is_text && !is_in_bounds(f, base + f->offset)) {
            return -EINVAL;
        }
        if (f->need == NEED_MUST || !is_empty(f, base + f->offset)) {
            present |= 1u << i;
            count++;
        }
    }
    int rc = buf_add(out, (char[FRAME_HEAD]){'H', 'R', FRAME_VERSION, (char)message->kind}, FRAME_HEAD);
    rc = rc == 0 ? pack_map(out, count) : rc;
    for (size_t i = 0; rc == 0 && i < kind->n; i++) {
        if ((present >> i & 1) != 0) {
            rc = pack_field(out, &kind->fields[i], base + kind->fields[i].offset);
        }
    }
    if (rc != 0) {
        out->n = start;
    }
    return rc;
}

// ---- Unpacking ----------------------------------------------------------------------------------

static int refuse(const struct kind *kind, const struct field *f, const char *got, struct error *why) {
    static const char *const types[] = {[FIELD_STR] = "a string",
                                        [FIELD_BIN] = "binary data",
                                        [FIELD_U64] = "an integer from 0",
                                        [FIELD_BOOL] = "a boolean"};
    if (f->most == 0) {
        return error_set(why, -EPROTO, "%s.%s: got %s, want %s", kind->name, f->name.p, got,
                         types[f->type]);
    }
    return error_set(why, -EPROTO, "%s.%s: got %s, want %s%s %llu%s", kind->name, f->name.p, got,
                     types[f->type], f->type == FIELD_U64 ? " to" : " of at most",
                     (unsigned long long)f->most, f->type == FIELD_U64 ? "" : " bytes");
}

// take_value puts a value where the field is.
static int take_value(const struct kind *kind, const struct field *f, const struct pack_value *v,
                      void *at, struct error *why) {
    switch (f->type) {
    case FIELD_BIN:
    case FIELD_STR:
        // A producer in a language with one kind of string may send its JSON as str.
        if (v->type != PACK_STR && (v->type != PACK_BIN || f->type != FIELD_BIN)) {
            return refuse(kind, f, pack_describe(v), why);
        }
        *(struct slice *)at = v->bytes;
        break;
    case FIELD_U64:
        if (v->type != PACK_UINT) {
            return refuse(kind, f, pack_describe(v), why);
        }
        *(uint64_t *)at = v->u;
        break;
    case FIELD_BOOL:
        if (v->type != PACK_BOOL) {
            return refuse(kind, f, pack_describe(v), why);
        }
        *(bool *)at = v->truth;
        break;
    }
    if (f->most > 0 && !is_in_bounds(f, at)) {
        char got[40];
        snprintf(got, sizeof(got), "%llu%s",
                 (unsigned long long)(f->type == FIELD_U64 ? v->u : v->bytes.n),
                 f->type == FIELD_U64 ? "" : " bytes");
        return refuse(kind, f, got, why);
    }
    return 0;
}

// find_field looks for a name, first where it stands when the sender keeps our order.
static const struct field *find_field(const struct kind *kind, struct slice name, size_t guess) {
    if (guess < kind->n && slice_eq(kind->fields[guess].name, name)) {
        return &kind->fields[guess];
    }
    for (size_t i = 0; i < kind->n; i++) {
        if (slice_eq(kind->fields[i].name, name)) {
            return &kind->fields[i];
        }
    }
    return NULL;
}

static int unpack_fields(const struct kind *kind, struct slice rest, struct message *message,
                         struct error *why) {
    struct pack_value v = {0};
    if (pack_next(&rest, &v) != 1 || v.type != PACK_MAP) {
        return error_set(why, -EPROTO, "%s: got %s, want a map of its fields", kind->name,
                         pack_describe(&v));
    }
    uint32_t seen = 0;
    size_t guess = 0;
    for (uint32_t n = v.count; n > 0; n--) {
        struct slice name;
        if (pack_str_next(&rest, &name) != 0) {
            return error_set(why, -EPROTO, "%s: got a field whose name is no string", kind->name);
        }
        const struct field *f = find_field(kind, name, guess);
        if (f == NULL) {
            struct slice skipped;
            if (pack_whole(&rest, &skipped) != 1) {
                return error_set(why, -EPROTO, "%s: got a field that is cut short", kind->name);
            }
            continue;
        }
        size_t i = (size_t)(f - kind->fields);
        guess = i + 1;
        if ((seen >> i & 1) != 0) {
            return refuse(kind, f, "it twice", why);
        }
        if (pack_next(&rest, &v) != 1) {
            return refuse(kind, f, "the end", why);
        }
        if (v.type == PACK_NIL && f->need == NEED_MAY) {
            continue;
        }
        int rc = take_value(kind, f, &v, (char *)message + f->offset, why);
        if (rc != 0) {
            return rc;
        }
        seen |= 1u << i;
    }
    for (size_t i = 0; i < kind->n; i++) {
        if (kind->fields[i].need == NEED_MUST && (seen >> i & 1) == 0) {
            return refuse(kind, &kind->fields[i], "nothing", why);
        }
    }
    return 0;
}

int message_unpack(struct slice frame, struct message *message, struct error *why) {
    if (frame.n < FRAME_HEAD || frame.p[0] != 'H' || frame.p[1] != 'R') {
        return error_set(why, -EPROTO, "got %zu bytes that do not start with 'HR', a version and a kind",
                         frame.n);
    }
    if (frame.n > FRAME_MAX_BYTES) {
        return error_set(why, -EPROTO, "got a frame of %zu bytes, want at most %d", frame.n,
                         FRAME_MAX_BYTES);
    }
    unsigned char version = (unsigned char)frame.p[2], number = (unsigned char)frame.p[3];
    if (version != FRAME_VERSION) {
        return error_set(why, -ENOTSUP, "got protocol version %u, want %u", version, FRAME_VERSION);
    }
    const struct kind *kind = &kinds[number];
    if (kind->name == NULL) {
        return error_set(why, -EPROTO, "got a message of unknown kind 0x%02x", number);
    }
    struct slice body = slice_sub(frame, FRAME_HEAD, frame.n);
    long n = frame_scan(body, 1, why);
    if (n < 0) {
        error_prefix(why, "%s: ", kind->name);
        return (int)n;
    }
    *message = (struct message){.kind = (enum message_kind)number};
    // The largest of the union, not what the initialiser happened to clear.
    memset((char *)message + sizeof(message->kind), 0, sizeof(*message) - sizeof(message->kind));
    return unpack_fields(kind, body, message, why);
}
