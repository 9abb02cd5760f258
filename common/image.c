// Images, as far as their first bytes tell. Invariant: nothing past the bytes is read, whatever lengths
// they claim. Called by intake, the client and the worker.
// Source: PNG 1.2 section 5; ITU T.81 (JPEG) annex B; GIF89a; WebP container, RFC 9649.
#include "common/image.h"

#include "common/base64.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define SIDE_MOST 1568.0 // pixels that a longer side is scaled down to
#define PIXELS_A_TOKEN 750.0
#define TOKENS_LEAST 64
#define TOKENS_MOST 1600

static const struct {
    const char *name, *media_type;
} kinds[N_IMAGE_KINDS] = {
    [IMAGE_NONE] = {"nothing", ""},          [IMAGE_PNG] = {"PNG", "image/png"},
    [IMAGE_JPEG] = {"JPEG", "image/jpeg"},   [IMAGE_GIF] = {"GIF", "image/gif"},
    [IMAGE_WEBP] = {"WEBP", "image/webp"},
};

const char *image_kind_name(enum image_kind kind) {
    return kinds[kind].name;
}

const char *image_media_type(enum image_kind kind) {
    return kinds[kind].media_type;
}

static bool has_at(struct slice bytes, size_t at, const char *text, size_t n) {
    return bytes.n >= at + n && memcmp(bytes.p + at, text, n) == 0;
}

enum image_kind image_kind(struct slice bytes) {
    if (has_at(bytes, 0, "\x89PNG\r\n\x1a\n", 8)) {
        return IMAGE_PNG;
    }
    if (has_at(bytes, 0, "\xff\xd8\xff", 3)) {
        return IMAGE_JPEG;
    }
    if (has_at(bytes, 0, "GIF87a", 6) || has_at(bytes, 0, "GIF89a", 6)) {
        return IMAGE_GIF;
    }
    return has_at(bytes, 0, "RIFF", 4) && has_at(bytes, 8, "WEBP", 4) ? IMAGE_WEBP : IMAGE_NONE;
}

// ---- Width and height ---------------------------------------------------------------------------

static uint32_t big(struct slice s, size_t at, size_t n) {
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++) {
        value = value << 8 | (unsigned char)s.p[at + i];
    }
    return value;
}

static uint32_t little(struct slice s, size_t at, size_t n) {
    uint32_t value = 0;
    for (size_t i = n; i > 0; i--) {
        value = value << 8 | (unsigned char)s.p[at + i - 1];
    }
    return value;
}

static bool png_size(struct slice s, uint32_t *width, uint32_t *height) {
    if (s.n < 24 || !has_at(s, 12, "IHDR", 4)) {
        return false;
    }
    *width = big(s, 16, 4);
    *height = big(s, 20, 4);
    return true;
}

static bool gif_size(struct slice s, uint32_t *width, uint32_t *height) {
    if (s.n < 10) {
        return false;
    }
    *width = little(s, 6, 2);
    *height = little(s, 8, 2);
    return true;
}

// jpeg_size walks the segments to the start of the frame: SOF0 to SOF15, but for DHT, JPG and DAC.
static bool jpeg_size(struct slice s, uint32_t *width, uint32_t *height) {
    for (size_t at = 2; at + 4 <= s.n;) {
        unsigned char marker = (unsigned char)s.p[at + 1];
        if ((unsigned char)s.p[at] != 0xff) {
            return false;
        }
        if (marker == 0xff) { // fill
            at++;
            continue;
        }
        bool is_frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
        if (is_frame && at + 9 <= s.n) {
            *height = big(s, at + 5, 2);
            *width = big(s, at + 7, 2);
            return true;
        }
        if (marker == 0xda || marker == 0xd9) { // the image's data, or its end
            return false;
        }
        bool is_alone = marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8);
        at += is_alone ? 2 : 2 + (size_t)big(s, at + 2, 2);
    }
    return false;
}

static bool webp_size(struct slice s, uint32_t *width, uint32_t *height) {
    if (s.n >= 30 && has_at(s, 12, "VP8X", 4)) {
        *width = little(s, 24, 3) + 1;
        *height = little(s, 27, 3) + 1;
        return true;
    }
    if (s.n >= 30 && has_at(s, 12, "VP8 ", 4) && has_at(s, 23, "\x9d\x01\x2a", 3)) {
        *width = little(s, 26, 2) & 0x3fff;
        *height = little(s, 28, 2) & 0x3fff;
        return true;
    }
    if (s.n >= 25 && has_at(s, 12, "VP8L\0", 4) && s.p[20] == 0x2f) {
        uint32_t bits = little(s, 21, 4);
        *width = (bits & 0x3fff) + 1;
        *height = (bits >> 14 & 0x3fff) + 1;
        return true;
    }
    return false;
}

int image_size(struct slice bytes, uint32_t *width, uint32_t *height) {
    static bool (*const sizes[N_IMAGE_KINDS])(struct slice s, uint32_t *width, uint32_t *height) = {
        [IMAGE_PNG] = png_size,
        [IMAGE_JPEG] = jpeg_size,
        [IMAGE_GIF] = gif_size,
        [IMAGE_WEBP] = webp_size,
    };
    enum image_kind kind = image_kind(bytes);
    bool found = kind != IMAGE_NONE && sizes[kind](bytes, width, height);
    return found && *width > 0 && *height > 0 ? 0 : -EINVAL;
}

size_t image_tokens(struct slice bytes) {
    uint32_t width, height;
    if (image_size(bytes, &width, &height) != 0) {
        return TOKENS_MOST;
    }
    double w = width, h = height, side = w > h ? w : h;
    double scale = side > SIDE_MOST ? SIDE_MOST / side : 1;
    double tokens = w * scale * h * scale / PIXELS_A_TOKEN;
    return tokens < TOKENS_LEAST ? TOKENS_LEAST : tokens > TOKENS_MOST ? TOKENS_MOST : (size_t)tokens;
}

// ---- In text ------------------------------------------------------------------------------------

// data_part cuts "data:image/png;base64," off a data: URL. Source: RFC 2397.
static bool data_part(struct slice *text, struct slice *media_type) {
    struct slice rest = slice_sub(*text, strlen("data:"), text->n);
    const char *comma = rest.n > 0 ? memchr(rest.p, ',', rest.n) : NULL;
    size_t n = comma != NULL ? (size_t)(comma - rest.p) : 0;
    static const char tail[] = ";base64";
    size_t n_tail = sizeof(tail) - 1;
    if (comma == NULL || n < n_tail || !slice_is_nocase(slice_sub(rest, n - n_tail, n_tail), tail)) {
        return false;
    }
    *media_type = slice_sub(rest, 0, n - n_tail);
    *text = slice_sub(rest, n + 1, rest.n);
    return true;
}

static bool is_media_type(struct slice type, enum image_kind kind) {
    return slice_is_nocase(type, image_media_type(kind)) ||
           (kind == IMAGE_JPEG && slice_is_nocase(type, "image/jpg"));
}

int image_from_text(struct slice text, struct buf *out, const char **fault) {
    struct slice media_type = SLICE_NONE;
    size_t start = out->n;
    text = slice_trim(text);
    bool is_url = text.n >= 5 && slice_is_nocase(slice_sub(text, 0, 5), "data:");
    *fault = "a data: URL that is not of base64";
    if (is_url && !data_part(&text, &media_type)) {
        return -EINVAL;
    }
    *fault = "text that is no base64";
    int rc = base64_decode(text, out);
    if (rc != 0) {
        return rc;
    }
    struct slice bytes = slice_sub(buf_slice(out), start, out->n);
    enum image_kind kind = image_kind(bytes);
    *fault = kind == IMAGE_NONE ? "base64 of something else than a PNG, JPEG, GIF or WEBP image"
             : is_url && !is_media_type(media_type, kind)
                 ? "a data: URL whose media type is not that of the image in it"
                 : NULL;
    if (*fault != NULL) {
        out->n = start;
        return -EINVAL;
    }
    return 0;
}

bool image_is_link(struct slice text) {
    size_t n = text.n >= 8 && strncasecmp(text.p, "https://", 8) == 0  ? 8
               : text.n >= 7 && strncasecmp(text.p, "http://", 7) == 0 ? 7
                                                                       : 0;
    if (n == 0 || text.n == n || text.n > IMAGE_LINK_MAX || strchr("/?#", text.p[n]) != NULL) {
        return false;
    }
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] <= ' ' || text.p[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}
