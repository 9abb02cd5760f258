// What a provider says about a job. Input: provider, order, then for each exchange a byte of status and a body
// that ends with 0xff. A step must end, with an outcome that has a sentence when it is not well.
#include "batch_case.h"

static void keep_around(struct batch_step *step, struct slice body) {
    buf_free(&step->around);
    buf_init(&step->around, 1 << 20);
    int rc = buf_add_slice(&step->around, body);
    assert(rc == 0 || body.n > 1 << 20);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int statuses[] = {200, 200, 200, 404, 400, 429, 401, 403, 409, 413, 500, 502, 529, 302, 0};
    if (size < 3) {
        return 0;
    }
    struct batch_step step;
    const struct batch_provider *provider =
        case_step(data[0] % CASE_PROVIDERS, (enum batch_order)(data[1] % N_BATCH_ORDERS), &step);
    const struct exchange *exchange = provider->orders[step.order];
    size_t at = 2;
    while (exchange != NULL && at < size && exchange->ask(&step) == 0) {
        const uint8_t *stop = memchr(data + at + 1, 0xff, size - at - 1);
        size_t n = stop != NULL ? (size_t)(stop - data) - at - 1 : size - at - 1;
        struct transfer_end end = {.status = statuses[data[at] % 15], .sent = true, .body = case_copy(data + at + 1, n)};
        struct slice body = end.body;
        reply_head_clear(&end.head);
        end.decided = end.status == 0;
        end.outcome = end.decided ? OUTCOME_BROKEN : OUTCOME_OK;
        slice_copy(body, end.place, sizeof(end.place));
        if (exchange->answers && end.status == 200) {
            keep_around(&step, end.body);
            end.in_file = true;
            end.body = SLICE_NONE;
        }
        exchange = exchange->read(&step, &end);
        free((char *)body.p);
        at += n + 2;
    }
    assert(strlen(step.done.id) <= BATCH_ID_MAX && strlen(step.done.file) <= BATCH_ID_MAX);
    assert(slice_utf8_error(slice_of(step.done.id)) < 0 && slice_utf8_error(slice_of(step.done.file)) < 0);
    assert(step.done.state != NULL && step.wait_ms >= 0 && step.wait_ms <= 60000);
    batch_step_free(&step);
    return 0;
}
