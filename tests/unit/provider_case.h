// What the tests of providers share: a model of a provider, a request written, an answer read.
#ifndef HEADRACE_TESTS_UNIT_PROVIDER_CASE_H
#define HEADRACE_TESTS_UNIT_PROVIDER_CASE_H

#include "common/json.h"
#include "common/model.h"
#include "worker/provider.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define NOT_GIVEN (-1) // header x-should-retry

// case_model makes model m of a provider.
//   with  more options, each with a comma before it: ", 'max.tokens' = '9'"
static inline struct statements case_model(const char *provider, const char *with) {
    struct buf sql;
    buf_init(&sql, 65536);
    assert_int_equal(buf_addf(&sql,
                              "CREATE MODEL m INPUT (t STRING) OUTPUT (s STRING) WITH ('provider' = "
                              "'%s', 'model' = 'x'%s);",
                              provider, with),
                     0);
    struct statements list = {0};
    struct error why = {0};
    if (model_sql_parse(buf_slice(&sql), "case", &list, &why) != 0) {
        fail_msg("%s: %s", with, why.text);
    }
    buf_free(&sql);
    return list;
}

// case_read reads a body as an answer to a call of the model; clear answer afterwards.
static inline void case_read(const struct model *model, int status, const char *body,
                             struct answer *answer) {
    struct reply reply = {.status = status,
                          .body = slice_of(body),
                          .should_retry = NOT_GIVEN,
                          .model = model,
                          .count = 1};
    provider_dialect(model)->read(&reply, answer);
}

struct request_case {
    const char *name;
    const char *with;   // options
    bool schema;        // {"type":"object"} is to be sent
    const char *want;   // the whole body; NULL: look at has
    const char *has, *has_not;
};

// case_requests writes each case's request with system message S and user message: a "b"
static inline void case_requests(const char *provider, const struct request_case *cases, size_t n) {
    size_t n_failed = 0;
    for (size_t i = 0; i < n; i++) {
        const struct request_case *c = &cases[i];
        struct statements list = case_model(provider, c->with);
        struct ask ask = {
            .model = list.items[0].model,
            .system = SLICE_LIT("S"),
            .user = SLICE_LIT("a \"b\""),
            .schema = c->schema ? SLICE_LIT("{\"type\":\"object\"}") : SLICE_NONE,
            .count = 1,
        };
        struct buf body;
        buf_init(&body, 65536);
        assert_int_equal(provider_dialect(ask.model)->write(&ask, &body), 0);
        struct json_object *json = NULL;
        assert_int_equal(json_parse(buf_slice(&body), &json, NULL), 0);
        json_object_put(json);
        if ((c->want != NULL && strcmp(body.p, c->want) != 0) ||
            (c->has != NULL && strstr(body.p, c->has) == NULL) ||
            (c->has_not != NULL && strstr(body.p, c->has_not) != NULL)) {
            print_error("%s: got %s\n", c->name, body.p);
            n_failed++;
        }
        buf_free(&body);
        statements_free(&list);
    }
    assert_int_equal(n_failed, 0);
}

struct answer_case {
    const char *name;
    int status;
    const char *body;
    enum outcome want;
    const char *text;   // when it is OK
};

// case_answers reads each case's body.
static inline void case_answers(const char *provider, const char *with, const struct answer_case *cases,
                                size_t n) {
    size_t n_failed = 0;
    struct statements list = case_model(provider, with);
    for (size_t i = 0; i < n; i++) {
        struct answer answer = {0};
        case_read(list.items[0].model, cases[i].status, cases[i].body, &answer);
        bool ok = answer.outcome == OUTCOME_OK;
        if (answer.outcome != cases[i].want || (!ok && answer.detail[0] == '\0') ||
            (ok && cases[i].text != NULL && !slice_is(answer.text, cases[i].text))) {
            print_error("%s: got %s \"%.*s\" (%s)\n", cases[i].name, outcome_of(answer.outcome)->text,
                        SLICE_FMT(answer.text), answer.detail);
            n_failed++;
        }
        answer_clear(&answer);
    }
    statements_free(&list);
    assert_int_equal(n_failed, 0);
}

// case_headers checks the header lines of a model.
static inline void case_headers(const char *provider, const char *with, const char *want) {
    struct statements list = case_model(provider, with);
    struct buf lines;
    buf_init(&lines, 4096);
    assert_int_equal(provider_of(list.items[0].model)->headers(list.items[0].model, &lines), 0);
    assert_string_equal(lines.n > 0 ? lines.p : "", want);
    buf_free(&lines);
    statements_free(&list);
}

#endif
