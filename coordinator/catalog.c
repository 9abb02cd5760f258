// Models and their revisions. Invariant: what catalog_find returns is durable in Redis, and no model
// that was ever given out is freed before the catalog. One catalog_create runs at a time, so that
// each sees the revisions of the one before. Called by the coordinator's main and core.
#include "coordinator/catalog.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/redis.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#define KEY_BYTES (MODEL_NAME_MAX + 128)
#define SQL_MAX_BYTES (8 * 1024 * 1024) // of one statement as it is kept

struct revision {
    struct model *model;
    char *sql; // as model_to_sql makes it
    struct revision *next;
};

struct entry {
    char *name;
    uint32_t head;              // newest revision in Redis; its statement may not have been readable
    struct revision *revisions; // utlist LL
    struct revision *retired;   // read differently later; kept because somebody may hold the model
    UT_hash_handle hh;          // by name
};

// One revision to be written.
struct change {
    struct revision *revision;
    struct change *next;
};

struct create {
    struct catalog *catalog;
    struct slice sql; // owned bytes
    bool replace;     // as if OR REPLACE stood in each statement
    catalog_done *done;
    void *arg;
    struct change *changes;  // utlist LL
    size_t n_changes, n_waiting;
    int status;
    struct error why;
    struct create *prev, *next;
};

struct load {
    struct catalog *catalog;
    catalog_done *done;
    void *arg;
    size_t n_waiting, n_read;
    int status;
};

struct catalog {
    struct redis *redis;
    char *ns;
    struct entry *entries;  // uthash
    struct create *creates; // utlist DL; the head is running
    size_t n_asked;         // answers of Redis still to come
    bool closed;            // freed by its owner; goes with the last answer, and calls nobody
};

struct catalog *catalog_new(struct redis *redis, const char *ns) {
    struct catalog *catalog = mem_zalloc(sizeof(*catalog));
    catalog->redis = redis;
    catalog->ns = mem_dup_str(ns);
    return catalog;
}

static void revision_free(struct revision *r) {
    model_free(r->model);
    free(r->sql);
    free(r);
}

static void revisions_free(struct revision *list) {
    struct revision *r, *next;
    LL_FOREACH_SAFE(list, r, next) {
        revision_free(r);
    }
}

static void create_free(struct create *create) {
    free((char *)create->sql.p);
    free(create);
}

static void destroy(struct catalog *catalog) {
    struct create *create, *c_next;
    DL_FOREACH_SAFE(catalog->creates, create, c_next) {
        create_free(create);
    }
    struct entry *e, *next;
    HASH_ITER(hh, catalog->entries, e, next) {
        HASH_DEL(catalog->entries, e);
        revisions_free(e->revisions);
        revisions_free(e->retired);
        free(e->name);
        free(e);
    }
    free(catalog->ns);
    free(catalog);
}

// answered counts an answer down; after it the catalog may be gone.
static void answered(struct catalog *catalog) {
    catalog->n_asked--;
    if (catalog->closed && catalog->n_asked == 0) {
        destroy(catalog);
    }
}

void catalog_free(struct catalog *catalog) {
    if (catalog != NULL) {
        catalog->closed = true;
        catalog->n_asked++;
        answered(catalog);
    }
}

static struct entry *find_entry(const struct catalog *catalog, struct slice name) {
    struct entry *e;
    HASH_FIND(hh, catalog->entries, name.p, name.n, e);
    return e;
}

static struct entry *need_entry(struct catalog *catalog, struct slice name) {
    struct entry *e = find_entry(catalog, name);
    if (e == NULL) {
        e = mem_zalloc(sizeof(*e));
        e->name = slice_dup(name);
        HASH_ADD_KEYPTR(hh, catalog->entries, e->name, name.n, e);
    }
    return e;
}

static struct revision *find_revision(const struct entry *e, uint32_t number) {
    struct revision *r;
    LL_FOREACH(e->revisions, r) {
        if (r->model->revision == number) {
            return r;
        }
    }
    return NULL;
}

// install takes the revision; one that is there already with the same statement stays instead.
static void install(struct entry *e, struct revision *r) {
    struct revision *old = find_revision(e, r->model->revision);
    if (old != NULL && strcmp(old->sql, r->sql) == 0) {
        revision_free(r);
        return;
    }
    if (old != NULL) {
        log_warn("catalog.changed", "model=%s revision=%" PRIu32, e->name, r->model->revision);
        LL_DELETE(e->revisions, old);
        LL_PREPEND(e->retired, old);
    }
    LL_PREPEND(e->revisions, r);
}

static struct slice names_key(const struct catalog *catalog, char text[KEY_BYTES]) {
    int n = snprintf(text, KEY_BYTES, "hr:{%s}:models", catalog->ns);
    return (struct slice){.p = text, .n = (size_t)n};
}

static struct slice model_key(const struct catalog *catalog, struct slice name, char text[KEY_BYTES]) {
    int n = snprintf(text, KEY_BYTES, "hr:{%s}:model:%.*s", catalog->ns, SLICE_FMT(name));
    return (struct slice){.p = text, .n = (size_t)n};
}

// revision_new takes the model; NULL when its statement would be too long.
static struct revision *revision_new(struct model *model, uint32_t number) {
    struct buf sql;
    buf_init(&sql, SQL_MAX_BYTES);
    if (model_to_sql(model, &sql) != 0) {
        model_free(model);
        buf_free(&sql);
        return NULL;
    }
    struct revision *r = mem_zalloc(sizeof(*r));
    r->model = model;
    r->model->revision = number;
    r->sql = buf_take(&sql);
    return r;
}

// ---- Load --------------------------------------------------------------------------------------

static void load_step(struct load *load) {
    load->n_waiting--;
    if (load->n_waiting > 0) {
        return;
    }
    struct error why = {{0}};
    if (load->status != 0) {
        error_set(&why, load->status,
                  load->status == -EAGAIN ? "models: Redis was lost while they were read"
                                          : "models: Redis did not answer with what a catalog is");
    }
    if (!load->catalog->closed) {
        load->done(load->arg, load->status, load->n_read, &why);
    }
    free(load);
}

// take_revision reads one field of a model's hash.
static void take_revision(struct load *load, const redisReply *field, const redisReply *value) {
    char *end;
    unsigned long number = strtoul(field->str, &end, 10);
    if (*end != '\0' || number == 0 || number > UINT32_MAX) {
        log_warn("catalog.odd_field", "field=\"%.40s\"", field->str);
        return;
    }
    struct statements list;
    struct error why;
    struct slice sql = {.p = value->str, .n = value->len};
    int rc = model_sql_parse(sql, "Redis", &list, &why);
    if (rc != 0) {
        log_error("catalog.unreadable", "revision=%lu why=\"%s\"", number, why.text);
        return;
    }
    if (list.n == 1 && list.items[0].kind == STATEMENT_CREATE_MODEL) {
        struct model *model = list.items[0].model;
        list.items[0].model = NULL;
        struct revision *r = revision_new(model, (uint32_t)number);
        if (r != NULL) {
            install(need_entry(load->catalog, slice_of(r->model->name)), r);
            load->n_read++;
        }
    }
    statements_free(&list);
}

// The answer to one model's HGETALL needs its name.
struct loading_model {
    struct load *load;
    char *name;
};

static void on_model(void *arg, const redisReply *reply) {
    struct loading_model *one = arg;
    struct load *load = one->load;
    struct catalog *catalog = load->catalog;
    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY) {
        load->status = reply == NULL ? -EAGAIN : -EIO;
    }
    for (size_t i = 0; load->status == 0 && i + 1 < reply->elements; i += 2) {
        const redisReply *field = reply->element[i], *value = reply->element[i + 1];
        if (strcmp(field->str, "head") == 0) {
            need_entry(load->catalog, slice_of(one->name))->head = (uint32_t)strtoul(value->str, NULL, 10);
        } else {
            take_revision(load, field, value);
        }
    }
    free(one->name);
    free(one);
    load_step(load);
    answered(catalog);
}

static void on_names(void *arg, const redisReply *reply) {
    struct load *load = arg;
    struct catalog *catalog = load->catalog;
    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY) {
        load->status = reply == NULL ? -EAGAIN : -EIO;
    }
    for (size_t i = 0; load->status == 0 && i < reply->elements; i++) {
        char key[KEY_BYTES];
        struct slice name = {.p = reply->element[i]->str, .n = reply->element[i]->len};
        const struct slice args[] = {SLICE_LIT("HGETALL"), model_key(catalog, name, key)};
        struct loading_model *one = mem_zalloc(sizeof(*one));
        one->load = load;
        one->name = slice_dup(name);
        load->n_waiting++;
        catalog->n_asked++;
        redis_command(catalog->redis, on_model, one, 2, args);
    }
    load_step(load);
    answered(catalog);
}

void catalog_load(struct catalog *catalog, catalog_done *done, void *arg) {
    struct load *load = mem_zalloc(sizeof(*load));
    *load = (struct load){.catalog = catalog, .done = done, .arg = arg, .n_waiting = 1};
    char key[KEY_BYTES];
    const struct slice args[] = {SLICE_LIT("SMEMBERS"), names_key(catalog, key)};
    catalog->n_asked++;
    redis_command(catalog->redis, on_names, load, 2, args);
}

// ---- Create ------------------------------------------------------------------------------------

static void create_run(struct catalog *catalog);

static void create_end(struct create *create) {
    struct catalog *catalog = create->catalog;
    struct change *c, *next;
    LL_FOREACH_SAFE(create->changes, c, next) {
        if (create->status == 0) {
            struct model *model = c->revision->model;
            struct entry *e = need_entry(catalog, slice_of(model->name));
            e->head = model->revision;
            log_info("catalog.revision", "model=%s revision=%" PRIu32, e->name, e->head);
            install(e, c->revision);
        } else {
            revision_free(c->revision);
        }
        free(c);
    }
    DL_DELETE(catalog->creates, create);
    if (!catalog->closed) {
        create->done(create->arg, create->status, create->status == 0 ? create->n_changes : 0,
                     &create->why);
    }
    create_free(create);
    if (!catalog->closed) {
        create_run(catalog);
    }
}

static void on_put(void *arg, const redisReply *reply) {
    struct create *create = arg;
    struct catalog *catalog = create->catalog;
    if (create->status == 0 && reply == NULL) {
        create->status = error_set(&create->why, -EAGAIN,
                                   "models: Redis is away; give the statements again");
    } else if (create->status == 0 && reply->type == REDIS_REPLY_ERROR) {
        create->status = error_set(&create->why, -EBUSY,
                                   "models: Redis refused: %s; another coordinator may have changed "
                                   "the model at the same time", reply->str);
    }
    create->n_waiting--;
    if (create->n_waiting == 0) {
        create_end(create);
    }
    answered(catalog);
}

// newest finds the newest revision of a name, of those planned or those there. *head is its number,
// 0 when there is none; its statement is NULL when it could not be read.
static const char *newest(const struct create *create, struct slice name, uint32_t *head) {
    const struct change *c, *last = NULL;
    LL_FOREACH(create->changes, c) {
        if (slice_is(name, c->revision->model->name)) {
            last = c;
        }
    }
    if (last != NULL) {
        *head = last->revision->model->revision;
        return last->revision->sql;
    }
    const struct entry *e = find_entry(create->catalog, name);
    *head = e != NULL ? e->head : 0;
    const struct revision *r = e != NULL ? find_revision(e, e->head) : NULL;
    return r != NULL ? r->sql : NULL;
}

// plan decides what one statement changes.
static int plan(struct create *create, struct statement *s) {
    if (s->kind != STATEMENT_CREATE_MODEL) {
        return error_set(&create->why, -EINVAL, "line %d: got another statement, want CREATE MODEL",
                         s->line);
    }
    struct revision *r = revision_new(s->model, 0);
    s->model = NULL;
    if (r == NULL) {
        return error_set(&create->why, -EMSGSIZE, "line %d: the model is longer than %d bytes", s->line,
                         SQL_MAX_BYTES);
    }
    uint32_t head;
    const char *old = newest(create, slice_of(r->model->name), &head);
    bool is_same = old != NULL && strcmp(old, r->sql) == 0;
    if (is_same || (head > 0 && s->if_not_exists)) {
        revision_free(r);
        return 0;
    }
    if (head > 0 && !s->or_replace && !create->replace) {
        int rc = error_set(&create->why, -EEXIST,
                           "line %d: model '%s' is there already and differs, want CREATE OR REPLACE "
                           "MODEL to change it", s->line, r->model->name);
        revision_free(r);
        return rc;
    }
    r->model->revision = head + 1;
    struct change *c = mem_zalloc(sizeof(*c));
    c->revision = r;
    LL_APPEND(create->changes, c);
    create->n_changes++;
    return 0;
}

// find_planned finds the newest model of a name as it will be.
static const struct model *find_planned(void *arg, struct slice name) {
    const struct create *create = arg;
    const struct change *c;
    const struct model *found = catalog_find(create->catalog, name);
    LL_FOREACH(create->changes, c) {
        found = slice_is(name, c->revision->model->name) ? c->revision->model : found;
    }
    return found;
}

// check_fallbacks wants every new model's fallback.model to be there and to fit, and every new model to fit
// those that fall back on it.
static int check_fallbacks(struct create *create) {
    const struct change *c;
    int rc = 0;
    LL_FOREACH(create->changes, c) {
        rc = rc != 0 ? rc : model_check_chain(c->revision->model, find_planned, create, &create->why);
    }
    for (const struct entry *e = create->catalog->entries; rc == 0 && e != NULL; e = e->hh.next) {
        const struct model *model = find_planned(create, slice_of(e->name));
        LL_FOREACH(create->changes, c) {
            bool falls_back = model != NULL && strcmp(model->options.fallback_model, c->revision->model->name) == 0;
            if (rc == 0 && falls_back && model_check_fallback(model, c->revision->model, &create->why) != 0) {
                error_prefix(&create->why, "model '%s' falls back on it: ", model->name);
                rc = -EINVAL;
            }
        }
    }
    return rc;
}

static void put(struct create *create, const struct change *c) {
    char names[KEY_BYTES], key[KEY_BYTES], number[16];
    struct catalog *catalog = create->catalog;
    struct slice name = slice_of(c->revision->model->name);
    snprintf(number, sizeof(number), "%" PRIu32, c->revision->model->revision);
    const struct slice args[] = {names_key(catalog, names), model_key(catalog, name, key), name,
                                 slice_of(number), slice_of(c->revision->sql)};
    catalog->n_asked++;
    redis_script(catalog->redis, "model_put", on_put, create, 2, 5, args);
}

// create_run begins the next one that waits.
static void create_run(struct catalog *catalog) {
    struct create *create = catalog->creates;
    if (create == NULL || create->n_waiting > 0) {
        return;
    }
    struct statements list;
    create->status = model_sql_parse(create->sql, "models", &list, &create->why);
    for (size_t i = 0; create->status == 0 && i < list.n; i++) {
        create->status = plan(create, &list.items[i]);
    }
    create->status = create->status != 0 ? create->status : check_fallbacks(create);
    for (size_t i = 0; i < list.n_warnings; i++) {
        log_warn("model.warning", "why=\"%s\"", list.warnings[i]);
    }
    statements_free(&list);
    if (create->status != 0 || create->n_changes == 0) {
        create_end(create);
        return;
    }
    create->n_waiting = create->n_changes + 1; // one more: an answer may come before all were sent
    const struct change *c;
    LL_FOREACH(create->changes, c) {
        put(create, c);
    }
    create->n_waiting--;
    if (create->n_waiting == 0) {
        create_end(create);
    }
}

void catalog_create(struct catalog *catalog, struct slice sql, bool replace, catalog_done *done,
                    void *arg) {
    struct create *create = mem_zalloc(sizeof(*create));
    *create = (struct create){.catalog = catalog, .replace = replace, .done = done, .arg = arg};
    create->sql = (struct slice){.p = slice_dup(sql), .n = sql.n};
    bool is_first = catalog->creates == NULL;
    DL_APPEND(catalog->creates, create);
    if (is_first) {
        create_run(catalog);
    }
}

// ---- Look-up -----------------------------------------------------------------------------------

const struct model *catalog_find(const struct catalog *catalog, struct slice name) {
    const struct entry *e = find_entry(catalog, name);
    const struct revision *r = e != NULL ? find_revision(e, e->head) : NULL;
    return r != NULL ? r->model : NULL;
}

const struct model *catalog_revision(const struct catalog *catalog, struct slice name,
                                     uint32_t revision) {
    const struct entry *e = find_entry(catalog, name);
    const struct revision *r = e != NULL ? find_revision(e, revision) : NULL;
    return r != NULL ? r->model : NULL;
}

static int compare_names(const struct entry *a, const struct entry *b) {
    return strcmp(a->name, b->name);
}

void catalog_each(const struct catalog *catalog, void (*each)(void *arg, const struct model *model),
                  void *arg) {
    struct entry *entries = catalog->entries;
    HASH_SRT(hh, entries, compare_names);
    ((struct catalog *)catalog)->entries = entries; // sorting moves the head, nothing else
    for (const struct entry *e = entries; e != NULL; e = e->hh.next) {
        const struct revision *r = find_revision(e, e->head);
        if (r != NULL) {
            each(arg, r->model);
        }
    }
}
