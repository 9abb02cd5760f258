// image: what bytes of an image say of themselves: kind, width and height; and what it may cost.
#ifndef HEADRACE_COMMON_IMAGE_H
#define HEADRACE_COMMON_IMAGE_H

#include "common/bytes.h"

enum image_kind { IMAGE_NONE, IMAGE_PNG, IMAGE_JPEG, IMAGE_GIF, IMAGE_WEBP, N_IMAGE_KINDS };
#define IMAGE_BIT(kind) (1u << (kind))

// image_kind tells by the first bytes; IMAGE_NONE: it is none of these.
enum image_kind image_kind(struct slice bytes);
const char *image_kind_name(enum image_kind kind);  // "PNG"
const char *image_media_type(enum image_kind kind); // "image/png"

// image_size finds width and height in pixels. Returns 0, or -EINVAL when they cannot be found, or one
// of them is 0.
MUST_CHECK int image_size(struct slice bytes, uint32_t *width, uint32_t *height);

// image_tokens says about how many tokens an image costs, before anything was learned: a token for 750
// pixels once it is scaled to 1568 at its longer side, 64 to 1600. Bytes whose size cannot be found, and
// links (empty bytes), cost the most.
size_t image_tokens(struct slice bytes);

// image_from_text appends the bytes of an image that stands in text: base64, or a data: URL of base64.
// Returns 0; -EINVAL with *fault, the end of "got ..."; -EMSGSIZE. Then out is as it was.
MUST_CHECK int image_from_text(struct slice text, struct buf *out, const char **fault);

// image_is_link says whether text is an http(s) URL that a provider may be handed: a host, printable
// ASCII, at most IMAGE_LINK_MAX bytes.
#define IMAGE_LINK_MAX 8192
bool image_is_link(struct slice text);

#endif
