// One question to a coordinator and its answer. Called by the subcommands.
#include "client/ask.h"

#include "client/dialogue.h"
#include "client/setup.h"
#include "common/json.h"

#include <errno.h>
#include <stdlib.h>
#include <zmq.h>

#define AGAIN_MS 1000
#define SQL_MAX (1024 * 1024)
#define ANSWER_MAX (17 * 1024 * 1024)

struct asking {
    struct loop *loop;
    struct dialogue *dialogue;
    const struct message *question;
    enum message_kind want;
    struct buf *text;
    uint64_t *number;
    struct error *why;
    int status; // -ETIMEDOUT until there is an answer
};

static void say(void *arg) {
    struct asking *asking = arg;
    int status = dialogue_send(asking->dialogue, asking->question);
    if (status < 0) {
        asking->status = error_set(asking->why, status, "the question is too long");
        loop_stop(asking->loop);
    }
}

static void answered(struct asking *asking, int status) {
    asking->status = status;
    loop_stop(asking->loop);
}

static void on_message(void *arg, const struct message *message) {
    struct asking *asking = arg;
    if (message->kind == MESSAGE_REFUSED) {
        if (!slice_is(message->refused.code, "starting") &&
            !slice_is(message->refused.code, "busy") && !slice_is(message->refused.code, "away")) {
            answered(asking, error_set(asking->why, -EPERM, "the coordinator refused: %.*s",
                                       SLICE_FMT(message->refused.message)));
        }
    } else if (message->kind == asking->want) {
        int status = 0;
        if (message->kind == MESSAGE_STATUS && asking->text != NULL) {
            status = buf_add_slice(asking->text, message->status.json);
        } else if (message->kind == MESSAGE_CREATED && asking->number != NULL) {
            *asking->number = message->created.models;
        }
        answered(asking, status < 0 ? error_set(asking->why, status, "the answer is too long") : 0);
    }
}

static void on_timeout(void *arg) {
    struct asking *asking = arg;
    loop_stop(asking->loop);
}

int ask(const char *address, const struct message *question, enum message_kind want,
        int64_t timeout_ms, struct buf *text, uint64_t *number, struct error *why) {
    struct asking asking = {
        .loop = loop_new(),
        .question = question,
        .want = want,
        .text = text,
        .number = number,
        .why = why,
        .status = -ETIMEDOUT,
    };
    void *zmq = zmq_ctx_new();
    struct dialogue_handlers handlers = {.on_up = say, .on_message = on_message, .arg = &asking};
    asking.dialogue = dialogue_new(asking.loop, zmq, address, &handlers, why);
    if (asking.dialogue == NULL) {
        asking.status = -EINVAL;
    } else {
        loop_timer_start(loop_add_timer(asking.loop, say, &asking), AGAIN_MS, AGAIN_MS);
        loop_timer_start(loop_add_timer(asking.loop, on_timeout, &asking), timeout_ms, 0);
        loop_run(asking.loop);
        if (asking.status == -ETIMEDOUT) {
            bool is_up = dialogue_is_up(asking.dialogue);
            error_set(why, -ETIMEDOUT, "coordinator '%s': %s in %.1f s", address,
                      is_up ? "no answer" : "no connection", (double)timeout_ms / 1000);
        }
    }
    dialogue_free(asking.dialogue);
    loop_free(asking.loop);
    zmq_ctx_term(zmq);
    return asking.status;
}

int ask_json(const char *address, const struct message *question, int64_t timeout_ms, struct json_object **value,
             struct error *why) {
    struct buf text;
    buf_init(&text, ANSWER_MAX);
    int status = ask(address, question, MESSAGE_STATUS, timeout_ms, &text, NULL, why);
    status = status ? status : json_parse(buf_slice(&text), value, why);
    buf_free(&text);
    return status;
}

int ask_create(const char *address, const char *file, int64_t timeout_ms, uint64_t *n_changed,
               struct error *why) {
    size_t n = 0;
    char *sql = setup_read_file(file, SQL_MAX, &n, why);
    if (sql == NULL) {
        return -EINVAL;
    }
    struct message create = {.kind = MESSAGE_CREATE, .create.sql = {sql, n}};
    int status = ask(address, &create, MESSAGE_CREATED, timeout_ms, NULL, n_changed, why);
    free(sql);
    return status;
}

int ask_model(const char *address, const char *name, int64_t timeout_ms, struct statements *list,
              struct error *why) {
    struct json_object *value = NULL;
    struct message get = {.kind = MESSAGE_STATUS_GET, .status_get.about = SLICE_LIT("models")};
    int status = ask_json(address, &get, timeout_ms, &value, why);
    struct json_object *models = status == 0 ? json_get(value, "models") : NULL;
    size_t n = json_object_is_type(models, json_type_array) ? json_object_array_length(models) : 0;
    status = status ? status : -ENOENT;
    for (size_t i = 0; i < n; i++) {
        struct json_object *model = json_object_array_get_idx(models, i);
        if (slice_is(json_text(json_get(model, "name")), name)) {
            status = model_sql_parse(json_text(json_get(model, "sql")), "model", list, why);
        }
    }
    json_object_put(value);
    return status;
}
