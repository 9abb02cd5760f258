// error_class: what an error of a provider means: the rows of error_class.def, and the shapes in which
// servers put errors.
#ifndef HEADRACE_WORKER_ERROR_CLASS_H
#define HEADRACE_WORKER_ERROR_CLASS_H

#include "common/bytes.h"
#include "common/providers.h"
#include "proto/outcome.h"

#include <json-c/json.h>
#include <stdbool.h>

struct answer;
struct reply;

// One error as it was read. Slices borrow from the answer's JSON and may be empty.
struct provider_error {
    int status;          // HTTP, or what an error inside a 200 stands for
    struct slice code, type, message;
    char detail[512];    // words of nested details with spaces between
    uint64_t delay_ms;   // a delay that the body has in a field of its own; 0: none
};

// One row of error_class.def.
struct error_class {
    const char *name;
    unsigned providers;     // bits 1 << enum provider_id; 0: any
    int in[4], low, high;   // statuses; in[0] is 0: from low to high
    enum outcome outcome;
    const char *code, *starts, *has, *has2, *detail;
    bool delay, no_delay;
    uint64_t wait_ms;
    bool schema;
};

// error_classes returns the table.
const struct error_class *error_classes(size_t *n);
// error_class_find returns the first row that matches; there is always one for statuses 100..999.
//   delay  the provider said when to try again
const struct error_class *error_class_find(enum provider_id id, const struct provider_error *error,
                                           bool delay);

// error_read reads an error out of any shape that servers use:
//   {"error":{...}}  {"error":"text"}  {"object":"error",...}  {"detail":...}  {"message":...}  [{...}]
//   root    the whole body
//   status  of the answer; for an error inside a 200 the status that its code means is put into error
void error_read(struct json_object *root, int status, struct provider_error *error);

// error_status says which status an error's code or type stands for; 500 for one that is not known.
int error_status(struct slice name);

// error_classify sets answer's outcome, detail, retry_after_ms and schema_refused from an error.
void error_classify(enum provider_id id, const struct reply *reply, const struct provider_error *error,
                    struct answer *answer);

// error_not_json fills answer for a body that is no JSON: by status, or what is wrong with a 200.
void error_not_json(enum provider_id id, const struct reply *reply, struct answer *answer);

#endif
