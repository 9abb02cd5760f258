// Images as the vendors check them. Invariant: what is taken is base64 as RFC 4648 writes it, padded, of an
// image of the media type that was said, whose width and height can be found. Called by chat_add_parts.
#include "tests/provider/picture.h"
#include "common/base64.h"
#include "common/image.h"
#include "common/json.h"
#include "tests/provider/api.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define IMAGE_MOST (64u << 20)
#define ANTHROPIC_BYTES 10485760 // of one image in base64
#define ANTHROPIC_SIDE 8000      // pixels
#define ANTHROPIC_MOST 100       // images of a request
#define OPENAI_MOST 1500
#define LINK_TOKENS 1000

#define N(names) (sizeof(names) / sizeof(names[0]))

// What a vendor allows of one image.
struct rules {
    bool has_gif;
    size_t most, bytes; // images of a request; bytes of one in base64; 0: any
    uint32_t side;      // pixels; 0: any
};

static uint64_t fnv(struct slice bytes) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes.n; i++) {
        hash = (hash ^ (unsigned char)bytes.p[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static int count_one(struct chat *chat, const struct rules *rules, struct error *why) {
    return ++chat->n_pictures > rules->most && rules->most > 0
               ? error_set(why, -EINVAL, "Too many images: at most %zu in a request.", rules->most)
               : 0;
}

static int add_link(struct chat *chat, const struct rules *rules, struct slice url, struct error *why) {
    if (!image_is_link(url)) {
        return error_set(why, -EINVAL, "Invalid image URL: want an http(s) or data: URL.");
    }
    chat->n_links++;
    chat->input_tokens += LINK_TOKENS;
    int rc = count_one(chat, rules, why);
    rc = rc != 0 ? rc : buf_addf(&chat->prompt, "\"link %.*s\"", SLICE_FMT(url));
    return rc == -EMSGSIZE ? error_set(why, -EINVAL, "too long") : rc;
}

static int add_bytes(struct chat *chat, const struct rules *rules, struct slice media_type, struct slice bytes,
                     struct error *why) {
    enum image_kind kind = image_kind(bytes);
    uint32_t width, height;
    if (kind == IMAGE_NONE || (kind == IMAGE_GIF && !rules->has_gif)) {
        return error_set(why, -EINVAL, "Invalid image: unsupported image format.");
    }
    if (!slice_is(media_type, image_media_type(kind))) {
        return error_set(why, -EINVAL, "The image was specified using the %.*s media type, but the image appears "
                                       "to be a %s image", SLICE_FMT(slice_sub(media_type, 0, 40)),
                         image_media_type(kind));
    }
    if (image_size(bytes, &width, &height) != 0) {
        return error_set(why, -EINVAL, "Could not process image");
    }
    if (rules->side > 0 && (width > rules->side || height > rules->side)) {
        return error_set(why, -EINVAL, "image dimensions exceed max allowed size: %u pixels", rules->side);
    }
    chat->input_tokens += image_tokens(bytes);
    int rc = count_one(chat, rules, why);
    rc = rc != 0 ? rc
                 : buf_addf(&chat->prompt, "\"%s %ux%u %016" PRIx64 "\"", image_media_type(kind), width, height,
                            fnv(bytes));
    return rc == -EMSGSIZE ? error_set(why, -EINVAL, "too long") : rc;
}

// is_padded: the lenient decoder takes what vendors refuse.
static bool is_padded(struct slice text) {
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '-' || text.p[i] == '_') {
            return false;
        }
    }
    return text.n > 0 && text.n % 4 == 0;
}

static int add_base64(struct chat *chat, const struct rules *rules, struct slice media_type, struct slice text,
                      struct error *why) {
    struct buf bytes;
    if (rules->bytes > 0 && text.n > rules->bytes) {
        return error_set(why, -EINVAL, "image exceeds %zu MB maximum: %zu bytes > %zu bytes",
                         rules->bytes / 1048576, text.n, rules->bytes);
    }
    buf_init(&bytes, IMAGE_MOST);
    int rc = is_padded(text) ? base64_decode(text, &bytes) : -EINVAL;
    if (rc != 0) {
        rc = error_set(why, -EINVAL, "Invalid base64 data");
    }
    rc = rc != 0 ? rc : add_bytes(chat, rules, media_type, buf_slice(&bytes), why);
    buf_free(&bytes);
    return rc;
}

// ---- OpenAI -------------------------------------------------------------------------------------

static const struct rules openai = {.has_gif = true, .most = OPENAI_MOST};

static int add_url(struct chat *chat, struct json_object *value, struct error *why) {
    struct slice url = json_text(value);
    static const char mark[] = ";base64,";
    if (!slice_starts(url, "data:")) {
        return add_link(chat, &openai, url, why);
    }
    const char *at = memmem(url.p, url.n, mark, sizeof(mark) - 1);
    if (at == NULL) {
        return error_set(why, -EINVAL, "Invalid base64 image_url.");
    }
    size_t n = (size_t)(at - url.p), data = n + sizeof(mark) - 1;
    return add_base64(chat, &openai, slice_sub(url, 5, n - 5), slice_sub(url, data, url.n), why);
}

static int check_detail(struct json_object *holder, struct error *why) {
    struct json_object *detail = json_get(holder, "detail");
    struct slice text = json_text(detail);
    bool good = detail == NULL || slice_is(text, "auto") || slice_is(text, "low") || slice_is(text, "high");
    return good ? 0 : error_set(why, -EINVAL, "Invalid value for 'detail': want auto, low or high.");
}

int picture_chat(struct chat *chat, struct json_object *part, struct error *why) {
    static const char *const part_fields[] = {"type", "image_url"}, *const url_fields[] = {"url", "detail"};
    struct json_object *holder = json_get(part, "image_url");
    if (!slice_is(json_text(json_get(part, "type")), "image_url")) {
        return error_set(why, -EINVAL, "Invalid value for a part's 'type': want text or image_url.");
    }
    if (!json_object_is_type(holder, json_type_object)) {
        return error_set(why, -EINVAL, "Invalid type for 'image_url': expected an object.");
    }
    int rc = api_check_fields(part, part_fields, N(part_fields), why);
    rc = rc != 0 ? rc : api_check_fields(holder, url_fields, N(url_fields), why);
    rc = rc != 0 ? rc : check_detail(holder, why);
    return rc != 0 ? rc : add_url(chat, json_get(holder, "url"), why);
}

int picture_responses(struct chat *chat, struct json_object *part, struct error *why) {
    static const char *const known[] = {"type", "image_url", "detail", "file_id"};
    if (!slice_is(json_text(json_get(part, "type")), "input_image")) {
        return error_set(why, -EINVAL, "Invalid value for a part's 'type': want input_text or input_image.");
    }
    if (!json_object_is_type(json_get(part, "image_url"), json_type_string)) {
        return error_set(why, -EINVAL, "Invalid type for 'image_url': expected a string.");
    }
    int rc = api_check_fields(part, known, N(known), why);
    rc = rc != 0 ? rc : check_detail(part, why);
    return rc != 0 ? rc : add_url(chat, json_get(part, "image_url"), why);
}

// ---- Anthropic ----------------------------------------------------------------------------------

int picture_messages(struct chat *chat, struct json_object *part, struct error *why) {
    static const struct rules rules = {
        .has_gif = true, .most = ANTHROPIC_MOST, .bytes = ANTHROPIC_BYTES, .side = ANTHROPIC_SIDE};
    static const char *const base64_fields[] = {"type", "media_type", "data"}, *const url_fields[] = {"type", "url"};
    struct json_object *source = json_get(part, "source");
    struct slice type = json_text(json_get(source, "type"));
    if (!slice_is(json_text(json_get(part, "type")), "image") || source == NULL) {
        return error_set(why, -EINVAL, "messages.content: Input should be 'text' or 'image' with a source");
    }
    if (slice_is(type, "url")) {
        int rc = api_check_fields(source, url_fields, N(url_fields), why);
        return rc != 0 ? rc : add_link(chat, &rules, json_text(json_get(source, "url")), why);
    }
    struct slice media_type = json_text(json_get(source, "media_type")), data = json_text(json_get(source, "data"));
    if (!slice_is(type, "base64") || media_type.n == 0 || data.n == 0) {
        return error_set(why, -EINVAL, "messages.content.image.source: Field required");
    }
    int rc = api_check_fields(source, base64_fields, N(base64_fields), why);
    return rc != 0 ? rc : add_base64(chat, &rules, media_type, data, why);
}

// ---- Gemini -------------------------------------------------------------------------------------

int picture_generate(struct chat *chat, struct json_object *part, struct error *why) {
    static const struct rules rules = {.has_gif = false};
    static const char *const part_fields[] = {"inlineData"}, *const data_fields[] = {"mimeType", "data"};
    struct json_object *data = json_get(part, "inlineData");
    if (data == NULL || json_get(data, "mimeType") == NULL || json_get(data, "data") == NULL) {
        return error_set(why, -EINVAL, "GenerateContentRequest.contents.parts: contents.parts must have one "
                                       "initialized field");
    }
    int rc = api_check_fields(part, part_fields, N(part_fields), why);
    rc = rc != 0 ? rc : api_check_fields(data, data_fields, N(data_fields), why);
    return rc != 0 ? rc
                   : add_base64(chat, &rules, json_text(json_get(data, "mimeType")), json_text(json_get(data, "data")),
                                why);
}
