// image: kinds, sizes and estimates by the first bytes; images in text; links.
#include "common/image.h"

#include "common/base64.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define PNG(w, h) "\x89PNG\r\n\x1a\n\0\0\0\rIHDR" w h

static const struct {
    const char *name;
    struct slice bytes;
    enum image_kind kind;
    uint32_t width, height; // 0: not to be found
} images[] = {
    // clang-format off
    {"a PNG", SLICE_LIT(PNG("\0\0\1\2", "\0\0\0\7")), IMAGE_PNG, 258, 7},
    {"a PNG that ends before its height", SLICE_LIT(PNG("\0\0\1\2", "\0\0\0")), IMAGE_PNG, 0, 0},
    {"a PNG of no width", SLICE_LIT(PNG("\0\0\0\0", "\0\0\0\7")), IMAGE_PNG, 0, 0},
    {"a GIF", SLICE_LIT("GIF89a\x01\x02\x03\x00;"), IMAGE_GIF, 513, 3},
    {"an older GIF", SLICE_LIT("GIF87a\x05\x00\x03\x00"), IMAGE_GIF, 5, 3},
    {"a GIF that ends early", SLICE_LIT("GIF89a\x01"), IMAGE_GIF, 0, 0},
    {"a JPEG", SLICE_LIT("\xff\xd8\xff\xe0\0\4ab\xff\xff\xc2\0\x11\x08\1\0\2\1\3"), IMAGE_JPEG, 513, 256},
    {"a JPEG with tables before the frame", SLICE_LIT("\xff\xd8\xff\xc4\0\3x\xff\xd0\xff\xc0\0\x11\x08\0\1\0\2\3"), IMAGE_JPEG, 2, 1},
    {"a JPEG whose data come before a frame", SLICE_LIT("\xff\xd8\xff\xda\0\3x\xff\xc0\0\x11\x08\0\1\0\2\3"), IMAGE_JPEG, 0, 0},
    {"a JPEG whose segment is longer than it", SLICE_LIT("\xff\xd8\xff\xe0\xff\xff" "abcdefgh"), IMAGE_JPEG, 0, 0},
    {"a JPEG with a segment of no length", SLICE_LIT("\xff\xd8\xff\xe0\0\0\xff\xc0\0\x11\x08\0\1\0\2\3"), IMAGE_JPEG, 0, 0},
    {"a JPEG that ends in its frame", SLICE_LIT("\xff\xd8\xff\xc0\0\x11\x08\0\1"), IMAGE_JPEG, 0, 0},
    {"a lossy WEBP", SLICE_LIT("RIFF\x20\0\0\0WEBPVP8 \x10\0\0\0\0\0\0\x9d\x01\x2a\x10\x40\x20\x80"), IMAGE_WEBP, 16, 32},
    {"a WEBP without loss", SLICE_LIT("RIFF\x20\0\0\0WEBPVP8L\x10\0\0\0\x2f\x01\x80\x00\x00\0\0\0\0\0"), IMAGE_WEBP, 2, 3},
    {"an extended WEBP", SLICE_LIT("RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x01\0\x07\0\0"), IMAGE_WEBP, 512, 8},
    {"a WEBP of another part", SLICE_LIT("RIFF\x20\0\0\0WEBPANIM\x0a\0\0\0\0\0\0\0\xff\x01\0\x07\0\0"), IMAGE_WEBP, 0, 0},
    {"another RIFF", SLICE_LIT("RIFF\x20\0\0\0WAVEfmt "), IMAGE_NONE, 0, 0},
    {"text", SLICE_LIT("root:x:0:0:root:/root:/bin/sh\n"), IMAGE_NONE, 0, 0},
    {"a PDF", SLICE_LIT("%PDF-1.7"), IMAGE_NONE, 0, 0},
    {"nothing", SLICE_LIT(""), IMAGE_NONE, 0, 0},
    // clang-format on
};

static void the_first_bytes_tell(void **state) {
    for (size_t i = 0; i < sizeof(images) / sizeof(images[0]); i++) {
        uint32_t width = 0, height = 0;
        int rc = image_size(images[i].bytes, &width, &height);
        bool found = images[i].width > 0;
        if (image_kind(images[i].bytes) != images[i].kind || rc != (found ? 0 : -EINVAL) ||
            (found && (width != images[i].width || height != images[i].height))) {
            fail_msg("%s: got %s of %ux%u (%d)", images[i].name, image_kind_name(image_kind(images[i].bytes)),
                     width, height, rc);
        }
    }
}

static void an_estimate_goes_by_the_pixels(void **state) {
    assert_int_equal(image_tokens(SLICE_LIT(PNG("\0\0\0\1", "\0\0\0\1"))), 64);
    assert_int_equal(image_tokens(SLICE_LIT(PNG("\0\0\3\0", "\0\0\3\0"))), 768 * 768 / 750);
    assert_int_equal(image_tokens(SLICE_LIT(PNG("\0\0\x20\0", "\0\0\x02\0"))), 1568 * 98 / 750);
    assert_int_equal(image_tokens(SLICE_LIT(PNG("\xff\xff\xff\xff", "\xff\xff\xff\xff"))), 1600);
    assert_int_equal(image_tokens(SLICE_NONE), 1600);
}

static const struct {
    const char *name, *before; // and then the base64 of a GIF
    const char *fault;         // NULL: it is read
} texts[] = {
    {"base64", "", NULL},
    {"base64 with white space around it", " \n", NULL},
    {"a data: URL", "data:image/gif;base64,", NULL},
    {"a data: URL in capitals", "DATA:IMAGE/GIF;BASE64,", NULL},
    {"a data: URL of another type", "data:image/png;base64,", "a data: URL whose media type is not that of the image in it"},
    {"a data: URL without a type", "data:;base64,", "a data: URL whose media type is not that of the image in it"},
    {"a data: URL that is not of base64", "data:image/gif,", "a data: URL that is not of base64"},
    {"a path", "../", "text that is no base64"},
    {"base64 of something else", "AAAA", "base64 of something else than a PNG, JPEG, GIF or WEBP image"},
};

static void images_are_read_from_text(void **state) {
    struct slice gif = SLICE_LIT("GIF89a\x01\x00\x03\x00;");
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct buf text = {.max = 256}, bytes = {.max = 256};
        const char *fault = "";
        assert_int_equal(buf_add_str(&text, texts[i].before), 0);
        assert_int_equal(base64_add(&text, gif), 0);
        int rc = image_from_text(buf_slice(&text), &bytes, &fault);
        if (texts[i].fault == NULL && (rc != 0 || !slice_eq(buf_slice(&bytes), gif))) {
            fail_msg("%s: got %d, %s", texts[i].name, rc, fault);
        }
        if (texts[i].fault != NULL && (rc != -EINVAL || bytes.n != 0 || strcmp(fault, texts[i].fault) != 0)) {
            fail_msg("%s: got %d, %s", texts[i].name, rc, fault);
        }
        buf_free(&text);
        buf_free(&bytes);
    }
}

static void links_are_of_http_alone(void **state) {
    static const char *const good[] = {"http://h", "https://h/a.png?b=1#c", "HTTPS://H:8/", "http://[::1]/x"};
    static const char *const bad[] = {"", "http://", "https:///a.png", "http://?a", "file:///etc/passwd",
                                      "ftp://h/a", "//h/a", "h/a.png", "http://h/a b", "http://h/\n", "http://h/\xc3\xa9",
                                      "https://h\x7f"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(image_is_link(slice_of(good[i])));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(image_is_link(slice_of(bad[i])));
    }
    char longest[IMAGE_LINK_MAX + 1];
    memset(longest, 'a', sizeof(longest));
    memcpy(longest, "http://", 7);
    assert_true(image_is_link((struct slice){longest, IMAGE_LINK_MAX}));
    assert_false(image_is_link((struct slice){longest, IMAGE_LINK_MAX + 1}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_bytes_tell),
        cmocka_unit_test(an_estimate_goes_by_the_pixels),
        cmocka_unit_test(images_are_read_from_text),
        cmocka_unit_test(links_are_of_http_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
