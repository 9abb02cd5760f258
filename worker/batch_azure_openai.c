// Azure's batch API: OpenAI's, at Azure's addresses. A dated endpoint names its deployment in the path of
// calls, but batches stand beside the deployments and every line names its deployment as model.
// Source: learn.microsoft.com/azure/ai-foundry/openai/how-to/batch, 2026-11.
#include "worker/batch_openai.h"

#include "common/json.h"

#include <string.h>

// after_model returns how many bytes of a body {"model":"...",... end with the model's name.
static size_t after_model(struct slice body) {
    size_t i = strlen("{\"model\":\"");
    if (!slice_starts(body, "{\"model\":\"")) {
        return 0;
    }
    while (i < body.n && body.p[i] != '"') {
        i += body.p[i] == '\\' ? 2 : 1;
    }
    return i < body.n ? i + 1 : 0;
}

static int line(const struct batch_step *step, struct slice name, struct slice body, bool first,
                struct buf *out) {
    struct slice deployment = step->place.deployment;
    size_t n = deployment.n > 0 ? after_model(body) : 0;
    if (n == 0) {
        return batch_openai_line(step, name, body, first, out);
    }
    struct buf renamed;
    buf_init(&renamed, out->max);
    int rc = buf_add_str(&renamed, "{\"model\":");
    rc = rc != 0 ? rc : json_add_string(&renamed, deployment);
    rc = rc != 0 ? rc : buf_add_slice(&renamed, slice_sub(body, n, body.n));
    rc = rc != 0 ? rc : batch_openai_line(step, name, buf_slice(&renamed), first, out);
    buf_free(&renamed);
    return rc;
}

const struct batch_provider batch_azure_openai = {
    .orders = batch_openai_orders,
    .begin = batch_openai_nothing,
    .line = line,
    .end = batch_openai_nothing,
    .answer = batch_openai_answer,
};
