// messages: structs, packing and unpacking of every message; made from messages.def.
#ifndef HEADRACE_PROTO_MESSAGES_H
#define HEADRACE_PROTO_MESSAGES_H

#include "common/bytes.h"
#include "common/error.h"

#define MESSAGE_C_STR struct slice
#define MESSAGE_C_BIN struct slice
#define MESSAGE_C_U64 uint64_t
#define MESSAGE_C_BOOL bool

// struct message_hello { struct slice worker; uint64_t incarnation; ... };
#define MESSAGE(NAME, kind, name, text) struct message_##name {
#define FIELD(message, TYPE, field, need, most, text) MESSAGE_C_##TYPE field;
#define END_MESSAGE(name) \
    char unused_; \
    };
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef END_MESSAGE

enum message_kind {
#define MESSAGE(NAME, kind, name, text) MESSAGE_##NAME = kind,
#define FIELD(message, TYPE, field, need, most, text)
#define END_MESSAGE(name)
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef END_MESSAGE
};

// A message of any kind; slices borrow from the frame it was unpacked from.
struct message {
    enum message_kind kind;
    union {
#define MESSAGE(NAME, kind, name, text) struct message_##name name;
#define FIELD(message, TYPE, field, need, most, text)
#define END_MESSAGE(name)
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef END_MESSAGE
    };
};

// message_name returns "HELLO", or "?" for a kind that is not one.
const char *message_name(enum message_kind kind);

// message_pack appends the whole frame, head included. Optional fields that are zero or empty are
// left out. Returns 0; -EMSGSIZE past out's ceiling; -EINVAL for a field past its bound in
// messages.def. A STR of at most 2048 bytes is cut to fit instead, and bytes of a STR that are not
// UTF-8 become '?': what is said for people never fails. On failure out is as it was.
MUST_CHECK int message_pack(const struct message *message, struct buf *out);

// message_unpack reads one frame. Slices in *message borrow from frame. A BIN may be sent as str too;
// an optional field that is null counts as missing.
// Returns 0; or with why (which names the kind and the field)
//   -EPROTO     no head, an unknown kind, not one msgpack map, a field missing, of the wrong type or
//               out of bounds or there twice, text that is not UTF-8, bytes after the end
//   -ENOTSUP    another version of the protocol
MUST_CHECK int message_unpack(struct slice frame, struct message *message, struct error *why);

#endif
