// Messages: each kind as bytes (tests/golden/messages.hex; a change there is a change of the
// protocol), there and back, and what a stranger may send instead.
// HEADRACE_GOLDEN=write rewrites the golden file.
#include "proto/messages.h"

#include "common/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN "golden/messages.hex"

// fill gives every field of a message a value that is its own; from the table, so that a new field
// is in the golden file without anybody thinking of it.
static void fill(struct message *m, enum message_kind kind) {
    uint64_t number = 300;
    *m = (struct message){.kind = kind};
    switch (kind) {
#define SET_STR(at, name) at = slice_of(name);
#define SET_BIN(at, name) at = slice_of("\x90" name);
#define SET_U64(at, name) at = number++;
#define SET_BOOL(at, name) at = true;
#define MESSAGE(NAME, kind_, name, text) case MESSAGE_##NAME:
#define FIELD(message_, TYPE, field, need, most, text) SET_##TYPE(m->message_.field, #field)
#define END_MESSAGE(name) break;
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef END_MESSAGE
    }
}

static const enum message_kind all_kinds[] = {
#define MESSAGE(NAME, kind_, name, text) MESSAGE_##NAME,
#define FIELD(message_, TYPE, field, need, most, text)
#define END_MESSAGE(name)
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef END_MESSAGE
};
#define N_KINDS (sizeof(all_kinds) / sizeof(all_kinds[0]))

static bool eq_STR(struct slice a, struct slice b) {
    return slice_eq(a, b);
}
#define eq_BIN eq_STR
static bool eq_U64(uint64_t a, uint64_t b) {
    return a == b;
}
static bool eq_BOOL(bool a, bool b) {
    return a == b;
}

static bool is_same(const struct message *a, const struct message *b) {
    bool same = a->kind == b->kind;
    switch (a->kind) {
#define MESSAGE(NAME, kind_, name, text) case MESSAGE_##NAME:
#define FIELD(message_, TYPE, field, need, most, text) \
    same = same && eq_##TYPE(a->message_.field, b->message_.field);
#define END_MESSAGE(name) break;
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef END_MESSAGE
    }
    return same;
}

static void add_hex(struct buf *out, const char *name, struct slice frame) {
    assert_int_equal(buf_addf(out, "%s ", name), 0);
    for (size_t i = 0; i < frame.n; i++) {
        assert_int_equal(buf_addf(out, "%02x", (unsigned char)frame.p[i]), 0);
    }
    assert_int_equal(buf_add_byte(out, '\n'), 0);
}

static char *read_text(const char *path) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        fail_msg("cannot open %s", path);
    }
    char *text = mem_zalloc(1 << 20);
    size_t n = fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    assert_true(n > 0);
    return text;
}

static void every_message_is_the_bytes_it_was(void **state) {
    struct buf lines = {.max = 1 << 20}, frame = {.max = 1 << 20};
    for (size_t i = 0; i < N_KINDS; i++) {
        for (int is_full = 0; is_full < 2; is_full++) {
            struct message m = {.kind = all_kinds[i]}, back;
            if (is_full) {
                fill(&m, all_kinds[i]);
            }
            struct error why = {0};
            buf_clear(&frame);
            assert_int_equal(message_pack(&m, &frame), 0);
            if (message_unpack(buf_slice(&frame), &back, &why) != 0 || !is_same(&m, &back)) {
                fail_msg("%s does not come back: %s", message_name(m.kind), why.text);
            }
            char name[40];
            snprintf(name, sizeof(name), "%s.%s", message_name(m.kind), is_full ? "full" : "least");
            add_hex(&lines, name, buf_slice(&frame));
        }
    }
    const char *write = getenv("HEADRACE_GOLDEN");
    if (write != NULL && strcmp(write, "write") == 0) {
        FILE *f = fopen(GOLDEN, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(lines.p, 1, lines.n, f), lines.n);
        fclose(f);
    }
    char *want = read_text(GOLDEN);
    assert_string_equal(lines.p, want);
    free(want);
    buf_free(&lines);
    buf_free(&frame);
}

static void a_frame_cut_anywhere_is_refused(void **state) {
    struct buf frame = {.max = 1 << 20};
    for (size_t i = 0; i < N_KINDS; i++) {
        struct message m, back;
        fill(&m, all_kinds[i]);
        buf_clear(&frame);
        assert_int_equal(message_pack(&m, &frame), 0);
        for (size_t n = 0; n < frame.n; n++) {
            char *copy = mem_dup(frame.p, n); // exact size: ASan sees a read past the cut
            struct error why = {0};
            assert_int_equal(message_unpack((struct slice){copy, n}, &back, &why), -EPROTO);
            assert_true(why.text[0] != '\0');
            free(copy);
        }
    }
    buf_free(&frame);
}

static const struct stranger {
    const char *name;
    struct slice frame;
    int rc;
    const char *want; // in the sentence
} strangers[] = {
#define S(text) {text, sizeof(text) - 1}
    {"an empty frame", S(""), -EPROTO, "got 0 bytes"},
    {"another protocol", S("GET / HTTP/1.1\r\n"), -EPROTO, "do not start with 'HR'"},
    {"another version", S("HR\x02\x24\x80"), -ENOTSUP, "got protocol version 2, want 1"},
    {"an unknown kind", S("HR\x01\x7f\x80"), -EPROTO, "unknown kind 0x7f"},
    {"no body", S("HR\x01\x24"), -EPROTO, "FLUSH: offset 0: got no bytes"},
    {"a body that is no map", S("HR\x01\x24\x90"), -EPROTO, "FLUSH: got an array, want a map"},
    {"bytes after the end", S("HR\x01\x24\x80\xc0"), -EPROTO, "got 1 more bytes, want the end"},
    {"a field that is missing", S("HR\x01\x33\x81\xa4upto\x01"), -EPROTO,
     "ACK.partition: got nothing, want an integer from 0 to 4095"},
    {"a wrong type", S("HR\x01\x33\x82\xa9partition\xa1x\xa4upto\x01"), -EPROTO,
     "ACK.partition: got a string"},
    {"a negative number", S("HR\x01\x33\x82\xa9partition\xff\xa4upto\x01"), -EPROTO,
     "ACK.partition: got a negative integer"},
    {"a number out of bounds", S("HR\x01\x33\x82\xa9partition\xcd\x10\x00\xa4upto\x01"), -EPROTO,
     "ACK.partition: got 4096, want an integer from 0 to 4095"},
    {"a field twice", S("HR\x01\x33\x83\xa4upto\x01\xa9partition\x01\xa4upto\x02"), -EPROTO,
     "ACK.upto: got it twice"},
    {"a required field that is null", S("HR\x01\x33\x82\xa9partition\x01\xa4upto\xc0"), -EPROTO,
     "ACK.upto: got null"},
    {"an optional field that is null", S("HR\x01\x04\x81\xa6reason\xc0"), 0, ""},
    {"an unknown field", S("HR\x01\x04\x82\xa3new\x81\x01\x92\x02\x03\xa6reason\xa1x"), 0, ""},
    {"an unknown field in front of a missing one", S("HR\x01\x33\x82\xa3new\x01\xa4upto\x01"), -EPROTO,
     "ACK.partition: got nothing"},
    {"a name that is a number", S("HR\x01\x24\x81\x01\x01"), -EPROTO, "whose name is no string"},
    {"a name that is binary", S("HR\x01\x04\x81\xc4\x06reason\xa1x"), -EPROTO, "is no string"},
    {"a body that is a number", S("HR\x01\x43\x00"), -EPROTO, "STATUS: got an integer"},
    {"text that is not UTF-8", S("HR\x01\x04\x81\xa6reason\xa2\xc3\x28"), -EPROTO, "want UTF-8"},
    {"binary data in a text field", S("HR\x01\x04\x81\xa6reason\xc4\x01x"), -EPROTO,
     "BYE.reason: got binary data"},
    {"text in a binary field", S("HR\x01\x22\x83\xa9" "first_seq\x01\xa5" "count\x01\xa7records\xa2{}"), 0,
     ""},
    {"a map of four thousand million", S("HR\x01\x24\xdf\xff\xff\xff\xff"), -EPROTO,
     "got a map of 8589934590 values"},
    {"an ext type", S("HR\x01\x24\x81\xa1x\xd4\x01\x01"), -EPROTO, "got an ext type"},
};

static void strangers_are_refused_by_name(void **state) {
    for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
        const struct stranger *c = &strangers[i];
        char *copy = mem_dup(c->frame.p, c->frame.n);
        struct message m;
        struct error why = {0};
        int rc = message_unpack((struct slice){copy, c->frame.n}, &m, &why);
        if (rc != c->rc || strstr(why.text, c->want) == NULL) {
            fail_msg("%s: got %d '%s', want %d '%s'", c->name, rc, why.text, c->rc, c->want);
        }
        free(copy);
    }
}

static void what_cannot_be_read_is_not_packed(void **state) {
    struct buf out = {.max = 64};
    char long_reason[300];
    memset(long_reason, 'x', sizeof(long_reason));
    struct message m = {.kind = MESSAGE_BYE, .bye.reason = {long_reason, 200}};
    assert_int_equal(message_pack(&m, &out), -EMSGSIZE);
    assert_int_equal(out.n, 0);
    m = (struct message){.kind = MESSAGE_ACK, .ack.partition = 4096};
    assert_int_equal(message_pack(&m, &out), -EINVAL);
    char *sql = mem_zalloc(1048577);
    memset(sql, 'x', 1048577);
    out.max = 4 << 20;
    m = (struct message){.kind = MESSAGE_CREATE, .create.sql = {sql, 1048577}};
    assert_int_equal(message_pack(&m, &out), -EINVAL); // half a statement is none
    free(sql);
    buf_free(&out);
}

static void sentences_are_made_to_fit(void **state) {
    struct buf out = {.max = 1 << 16};
    struct message back;
    struct error why = {0};
    char text[258];
    memset(text, 'x', sizeof(text));
    memcpy(text + 255, "\xc3\xa9", 2); // a character across the bound of 256 bytes
    struct message m = {.kind = MESSAGE_BYE, .bye.reason = {text, sizeof(text)}};
    assert_int_equal(message_pack(&m, &out), 0);
    assert_int_equal(message_unpack(buf_slice(&out), &back, &why), 0);
    assert_int_equal(back.bye.reason.n, 255);
    buf_clear(&out);
    m.bye.reason = SLICE_LIT("\xff" "a\xc3\xa9\xc3");
    assert_int_equal(message_pack(&m, &out), 0);
    assert_int_equal(message_unpack(buf_slice(&out), &back, &why), 0);
    assert_true(slice_is(back.bye.reason, "?a\xc3\xa9?"));
    buf_free(&out);
}

static void kinds_have_names(void **state) {
    assert_string_equal(message_name(MESSAGE_HELLO), "HELLO");
    assert_string_equal(message_name((enum message_kind)0xff), "?");
    assert_string_equal(message_name((enum message_kind)70000), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_is_the_bytes_it_was),
        cmocka_unit_test(a_frame_cut_anywhere_is_refused),
        cmocka_unit_test(strangers_are_refused_by_name),
        cmocka_unit_test(what_cannot_be_read_is_not_packed),
        cmocka_unit_test(sentences_are_made_to_fit),
        cmocka_unit_test(kinds_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
