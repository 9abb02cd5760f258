// CREATE, STATUS_GET, RESUME and LETTERS. Invariant: each is answered once, with what was asked for or REFUSED.
// Called by main with messages that the core does not take.
#include "coordinator/requests.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>

// A CREATE whose models are on their way to Redis.
struct creating {
    struct coordinator *c;
    char *route;
    size_t n_route;
};

static void on_created(void *arg, int status, size_t n_changed, const struct error *why) {
    struct creating *creating = arg;
    struct coordinator *c = creating->c;
    struct message answer = {.kind = MESSAGE_CREATED, .created = {.models = n_changed}};
    if (status != 0) {
        answer = (struct message){
            .kind = MESSAGE_REFUSED,
            .refused = {.code = status == -EEXIST ? SLICE_LIT("model-exists") : SLICE_LIT("bad-model"),
                        .message = slice_of(why->text)},
        };
    } else {
        core_models_changed(c->core, clock_us());
    }
    (void)!link_send(c->link, (struct slice){.p = creating->route, .n = creating->n_route}, &answer);
    free(creating->route);
    free(creating);
}

static void on_create(struct coordinator *c, struct slice route, const struct message_create *create) {
    struct creating *creating = mem_zalloc(sizeof(*creating));
    creating->c = c;
    creating->route = slice_dup(route);
    creating->n_route = route.n;
    catalog_create(c->catalog, create->sql, false, on_created, creating);
}

static void add_model(void *arg, const struct model *model) {
    struct buf *json = arg;
    struct buf sql;
    buf_init(&sql, MODELS_MAX_BYTES);
    int rc = model_to_sql(model, &sql);
    rc |= buf_add_str(json, json->p[json->n - 1] == '[' ? "{\"name\":" : ",{\"name\":");
    rc |= json_add_string(json, slice_of(model->name));
    rc |= buf_addf(json, ",\"revision\":%u,\"sql\":", model->revision);
    rc |= json_add_string(json, buf_slice(&sql));
    rc |= buf_add_byte(json, '}');
    (void)rc; // ceilings far above what a catalog holds; a cut answer is not JSON and is seen as such
    buf_free(&sql);
}

static void on_status_get(struct coordinator *c, struct slice route,
                          const struct message_status_get *get) {
    struct buf json;
    buf_init(&json, 16 * 1024 * 1024);
    int rc;
    if (slice_is(get->about, "models")) {
        rc = buf_add_str(&json, "{\"models\":[");
        catalog_each(c->catalog, add_model, &json);
        rc |= buf_add_str(&json, "]}");
    } else if (slice_is(get->about, "limits")) {
        rc = core_limits_json(c->core, clock_us(), &json);
    } else if (slice_is(get->about, "spend")) {
        rc = buf_add_str(&json, "{\"spend\":");
        rc |= core_spend_json(c->core, &json);
        rc |= buf_add_byte(&json, '}');
    } else {
        rc = status_json(c->core, &c->status, clock_us(), &json);
    }
    struct message answer = {.kind = MESSAGE_STATUS, .status = {.json = buf_slice(&json)}};
    if (rc == 0) {
        (void)!link_send(c->link, route, &answer);
    }
    buf_free(&json);
}

static void on_resume(struct coordinator *c, struct slice route, const struct message_resume *resume) {
    struct buf json;
    buf_init(&json, 16 * 1024 * 1024);
    int rc = core_resume(c->core, clock_us(), resume->pool, &json);
    struct message answer = {.kind = MESSAGE_STATUS, .status = {.json = buf_slice(&json)}};
    if (rc == -ENOENT) {
        answer = (struct message){
            .kind = MESSAGE_REFUSED,
            .refused = {.code = SLICE_LIT("unknown-pool"),
                        .message = SLICE_LIT("there is no such pool here: headrace limits names them")},
        };
    }
    (void)!link_send(c->link, route, &answer);
    buf_free(&json);
}

void requests_message(struct coordinator *c, struct slice route, const struct message *message) {
    if (message->kind == MESSAGE_STATUS_GET) {
        on_status_get(c, route, &message->status_get);
    } else if (message->kind == MESSAGE_RESUME) {
        on_resume(c, route, &message->resume);
    } else if (core_is_open(c->core) && message->kind == MESSAGE_LETTERS) {
        letters_ask(c->letters, route, &message->letters);
    } else if (core_is_open(c->core)) {
        on_create(c, route, &message->create);
    } else {
        struct message refused = {
            .kind = MESSAGE_REFUSED,
            .refused = {.code = SLICE_LIT("starting"),
                        .message = SLICE_LIT("the coordinator is not ready yet: try again in a moment")},
        };
        (void)!link_send(c->link, route, &refused);
    }
}
