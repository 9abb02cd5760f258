// picture: images in a request, as each vendor takes them. In the prompt that the simulator reads, an image
// becomes a JSON string that says what was in it, so an answer depends on the image of its own record:
// "image/png 3x2 HASH", HASH being 16 digits of its bytes' FNV-1a of 64 bits; or "link URL".
#ifndef HEADRACE_TESTS_PROVIDER_PICTURE_H
#define HEADRACE_TESTS_PROVIDER_PICTURE_H

#include "tests/provider/chat.h"

// Reads one part of a message that is no text. Returns 0 with chat->prompt grown, or -EINVAL with why, in
// the vendor's words. NULL in the table of APIs: it takes none.
typedef int picture_fn(struct chat *chat, struct json_object *part, struct error *why);

picture_fn picture_chat;      // {"type":"image_url","image_url":{"url":...,"detail":...}}
picture_fn picture_responses; // {"type":"input_image","image_url":...,"detail":...}
picture_fn picture_messages;  // {"type":"image","source":{...}}
picture_fn picture_generate;  // {"inlineData":{"mimeType":...,"data":...}}

#endif
