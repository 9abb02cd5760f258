// Reading of chat completion requests. Invariant: a slot begins at the beginning of a line and is
// read with its own syntax to its end, so that nothing inside a record makes another slot. Called
// by serve.
#include "tests/provider/chat.h"
#include "tests/provider/api.h"
#include "tests/provider/form.h"
#include "common/json.h"
#include "common/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX       (64u << 20)
#define INDEX_MAX      1000000 // larger numbers stand in texts, not before slots
#define MESSAGE_TOKENS 4 // what each message costs besides its text

// --- messages ------------------------------------------------------------------------------------

static int add_content(struct json_object *content, struct buf *into) {
    int rc = into->n > 0 ? buf_add_byte(into, '\n') : 0;
    if (!json_object_is_type(content, json_type_array)) {
        return rc != 0 ? rc : buf_add_slice(into, json_text(content));
    }
    for (size_t i = 0; rc == 0 && i < json_object_array_length(content); i++) {
        rc =
            buf_add_slice(into, json_text(json_get(json_object_array_get_idx(content, i), "text")));
    }
    return rc;
}

int chat_add_message(struct chat *chat, bool user, struct json_object *content) {
    struct buf *into = user ? &chat->prompt : &chat->system;
    size_t before = into->n;
    int rc = add_content(content, into);
    chat->input_tokens += (into->n - before + 3) / 4 + MESSAGE_TOKENS;
    return rc;
}

int chat_add_parts(struct chat *chat, bool user, struct json_object *content, struct error *why) {
    if (!json_object_is_type(content, json_type_array)) {
        return chat_add_message(chat, user, content) == 0 ? 0 : error_set(why, -EINVAL, "too long");
    }
    struct buf *into = user ? &chat->prompt : &chat->system;
    int rc = into->n > 0 ? buf_add_byte(into, '\n') : 0;
    for (size_t i = 0; rc == 0 && i < json_object_array_length(content); i++) {
        struct json_object *part = json_object_array_get_idx(content, i), *text = json_get(part, "text");
        if (json_object_is_type(text, json_type_string)) {
            rc = buf_add_slice(into, json_text(text));
            chat->input_tokens += (json_text(text).n + 3) / 4;
        } else if (!user || chat->api->picture == NULL) {
            return error_set(why, -EINVAL, "a part without text, where only text may be");
        } else {
            rc = chat->api->picture(chat, part, why);
        }
    }
    chat->input_tokens += MESSAGE_TOKENS;
    return rc == -EMSGSIZE ? error_set(why, -EINVAL, "too long") : rc;
}

// --- slots ---------------------------------------------------------------------------------------

static struct chat_slot *slot_begin(struct chat *chat, int64_t index) {
    if (index > INDEX_MAX || index < -INDEX_MAX) {
        return NULL;
    }
    if (chat->n_slots > 0 && chat->slots[chat->n_slots - 1].index >= index) {
        chat->n_slots = 0;
    }
    if (chat->n_slots == CHAT_SLOTS_MAX) {
        return NULL;
    }
    if (chat->slots == NULL) {
        chat->slots = mem_alloc(CHAT_SLOTS_MAX * sizeof(*chat->slots)); // touched as far as used
    }
    struct chat_slot *slot = &chat->slots[chat->n_slots++];
    *slot = (struct chat_slot){.index = index, .at = chat->texts.n};
    return slot;
}

// slot_add adds one value to the text of the slot that was begun last.
static void slot_add(struct chat *chat, struct chat_slot *slot, struct slice value) {
    int rc = chat->texts.n > slot->at ? buf_add_byte(&chat->texts, '\n') : 0;
    rc = rc != 0 ? rc : buf_add_slice(&chat->texts, value);
    (void)rc; // the ceiling is that of the whole body: it cannot be reached
    slot->n = chat->texts.n - slot->at;
}

static void slot_add_json(struct chat *chat, struct chat_slot *slot, struct json_object *value) {
    slot_add(chat, slot,
             json_object_is_type(value, json_type_string)
                 ? json_text(value)
                 : slice_of(json_object_get_string(value)));
}

// read_json_slot reads an object's line. Returns bytes used, 0 if it is none.
static size_t read_json_slot(struct chat *chat, struct slice line, struct slice *alone) {
    struct json_object *object = NULL;
    size_t used = 0;
    if (json_parse_first(line, &object, &used, NULL) != 0) {
        return 0;
    }
    struct json_object *index = json_get(object, "index");
    if (index == NULL && slice_trim(slice_sub(line, used, line.n)).n == 0) {
        *alone =
            (struct slice){.p = line.p, .n = used}; // the single record, if no numbered one comes
    }
    struct chat_slot *slot = json_object_is_type(index, json_type_int)
                                 ? slot_begin(chat, json_object_get_int64(index))
                                 : NULL;
    if (slot != NULL) {
        json_object_object_foreach(object, name, value) {
            if (strcmp(name, "index") != 0) {
                slot_add_json(chat, slot, value);
            }
        }
    }
    json_object_put(object);
    return slot != NULL ? used : 0;
}

static void add_unescaped(struct chat *chat, struct slice xml) {
    static const struct {
        const char *name;
        char byte;
    } entities[] = {{"&amp;", '&'},  {"&lt;", '<'},    {"&gt;", '>'},
                    {"&quot;", '"'}, {"&apos;", '\''}, {"&#39;", '\''},
                    {"&#10;", '\n'}, {"&#13;", '\r'},  {"&#9;", '\t'}};
    for (size_t i = 0; i < xml.n;) {
        size_t used = 1;
        char c = xml.p[i];
        for (size_t e = 0; c == '&' && e < sizeof(entities) / sizeof(entities[0]); e++) {
            if (slice_starts(slice_sub(xml, i, xml.n), entities[e].name)) {
                c = entities[e].byte;
                used = strlen(entities[e].name);
                break;
            }
        }
        int rc = buf_add_byte(&chat->texts, c);
        (void)rc;
        i += used;
    }
}

// read_xml_values adds the elements' texts inside <record>...</record>.
static void read_xml_values(struct chat *chat, struct chat_slot *slot, struct slice inside) {
    bool elements = memchr(inside.p, '<', inside.n) != NULL;
    while (elements && inside.n > 0) {
        const char *open = memchr(inside.p, '>', inside.n);
        if (open == NULL) {
            break;
        }
        inside = slice_sub(inside, (size_t)(open + 1 - inside.p), inside.n);
        const char *end = inside.n > 0 ? memchr(inside.p, '<', inside.n) : NULL;
        size_t n = end != NULL ? (size_t)(end - inside.p) : inside.n;
        slot_add(chat, slot, SLICE_NONE);
        add_unescaped(chat, slice_sub(inside, 0, n));
        slot->n = chat->texts.n - slot->at;
        inside = slice_sub(inside, n, inside.n);
        const char *close = inside.n > 0 ? memchr(inside.p, '>', inside.n) : NULL;
        inside = close != NULL ? slice_sub(inside, (size_t)(close + 1 - inside.p), inside.n)
                               : SLICE_NONE;
    }
    if (!elements) {
        add_unescaped(chat, inside);
        slot->n = chat->texts.n - slot->at;
    }
}

// read_xml_slot reads from "<record" to "</record>". Returns bytes used, 0 if it is none.
static size_t read_xml_slot(struct chat *chat, struct slice rest) {
    const char *open = memchr(rest.p, '>', rest.n);
    const char *close = memmem(rest.p, rest.n, "</record>", 9);
    if (!slice_starts(rest, "<record") || open == NULL || close == NULL || open > close) {
        return 0;
    }
    const char *index = memmem(rest.p, (size_t)(open - rest.p), "index=\"", 7);
    struct chat_slot *slot = slot_begin(chat, index != NULL ? strtoll(index + 7, NULL, 10) : 0);
    if (slot == NULL) {
        return 0;
    }
    chat->batched |= index != NULL;
    read_xml_values(chat, slot, (struct slice){.p = open + 1, .n = (size_t)(close - open - 1)});
    return (size_t)(close + 9 - rest.p);
}

// read_text_slot reads a line "[N] value" or "[N] COLUMN: value, ...". Returns bytes used or 0.
static size_t read_text_slot(struct chat *chat, struct slice line) {
    char *end = NULL;
    long long index = strtoll(line.p + 1, &end, 10);
    if (end == line.p + 1 || end[0] != ']' || end[1] != ' ') {
        return 0;
    }
    struct chat_slot *slot = slot_begin(chat, index);
    if (slot == NULL) {
        return 0;
    }
    struct slice rest = slice_sub(line, (size_t)(end + 2 - line.p), line.n);
    while (rest.n > 0) {
        struct json_object *value = NULL;
        size_t used = 0;
        if (json_parse_first(rest, &value, &used, NULL) != 0) {
            const char *colon = memmem(rest.p, rest.n, ": ", 2);
            if (colon == NULL) {
                slot_add(chat, slot, rest);
                break;
            }
            rest = slice_sub(rest, (size_t)(colon + 2 - rest.p), rest.n);
            continue;
        }
        slot_add_json(chat, slot, value);
        json_object_put(value);
        rest = slice_sub(rest, used + 2, rest.n); // ", "
    }
    return line.n;
}

// read_single takes the record of a prompt without numbers.
static void read_single(struct chat *chat, struct slice alone) {
    struct chat_slot *slot = slot_begin(chat, 1);
    struct json_object *object = NULL;
    if (alone.n > 0 && json_parse(alone, &object, NULL) == 0) {
        json_object_object_foreach(object, name, value) {
            (void)name;
            slot_add_json(chat, slot, value);
        }
        json_object_put(object);
        return;
    }
    struct slice all = buf_slice(&chat->prompt);
    const char *gap = all.n > 0 ? memmem(all.p, all.n, "\n\n", 2) : NULL;
    slot_add(chat, slot, gap != NULL ? slice_sub(all, (size_t)(gap + 2 - all.p), all.n) : all);
}

// numbered says whether a line is "1: text", "1. text", "Article 1: text" with this number, and where
// its text begins.
static bool is_numbered(struct slice line, int64_t number, size_t *text_at) {
    size_t at = 0;
    while (at < line.n && at < 32 && line.p[at] != '\0' && strchr("0123456789", line.p[at]) == NULL) {
        at++; // a word, a bracket, a dash
    }
    char want[24];
    int n = snprintf(want, sizeof(want), "%lld", (long long)number);
    if (!slice_starts(slice_sub(line, at, line.n), want)) {
        return false;
    }
    at += (size_t)n;
    if (at >= line.n || line.p[at] == '\0' || strchr(":.)]-", line.p[at]) == NULL) {
        return false;
    }
    *text_at = at + 1;
    return true;
}

// read_numbered takes lines that count 1, 2, 3, ... as the slots of a template of its own. Returns
// where the first begins.
static size_t read_numbered(struct chat *chat, struct slice all) {
    size_t first = all.n, text_at = 0;
    for (size_t at = 0; at < all.n;) {
        struct slice rest = slice_sub(all, at, all.n);
        const char *eol = memchr(rest.p, '\n', rest.n);
        struct slice line = {.p = rest.p, .n = eol != NULL ? (size_t)(eol - rest.p) : rest.n};
        if (is_numbered(line, (int64_t)chat->n_slots + 1, &text_at)) {
            first = chat->n_slots == 0 ? at : first;
            struct chat_slot *slot = slot_begin(chat, (int64_t)chat->n_slots + 1);
            if (slot == NULL) {
                break;
            }
            slot_add(chat, slot, slice_trim(slice_sub(line, text_at, line.n)));
            chat->batched = true;
        }
        at += line.n + 1;
    }
    return first;
}

// read_slots returns where the first slot begins: before it stands the template.
static size_t read_slots(struct chat *chat) {
    struct slice all = buf_slice(&chat->prompt), alone = SLICE_NONE;
    size_t first = all.n;
    for (size_t at = 0; at < all.n;) {
        struct slice rest = slice_sub(all, at, all.n);
        const char *eol = memchr(rest.p, '\n', rest.n);
        struct slice line = {.p = rest.p, .n = eol != NULL ? (size_t)(eol - rest.p) : rest.n};
        size_t used = 0, before = chat->n_slots;
        switch (line.n > 0 ? line.p[0] : '\0') {
        case '{':
            used = read_json_slot(chat, line, &alone);
            break;
        case '<':
            used = read_xml_slot(chat, rest);
            break;
        case '[':
            used = read_text_slot(chat, line);
            break;
        default:
            break;
        }
        if (used > 0) {
            first = chat->n_slots == 1 && before != 1 ? at : first;
            first = first == all.n ? at : first;
            chat->batched |= line.p[0] != '<';
        }
        at += used > line.n ? used : line.n + 1;
    }
    if (chat->n_slots == 0) {
        first = read_numbered(chat, all);
    }
    if (chat->n_slots == 0) {
        first = alone.n > 0 ? (size_t)(alone.p - all.p) : all.n;
        read_single(chat, alone);
    }
    return first;
}

// --- what is asked -------------------------------------------------------------------------------

struct chat_field *chat_add_field(struct chat *chat, struct slice name) {
    for (size_t i = 0; i < chat->n_fields; i++) {
        if (slice_is(name, chat->fields[i].name)) {
            return &chat->fields[i];
        }
    }
    if (chat->n_fields == CHAT_FIELDS_MAX) {
        return NULL;
    }
    struct chat_field *field = &chat->fields[chat->n_fields++];
    field->type = 's';
    field->n_choices = 0;
    (void)slice_copy(name, field->name, sizeof(field->name));
    return field;
}

static void add_choice(struct chat_field *field, struct slice choice) {
    if (field->n_choices < CHAT_CHOICES_MAX && choice.n > 0) {
        (void)slice_copy(choice, field->choices[field->n_choices++], sizeof(field->choices[0]));
    }
}

static char type_of(struct json_object *schema) {
    struct json_object *type = json_get(schema, "type");
    if (json_object_is_type(type, json_type_array)) {
        type = json_object_array_get_idx(type, 0);
    }
    struct slice text = json_text(type);
    return text.n > 0 ? (char)tolower((unsigned char)text.p[0]) : 's'; // Google writes STRING
}

static void read_properties(struct chat *chat, struct json_object *properties) {
    json_object_object_foreach(properties, name, schema) {
        if (chat->batched && chat->index_field[0] == '\0' &&
            (strcmp(name, "index") == 0 || type_of(schema) == 'i')) {
            (void)slice_copy(slice_of(name), chat->index_field, sizeof(chat->index_field));
            continue;
        }
        struct chat_field *field = chat_add_field(chat, slice_of(name));
        struct json_object *choices = json_get(schema, "enum");
        if (field == NULL) {
            return;
        }
        field->type = type_of(schema);
        for (size_t i = 0;
             json_object_is_type(choices, json_type_array) && i < json_object_array_length(choices);
             i++) {
            add_choice(field, json_text(json_object_array_get_idx(choices, i)));
        }
    }
}

static bool read_schema(struct chat *chat) {
    struct json_object *properties = json_get(chat->schema, "properties");
    if (!json_object_is_type(properties, json_type_object)) {
        return false;
    }
    chat->batched = false;
    json_object_object_foreach(properties, name, member) {
        struct json_object *inside = json_get(json_get(member, "items"), "properties");
        if (type_of(member) == 'a' && json_object_is_type(inside, json_type_object)) {
            (void)slice_copy(slice_of(name), chat->wrapper, sizeof(chat->wrapper));
            chat->batched = true;
            properties = inside;
            break;
        }
    }
    read_properties(chat, properties);
    return true;
}

// read_string reads a quoted string at p[*at]; the raw inside is enough for names and choices.
static struct slice read_string(struct slice s, size_t *at) {
    size_t from = ++*at;
    while (*at < s.n && s.p[*at] != '"' && s.p[*at] != '\n') {
        ++*at;
    }
    struct slice inside = slice_sub(s, from, *at - from);
    *at += *at < s.n;
    return inside;
}

static void skip_space(struct slice s, size_t *at) {
    while (*at < s.n && strchr(" \t\n,", s.p[*at]) != NULL && s.p[*at] != '\0') {
        ++*at;
    }
}

static void add_choices(struct chat_field *field, struct slice text) {
    if (text.n >= 2 && text.p[0] == '<') {
        text = slice_sub(text, 1, text.n - 2);
    }
    if (field->n_choices == 0 && memchr(text.n > 0 ? text.p : "", '|', text.n) != NULL) {
        for (size_t at = 0, from = 0; at <= text.n; at++) {
            if (at == text.n || text.p[at] == '|') {
                add_choice(field, slice_trim(slice_sub(text, from, at - from)));
                from = at + 1;
            }
        }
    }
}

// read_pattern learns the fields from an item that the words of a prompt show, such as
// {"index": <n>, "sentiment": "<positive|negative|neutral>"}; known fields only get choices.
static void read_pattern(struct chat *chat, struct slice s, size_t at, bool known) {
    for (skip_space(s, &at); at < s.n && s.p[at] == '"'; skip_space(s, &at)) {
        struct slice name = read_string(s, &at);
        skip_space(s, &at);
        if (at >= s.n || s.p[at] != ':') {
            return;
        }
        chat->json = true; // an item in the prompt is an example of the answer
        at++;
        skip_space(s, &at);
        struct slice value = SLICE_NONE;
        bool quoted = at < s.n && s.p[at] == '"';
        if (quoted) {
            value = read_string(s, &at);
        } else {
            size_t from = at;
            while (at < s.n && strchr(",}\n", s.p[at]) == NULL) {
                at++;
            }
            value = slice_sub(s, from, at - from);
        }
        size_t before = chat->n_fields;
        struct chat_field *field = slice_is(name, chat->index_field) ? NULL : chat_add_field(chat, name);
        if (field != NULL && !quoted && !slice_has_nocase(value, "string")) {
            bool is_bool = slice_has_nocase(value, "true") || slice_has_nocase(value, "bool");
            field->type = is_bool ? 'b' : 'i'; // an example without quotes: <n>, <INT>, <true|false>
        } else if (field != NULL) {
            add_choices(field, value);
        }
        chat->n_fields = known ? before : chat->n_fields; // a schema says which fields there are
    }
}

static void read_patterns(struct chat *chat, struct slice words, bool known) {
    for (size_t i = 0; i < words.n; i++) {
        if (words.p[i] == '{') {
            read_pattern(chat, words, i + 1, known);
        }
    }
}

// read_words fills in what neither schema nor pattern says.
static void read_words(struct chat *chat, struct slice template, struct slice system) {
    chat->json |=
        chat->batched || slice_has_nocase(template, "json") || slice_has_nocase(system, "json");
    if (chat->n_fields == 0) {
        chat_add_field(chat, SLICE_LIT("sentiment"));
    }
    bool feels = slice_has_nocase(template, "sentiment") || slice_has_nocase(system, "sentiment") ||
                 slice_has_nocase(template, "negative") || slice_has_nocase(system, "negative");
    for (size_t i = 0; i < chat->n_fields; i++) {
        struct chat_field *field = &chat->fields[i];
        bool asked = strcmp(field->name, "sentiment") == 0 || chat->n_fields == 1;
        if (field->n_choices == 0 && field->type == 's' && asked && feels) {
            add_choice(field, SLICE_LIT("positive"));
            add_choice(field, SLICE_LIT("negative"));
            add_choice(field, SLICE_LIT("neutral"));
        }
    }
}

int chat_add_input(struct chat *chat, int64_t index, struct json_object *text) {
    int rc = chat_add_message(chat, true, text); // poison is looked for in the prompt
    struct chat_slot *slot = rc == 0 ? slot_begin(chat, index) : NULL;
    if (slot == NULL) {
        return -EMSGSIZE;
    }
    slot_add(chat, slot, json_text(text));
    return 0;
}

int chat_read(struct slice body, struct chat *chat, struct error *why) {
    return chat_read_as(&api_chat, false, body, chat, why);
}

int chat_read_as(const struct api *api, bool strict, struct slice body, struct chat *chat,
                 struct error *why) {
    struct json_object *root = NULL;
    int rc = json_parse(body, &root, why);
    if (rc != 0) {
        *chat = (struct chat){.root = NULL};
        return rc;
    }
    return chat_read_value(api, strict, root, chat, why);
}

int chat_read_value(const struct api *api, bool strict, struct json_object *root, struct chat *chat,
                    struct error *why) {
    *chat = (struct chat){.root = root, .api = api};
    buf_init(&chat->prompt, TEXT_MAX);
    buf_init(&chat->system, TEXT_MAX);
    buf_init(&chat->texts, 2 * (size_t)TEXT_MAX);
    int rc = 0;
    if (!json_object_is_type(chat->root, json_type_object)) {
        rc = error_set(why, -EINVAL, "want a JSON object");
    }
    rc = rc != 0 ? rc : api->read(chat, strict, why);
    chat->model = json_text(json_get(chat->root, "model"));
    if (rc == 0 && chat->model.n == 0 && api->model != NULL) {
        chat->model = slice_of(api->model);
    }
    if (rc == 0 && chat->model.n == 0 && !api->model_in_path) {
        rc = error_set(why, -EINVAL, "model: you must provide a model parameter");
    }
    if (rc != 0 || chat->vectors) {
        return rc;
    }
    struct slice template = slice_sub(buf_slice(&chat->prompt), 0, read_slots(chat));
    bool known = read_schema(chat);
    if (chat->index_field[0] == '\0') {
        strcpy(chat->index_field, "index");
    }
    bool shown = !known && chat->batched &&
                 (form_read(chat, template) || form_read(chat, buf_slice(&chat->system)));
    if (!shown) {
        read_patterns(chat, template, known);
        read_patterns(chat, buf_slice(&chat->system), known);
    }
    read_words(chat, template, buf_slice(&chat->system));
    return 0;
}

void chat_free(struct chat *chat) {
    json_object_put(chat->root);
    free(chat->slots);
    buf_free(&chat->prompt);
    buf_free(&chat->system);
    buf_free(&chat->texts);
}

struct slice chat_text(const struct chat *chat, const struct chat_slot *slot) {
    return slice_sub(buf_slice(&chat->texts), slot->at, slot->n);
}
