// chat: a chat completion request as the simulator sees it: its prompt, its records, what is asked.
#ifndef HEADRACE_TESTS_PROVIDER_CHAT_H
#define HEADRACE_TESTS_PROVIDER_CHAT_H

#include "common/bytes.h"
#include "common/error.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#define CHAT_SLOTS_MAX   4096
#define CHAT_FIELDS_MAX  32
#define CHAT_CHOICES_MAX 32

// One record of the prompt.
struct chat_slot {
    int64_t index;   // as numbered in the prompt
    size_t at, n;    // its text in chat->texts
    size_t item_end; // where its item ends in the answer; 0: it has no right item there
};

// One value that an item of the answer has.
struct chat_field {
    char name[64];
    char type;                          // 's'tring, 'i'nteger, 'n'umber, 'b'oolean
    char choices[CHAT_CHOICES_MAX][64]; // the words to choose from
    size_t n_choices;
};

// The shapes of an answer to a batch; see form.h.
enum chat_form { FORM_JSON, FORM_ELEMENTS, FORM_HEADER, FORM_LIST };

struct chat {
    struct json_object *root; // owned
    const struct api *api;    // that the request came to
    size_t n_pictures, n_links; // images; of them by URL
    struct buf prompt;        // user messages, joined by a line feed
    struct buf system;        // all other messages
    struct buf texts;         // the records' texts, one after the other
    struct chat_slot *slots;  // n_slots, indices rising
    size_t n_slots;
    struct chat_field fields[CHAT_FIELDS_MAX];
    size_t n_fields;
    char index_field[64]; // "index" unless the schema names another
    char wrapper[64];     // the member that holds the items; empty: a bare array
    bool batched;         // items with an index are asked for
    bool json;            // false: the bare value is the answer
    enum chat_form form;  // JSON unless the prompt shows another
    char delimiter[8];    // FORM_HEADER: between fields
    size_t input_tokens;  // an estimate: a quarter of the bytes, and 4 a message
    size_t cached_tokens; // of them, before the last breakpoint of a prompt cache
    int64_t max_tokens;   // of the answer; 0: no bound
    struct slice model;   // borrowed from root
    struct json_object *schema; // of the answer; borrowed from root; NULL: none
    bool vectors;         // the records are inputs of an embedding
    bool base64;          // vectors: in this form
    int64_t dimensions;   // vectors: numbers of each
};

struct api;

// chat_read reads a request body. Returns 0 or -EINVAL with why. chat_free in any case.
//
// The records are found at the beginnings of lines of the user messages:
//   {"index":N,"COLUMN":VALUE,...}      <record index="N"><COLUMN>text</COLUMN>...</record>
//   [N] "text"                          [N] COLUMN: "text", COLUMN: VALUE
// or, if there are none, lines that count 1, 2, 3, ...: `1: text`, `2. text`, `Article 3: text`;
// or, for one record alone, the same without number: an object's line, <record>...</record>, or
// what stands after the first empty line. A number that does not rise starts over: what stood
// before was an example. The text of a record is its values, joined by a line feed.
MUST_CHECK int chat_read(struct slice body, struct chat *chat, struct error *why);
// chat_read_as reads a request of another API than chat completions.
//   strict  refuse what the vendor would refuse
MUST_CHECK int chat_read_as(const struct api *api, bool strict, struct slice body, struct chat *chat,
                            struct error *why);
// chat_read_value reads a request that is parsed already; takes root.
MUST_CHECK int chat_read_value(const struct api *api, bool strict, struct json_object *root,
                               struct chat *chat, struct error *why);
void chat_free(struct chat *chat);
// chat_text is the text of a slot, valid until chat_free.
struct slice chat_text(const struct chat *chat, const struct chat_slot *slot);

// For the APIs: chat_add_parts adds a message's content, a string or an array of parts, texts and images. 0, or
// -EINVAL with why.
MUST_CHECK int chat_add_parts(struct chat *chat, bool user, struct json_object *content, struct error *why);

// For the APIs: chat_add_message adds a message's content, a string or an array of parts; chat_add_input
// adds a text that is a record as a whole. 0 or -EMSGSIZE.
MUST_CHECK int chat_add_message(struct chat *chat, bool user, struct json_object *content);
MUST_CHECK int chat_add_input(struct chat *chat, int64_t index, struct json_object *text);

// chat_add_field finds or makes a field of the answer; NULL: there are too many.
struct chat_field *chat_add_field(struct chat *chat, struct slice name);

#endif
