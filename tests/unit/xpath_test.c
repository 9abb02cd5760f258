// xpath: documents of strangers are read without reaching beyond their own bytes, queries end.
#include "common/xpath.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int on_element(void *arg, xmlNodePtr element) {
    return 0;
}

// query returns what a path finds in a document.
static long query(const char *text, struct slice document) {
    struct error why = {""};
    struct xpath *path = xpath_compile(slice_of(text), &why);
    xmlDocPtr doc = xpath_document(document);
    assert_non_null(path);
    assert_non_null(doc);
    long n = xpath_query(path, doc, on_element, NULL);
    xmlFreeDoc(doc);
    xpath_free(path);
    return n;
}

static void test_documents(void **state) {
    static const struct {
        const char *says, *text;
        bool good;
    } cases[] = {
        {"an element", "<a/>", true},
        {"the five entities", "<a>&lt;&gt;&amp;&quot;&apos;&#65;</a>", true},
        {"a DOCTYPE", "<!DOCTYPE a><a/>", false},
        {"an entity of its own", "<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>", false},
        {"a file as an entity", "<!doctype a [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><a>&e;</a>", false},
        {"an entity that is not there", "<a>&e;</a>", false},
        {"not well-formed", "<a><b></a>", false},
        {"nothing", "", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        xmlDocPtr doc = xpath_document(slice_of(cases[i].text));
        if ((doc != NULL) != cases[i].good) {
            fail_msg("%s", cases[i].says);
        }
        xmlFreeDoc(doc);
    }
}

static void test_queries(void **state) {
    struct slice doc = SLICE_LIT("<r><i k='1'>a</i><i>b</i><j><i/></j></r>");
    assert_int_equal(query("/*/*", doc), 3);
    assert_int_equal(query("//i", doc), 3);
    assert_int_equal(query("//i[@k]", doc), 1);
    assert_int_equal(query("//@k", doc), 0); // an attribute is no element
    struct error why = {""};
    assert_null(xpath_compile(SLICE_LIT("count(//i)"), &why));
    assert_null(xpath_compile(SLICE_LIT("nothing-like-it()"), &why));
    assert_null(xpath_compile(SLICE_LIT("document('file:///etc/passwd')"), &why));
    assert_null(xpath_compile(SLICE_LIT("//["), &why));
    assert_true(why.text[0] != '\0');
    assert_null(xpath_compile(SLICE_NONE, &why));
}

static void test_a_query_without_end_is_given_up(void **state) {
    struct buf doc;
    buf_init(&doc, 1 << 20);
    assert_int_equal(buf_add_str(&doc, "<r>"), 0);
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(buf_add_str(&doc, "<i>x</i>"), 0);
    }
    assert_int_equal(buf_add_str(&doc, "</r>"), 0);
    assert_int_equal(query("//*[count(//*[count(//*) > 1]) > 1]", buf_slice(&doc)), -E2BIG);
    assert_int_equal(query("//i[following::i[following::i[following::i]]]", buf_slice(&doc)), -E2BIG);
    buf_free(&doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_a_query_without_end_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
