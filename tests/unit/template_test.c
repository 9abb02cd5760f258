// template: cases/template.test, what C alone can check (ceilings, loops, names), and the public
// Mustache specification where it is found: $HEADRACE_DATA/mustache-spec or
// ../../shared/data/mustache-spec.
#include "common/json.h"
#include "common/mem.h"
#include "common/template.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MOST_TEXT     (1 << 20)
#define MOST_PARTIALS 8

// The data of one case, as a struct template_source.
struct world {
    struct slice names[MOST_PARTIALS];
    struct template *partials[MOST_PARTIALS];
    size_t n_partials;
    char text[256]; // the last text given out, overwritten by the next: the promise is no longer
};

static void set_value(struct world *w, struct json_object *from, struct template_value *value) {
    *value = (struct template_value){.kind = TEMPLATE_FALSE};
    switch (json_object_get_type(from)) {
    case json_type_null:
        return;
    case json_type_object:
        value->kind = TEMPLATE_NODE;
        value->node = from;
        return;
    case json_type_array:
        value->kind = TEMPLATE_LIST;
        value->node = from;
        value->n = json_object_array_length(from);
        return;
    case json_type_boolean:
        if (!json_object_get_boolean(from)) {
            return;
        }
        break;
    default:
        break;
    }
    snprintf(w->text, sizeof(w->text), "%s", json_object_get_string(from));
    value->kind = TEMPLATE_TEXT;
    value->text = slice_of(w->text);
}

static bool get(void *arg, const void *node, struct slice name, struct template_value *value) {
    struct world *w = arg;
    struct json_object *member = NULL;
    char *key = slice_dup(name);
    bool has = json_object_object_get_ex(node, key, &member);
    free(key);
    memset(w->text, '?', sizeof(w->text));
    if (has) {
        set_value(arg, member, value);
    }
    return has;
}

static void item(void *arg, const void *list, size_t i, struct template_value *value) {
    set_value(arg, json_object_array_get_idx(list, i), value);
}

static int escape_html(void *arg, struct slice text, struct buf *out) {
    static const char *const entities[256] = {
        ['&'] = "&amp;", ['"'] = "&quot;", ['<'] = "&lt;", ['>'] = "&gt;"};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < text.n; i++) {
        const char *entity = entities[(unsigned char)text.p[i]];
        rc = entity != NULL ? buf_add_str(out, entity) : buf_add_byte(out, text.p[i]);
    }
    return rc;
}

static const struct template *partial(void *arg, struct slice name) {
    struct world *w = arg;
    for (size_t i = 0; i < w->n_partials; i++) {
        if (slice_eq(w->names[i], name)) {
            return w->partials[i];
        }
    }
    return NULL;
}

static void add_partials(struct world *w, struct json_object *partials) {
    if (partials == NULL) {
        return;
    }
    json_object_object_foreach(partials, name, text) {
        assert_true(w->n_partials < MOST_PARTIALS);
        struct error why;
        struct template *t = template_compile(json_text(text), &why);
        if (t == NULL) {
            fail_msg("partial %s: %s", name, why.text);
        }
        w->names[w->n_partials] = slice_of(name);
        w->partials[w->n_partials++] = t;
    }
}

static bool renders(struct json_object *test, const struct template *t, bool is_html) {
    struct world w = {.n_partials = 0};
    struct template_source source = {.get = get,
                                     .item = item,
                                     .escape = is_html ? escape_html : NULL,
                                     .partial = partial,
                                     .arg = &w};
    add_partials(&w, json_get(test, "partials"));
    struct template_value data;
    set_value(&w, json_get(test, "data"), &data);
    char *text = slice_dup(data.text); // the root's text must hold
    data.text.p = text;
    struct buf out;
    buf_init(&out, MOST_TEXT);
    assert_int_equal(template_render_value(t, &source, &data, &out), 0);
    free(text);
    bool ok = slice_eq(buf_slice(&out), json_text(json_get(test, "expected")));
    if (!ok) {
        print_message("got:  %s|\nwant: %s|\n", out.p != NULL ? out.p : "",
                      json_text(json_get(test, "expected")).p);
    }
    buf_free(&out);
    for (size_t i = 0; i < w.n_partials; i++) {
        template_free(w.partials[i]);
    }
    return ok;
}

static bool passes(struct json_object *test, bool is_html) {
    struct error why = {""};
    struct slice want = json_text(json_get(test, "error"));
    struct template *t = template_compile(json_text(json_get(test, "template")), &why);
    bool ok;
    if (t == NULL) {
        ok = want.n > 0 && strstr(why.text, want.p) != NULL;
        if (!ok) {
            print_message("refused: %s\n", why.text);
        }
    } else {
        ok = want.n == 0 && renders(test, t, is_html);
    }
    template_free(t);
    return ok;
}

static char *read_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return NULL;
    }
    char *text = mem_zalloc(MOST_TEXT);
    size_t n = fread(text, 1, MOST_TEXT - 1, f);
    fclose(f);
    assert_true(n > 0);
    return text;
}

static void test_cases(void **state) {
    char *text = read_file("cases/template.test");
    assert_non_null(text);
    size_t n_failed = 0, n_run = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (line[0] == '#') {
            continue;
        }
        struct json_object *test;
        struct error why = {""};
        if (json_parse(slice_of(line), &test, &why) != 0) {
            fail_msg("%s: %s", line, why.text);
        }
        n_run++;
        if (!passes(test, false)) {
            print_message("failed: %s\n", json_text(json_get(test, "name")).p);
            n_failed++;
        }
        json_object_put(test);
    }
    free(text);
    assert_true(n_run > 0);
    assert_int_equal(n_failed, 0);
}

static size_t run_spec_file(const char *path, size_t *n_run) {
    char *text = read_file(path);
    assert_non_null(text);
    struct json_object *spec;
    struct error why = {""};
    if (json_parse(slice_of(text), &spec, &why) != 0) {
        fail_msg("%s: %s", path, why.text);
    }
    size_t n_failed = 0;
    struct json_object *tests = json_get(spec, "tests");
    for (size_t i = 0; i < json_object_array_length(tests); i++) {
        struct json_object *test = json_object_array_get_idx(tests, i);
        (*n_run)++;
        if (!passes(test, true)) {
            print_message("failed: %s: %s\n", path, json_text(json_get(test, "name")).p);
            n_failed++;
        }
    }
    json_object_put(spec);
    free(text);
    return n_failed;
}

static void test_specification(void **state) {
    const char *data = getenv("HEADRACE_DATA");
    char folder[2048], path[4096];
    snprintf(folder, sizeof(folder), "%s/mustache-spec", data != NULL ? data : "../../shared/data");
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        print_message("the specification is not here\n");
        skip();
    }
    size_t n_failed = 0, n_run = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (strstr(e->d_name, ".json") != NULL) {
            snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
            n_failed += run_spec_file(path, &n_run);
        }
    }
    closedir(dir);
    print_message("%zu cases of the specification run\n", n_run);
    assert_true(n_run > 0);
    assert_int_equal(n_failed, 0);
}

static void test_no_functions(void **state) {
    struct world w = {.n_partials = 0};
    struct template_source source = {.get = get, .item = item, .arg = &w};
    struct json_object *data;
    assert_int_equal(json_parse(slice_of("{\"a\":\"<\"}"), &data, NULL), 0);
    struct template *t = template_compile(slice_of("{{a}}{{>p}}{{{a}}}"), NULL);
    struct buf out;
    buf_init(&out, 16);
    assert_int_equal(template_render(t, &source, data, &out), 0);
    assert_string_equal(out.p, "<<");
    buf_free(&out);
    template_free(t);
    template_free(NULL);
    json_object_put(data);
}

static void test_ceiling(void **state) {
    struct world w = {.n_partials = 0};
    struct template_source source = {.get = get, .item = item, .arg = &w};
    struct json_object *data;
    assert_int_equal(json_parse(slice_of("{\"a\":[\"xx\",\"yy\"]}"), &data, NULL), 0);
    struct template *t = template_compile(slice_of("{{#a}}-{{.}}{{/a}}"), NULL);
    for (size_t max = 1; max <= 7; max++) {
        struct buf out;
        buf_init(&out, max);
        assert_int_equal(buf_add_byte(&out, '>'), 0);
        assert_int_equal(template_render(t, &source, data, &out), max < 7 ? -EMSGSIZE : 0);
        assert_string_equal(out.p, max < 7 ? ">" : ">-xx-yy");
        buf_free(&out);
    }
    template_free(t);
    json_object_put(data);
}

static void test_partial_loop(void **state) {
    struct template *t = template_compile(slice_of("x\n {{>p}}\n"), NULL);
    struct world w = {.names = {SLICE_LIT("p")}, .partials = {t}, .n_partials = 1};
    struct template_source source = {.get = get, .item = item, .partial = partial, .arg = &w};
    struct json_object *data = json_object_new_object();
    struct buf out;
    buf_init(&out, MOST_TEXT);
    assert_int_equal(template_render(t, &source, data, &out), -ELOOP);
    assert_int_equal(out.n, 0);
    buf_free(&out);
    json_object_put(data);
    template_free(t);
}

static void test_nested_sections(void **state) {
    for (size_t n = 64; n <= 65; n++) {
        struct buf text;
        buf_init(&text, MOST_TEXT);
        for (size_t i = 0; i < 2 * n; i++) {
            assert_int_equal(buf_add_str(&text, i < n ? "{{#a}}" : "{{/a}}"), 0);
        }
        struct error why = {""};
        struct template *t = template_compile(buf_slice(&text), &why);
        assert_true((t != NULL) == (n == 64));
        assert_string_equal(why.text, n == 64 ? ""
                                              : "line 1, column 385: got sections more than 64 "
                                                "deep, want fewer");
        template_free(t);
        buf_free(&text);
    }
}

static void on_name(void *arg, struct slice name) {
    assert_int_equal(buf_addf(arg, "%.*s ", SLICE_FMT(name)), 0);
}

static void test_names(void **state) {
    struct template *t = template_compile(
        slice_of("{{a}}{{#b}}{{c}}{{/b}}{{^d}}{{e.f}}{{#g}}{{h}}{{/g}}{{/d}}{{>i}}{{{a}}}{{!j}}"),
        NULL);
    struct buf names;
    buf_init(&names, 256);
    template_names(t, on_name, &names);
    assert_string_equal(names.p, "a b d e.f g i ");
    buf_free(&names);
    template_free(t);
}

// ---- Linked partials ----------------------------------------------------------------------------

static void on_walk(void *arg, struct slice name, bool inside) {
    assert_int_equal(buf_addf(arg, "%.*s%s ", SLICE_FMT(name), inside ? "+" : ""), 0);
}

static const struct template *linked(void *arg, struct slice name) {
    return partial(arg, name);
}

static void test_linked(void **state) {
    struct error why = {0};
    struct template *t = template_compile(slice_of("{{#r}}{{>p}}{{/r}}{{>p}}{{>q}}"), NULL);
    struct template *p = template_compile(slice_of("{{a}}{{>q}}"), NULL), *q = template_compile(slice_of("{{b}}"), NULL);
    struct world w = {.names = {SLICE_LIT("p"), SLICE_LIT("q")}, .partials = {p, q}, .n_partials = 1};
    assert_int_equal(template_link(t, linked, &w, &why), -ENOENT);
    assert_string_equal(why.text, "got '{{> q}}'");
    w.n_partials = 2;
    assert_int_equal(template_link(t, linked, &w, &why), 0);
    assert_int_equal(template_link(p, linked, &w, &why), 0);
    assert_false(template_is_endless(t));
    struct buf names;
    buf_init(&names, 256);
    template_names(t, on_name, &names);
    assert_string_equal(names.p, "r a b b ");
    buf_clear(&names);
    template_walk(t, "r", on_walk, &names);
    assert_string_equal(names.p, "r a+ b+ a b b ");
    buf_clear(&names);
    struct template_source source = {.get = get, .item = item, .arg = &w}; // is not asked for partials
    struct json_object *data;
    assert_int_equal(json_parse(slice_of("{\"a\":\"A\",\"b\":\"B\",\"r\":[{\"a\":\"C\"}]}"), &data, NULL), 0);
    assert_int_equal(template_render(t, &source, data, &names), 0);
    assert_string_equal(names.p, "CBABB");
    assert_int_equal(template_link(q, linked, &w, &why), 0);
    buf_free(&names);
    json_object_put(data);
    template_free(t);
    template_free(p);
    template_free(q);
    struct template *loop = template_compile(slice_of("{{>p}}"), NULL);
    w = (struct world){.names = {SLICE_LIT("p")}, .partials = {loop}, .n_partials = 1};
    assert_int_equal(template_link(loop, linked, &w, &why), 0);
    assert_true(template_is_endless(loop));
    template_free(loop);
}

static int list_of(void *arg, const void *list, size_t n, struct buf *out) {
    return buf_addf(out, "[%zu]", n);
}

static void expect_list(struct world *w, struct json_object *data, const char *want) {
    struct template_source source = {.get = get, .item = item, .list = list_of, .escape = escape_html, .arg = w};
    struct template *t = template_compile(slice_of("{{l}} {{{l}}} {{#l}}{{.}}{{/l}}"), NULL);
    struct buf out;
    buf_init(&out, 64);
    assert_int_equal(template_render(t, &source, data, &out), 0);
    assert_string_equal(out.p, want);
    buf_free(&out);
    template_free(t);
}

static void test_lists_by_name(void **state) {
    struct world w = {.n_partials = 0};
    struct json_object *data;
    assert_int_equal(json_parse(slice_of("{\"l\":[\"<\",\"b\"]}"), &data, NULL), 0);
    expect_list(&w, data, "[2] [2] &lt;b");
    json_object_put(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),        cmocka_unit_test(test_specification),
        cmocka_unit_test(test_no_functions), cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_partial_loop), cmocka_unit_test(test_nested_sections),
        cmocka_unit_test(test_names),        cmocka_unit_test(test_linked),
        cmocka_unit_test(test_lists_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
