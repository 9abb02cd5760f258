// The cache of model revisions. Invariant: an entry is complete (rc 0: a call can be made) or says
// why not; entries in use are never dropped. Called by receive.
#include "worker/held.h"

#include "common/json.h"
#include "common/mem.h"
#include "common/secrets.h"
#include "proto/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define URL_MAX 8192
#define HEADERS_MAX (64 * 1024) // bytes of all header lines of a call
#define OVERRIDES_MAX 64        // options that one submission may override

void held_init(struct held_cache *cache, const struct secrets *secrets, size_t most) {
    *cache = (struct held_cache){.secrets = secrets, .most = most};
}

// wipe overwrites credentials before their memory goes back.
static void wipe(char *p, size_t n) {
    if (p != NULL) {
        explicit_bzero(p, n);
    }
}

static void entry_free(struct held *held) {
    for (struct curl_slist *line = held->headers; line != NULL; line = line->next) {
        wipe(line->data, strlen(line->data));
    }
    curl_slist_free_all(held->headers);
    wipe(held->secret.p, held->secret.n);
    buf_free(&held->secret);
    buf_free(&held->url);
    prompt_plan_free(&held->plan);
    model_free(held->model);
    free(held->key);
    free(held);
}

void held_free(struct held_cache *cache) {
    struct held *held, *next;
    HASH_ITER(hh, cache->by_key, held, next) {
        HASH_DEL(cache->by_key, held);
        entry_free(held);
    }
}

// key_of joins what tells one entry from another; a name has no NUL.
static void key_of(struct slice name, uint32_t revision, struct slice overrides, struct buf *key) {
    buf_init(key, MODEL_NAME_MAX + 16 + 65536);
    int rc = buf_add_slice(key, name);
    rc = rc != 0 ? rc : buf_add_byte(key, '\0');
    rc = rc != 0 ? rc : buf_add(key, &revision, sizeof(revision));
    rc = rc != 0 ? rc : buf_add_slice(key, overrides);
    if (rc != 0) {
        buf_clear(key); // longer than the wire lets through
    }
}

static struct held *find(struct held_cache *cache, const struct buf *key) {
    struct held *held;
    HASH_FIND(hh, cache->by_key, key->p, key->n, held);
    if (held != NULL) {
        held->used = ++cache->used;
    }
    return held;
}

// drop_oldest makes room: entries that no call uses go, the longest unused first.
static void drop_oldest(struct held_cache *cache) {
    while (HASH_COUNT(cache->by_key) > cache->most) {
        struct held *oldest = NULL;
        for (struct held *h = cache->by_key; h != NULL; h = h->hh.next) {
            if (h->n_users == 0 && h->used != cache->used && (oldest == NULL || h->used < oldest->used)) {
                oldest = h;
            }
        }
        if (oldest == NULL) {
            return;
        }
        HASH_DEL(cache->by_key, oldest);
        entry_free(oldest);
    }
}

static struct held *entry_add(struct held_cache *cache, struct buf *key) {
    struct held *held = mem_zalloc(sizeof(*held));
    held->n_key = key->n;
    held->key = buf_take(key);
    held->used = ++cache->used;
    buf_init(&held->secret, 65536);
    buf_init(&held->url, URL_MAX);
    HASH_ADD_KEYPTR(hh, cache->by_key, held->key, held->n_key, held);
    drop_oldest(cache);
    return held;
}

// ---- What a call needs of a model ---------------------------------------------------------------

static int add_header(struct held *held, struct slice line, struct error *why) {
    for (size_t i = 0; i < line.n; i++) {
        if ((unsigned char)line.p[i] < 0x20 && line.p[i] != '\t') {
            return error_set(why, -EINVAL, "option 'headers': a header holds a control character");
        }
    }
    char *text = slice_dup(line);
    struct curl_slist *more = curl_slist_append(held->headers, text);
    wipe(text, line.n);
    free(text);
    if (more == NULL) {
        return error_set(why, -EINVAL, "option 'headers': no memory");
    }
    held->headers = more;
    return 0;
}

// add_lines splits expanded header lines.
static int add_lines(struct held *held, struct slice lines, struct error *why) {
    int rc = 0;
    while (rc == 0 && lines.n > 0) {
        const char *end = memchr(lines.p, '\n', lines.n);
        size_t n = end != NULL ? (size_t)(end - lines.p) : lines.n;
        rc = add_header(held, slice_sub(lines, 0, n), why);
        lines = slice_sub(lines, n + 1, lines.n);
    }
    return rc;
}

// write_own_headers appends option 'headers', a JSON object of strings, as lines.
static int write_own_headers(const struct model *model, struct buf *lines, struct error *why) {
    if (model->options.headers[0] == '\0') {
        return 0;
    }
    struct json_object *json = NULL;
    int rc = json_parse(slice_of(model->options.headers), &json, why);
    if (rc == 0 && !json_object_is_type(json, json_type_object)) {
        rc = error_set(why, -EINVAL, "got no object");
    }
    if (rc == 0) {
        json_object_object_foreach(json, name, value) {
            struct slice text = json_text(value);
            if (rc == 0 && (memchr(text.p, '\n', text.n) != NULL || strpbrk(name, ":\r\n") != NULL)) {
                rc = error_set(why, -EINVAL, "header '%.64s' holds a line break", name);
            }
            rc = rc != 0 ? rc : buf_addf(lines, "%s: %.*s\n", name, SLICE_FMT(text));
        }
    }
    json_object_put(json);
    if (rc != 0) {
        error_prefix(why, "option 'headers': ");
    }
    return rc;
}

static int fill_headers(struct held_cache *cache, struct held *held, struct error *why) {
    struct buf lines, full;
    buf_init(&lines, HEADERS_MAX);
    buf_init(&full, HEADERS_MAX);
    // An empty Expect: keeps curl from waiting a second before a large body.
    int rc = buf_add_str(&lines, "Expect:\nContent-Type: application/json\nAccept: application/json\n");
    rc = rc != 0 ? rc : held->provider->headers(held->model, &lines);
    rc = rc != 0 ? rc : write_own_headers(held->model, &lines, why);
    // Credentials are filled in line by line: a value cannot begin a line of its own.
    struct slice rest = buf_slice(&lines);
    while (rc == 0 && rest.n > 0) {
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t n = end != NULL ? (size_t)(end - rest.p) : rest.n;
        rc = secrets_expand(cache->secrets, slice_sub(rest, 0, n), &full, why);
        rc = rc != 0 ? rc : buf_add_byte(&full, '\n');
        rest = slice_sub(rest, n + 1, rest.n);
    }
    rc = rc != 0 ? rc
                 : secrets_expand(cache->secrets, slice_of(held->model->options.api_key),
                                  &held->secret, why);
    rc = rc != 0 ? rc : add_lines(held, buf_slice(&full), why);
    if (rc == -EMSGSIZE) {
        error_set(why, rc, "option 'headers': the headers are longer than %d bytes", HEADERS_MAX);
    }
    rc = rc == -ENOENT ? -ENOKEY : rc; // as secrets_expand says it
    wipe(full.p, full.n);
    buf_free(&full);
    buf_free(&lines);
    return rc;
}

// complete fills in everything that follows from the model, which the entry owns already.
static void complete(struct held_cache *cache, struct held *held) {
    held->provider = provider_of(held->model);
    held->dialect = provider_dialect(held->model);
    held->schema = provider_schema(held->model);
    int rc = provider_url(held->model, &held->url);
    if (rc != 0) {
        error_set(&held->why, rc, "option 'endpoint': the URL is longer than %d bytes", URL_MAX);
    }
    rc = rc != 0 ? rc : prompt_plan_make(held->model, &held->plan, &held->why);
    rc = rc != 0 ? rc : fill_headers(cache, held, &held->why);
    held->rc = rc == 0 || rc == -ENOKEY ? rc : -EINVAL;
}

void held_add(struct held_cache *cache, struct slice name, uint32_t revision, struct slice sql) {
    struct buf key;
    key_of(name, revision, SLICE_NONE, &key);
    if (find(cache, &key) != NULL) {
        buf_free(&key);
        return;
    }
    struct held *held = entry_add(cache, &key);
    if (sql.n == 0) {
        held->rc = error_set(&held->why, -ENOENT, "model '%.*s' has no revision %u", SLICE_FMT(name),
                             (unsigned)revision);
        return;
    }
    struct statements list = {0};
    if (model_sql_parse(sql, "model", &list, &held->why) != 0) {
        held->rc = -EINVAL;
        return;
    }
    if (list.n != 1 || list.items[0].model == NULL || !slice_is(name, list.items[0].model->name)) {
        held->rc = error_set(&held->why, -EINVAL, "the coordinator sent another model than '%.*s'",
                             SLICE_FMT(name));
    } else {
        held->model = list.items[0].model;
        list.items[0].model = NULL;
        held->model->revision = revision;
        complete(cache, held);
    }
    statements_free(&list);
}

// override_model makes the model of a submission with overrides, or NULL with why.
static struct model *override_model(const struct model *model, struct slice overrides,
                                    struct error *why) {
    struct model_setting settings[OVERRIDES_MAX] = {0};
    size_t n = 0;
    int rc;
    struct slice name, value;
    while ((rc = options_get(overrides, n, &name, &value)) == 1 && n < OVERRIDES_MAX) {
        settings[n].name = slice_dup(name);
        settings[n].value = slice_dup(value);
        n++;
    }
    struct model *made = NULL;
    if (rc != 0) {
        error_set(why, -EINVAL, "overrides: not a map of at most %d options", OVERRIDES_MAX);
    } else {
        made = model_override(model, settings, n, why);
    }
    for (size_t i = 0; i < n; i++) {
        free(settings[i].name);
        free(settings[i].value);
    }
    return made;
}

int held_take(struct held_cache *cache, struct slice name, uint32_t revision, struct slice overrides,
              struct held **out, struct error *why) {
    struct buf key;
    key_of(name, revision, overrides, &key);
    struct held *held = find(cache, &key);
    if (held == NULL && overrides.n > 0) {
        struct buf base_key;
        key_of(name, revision, SLICE_NONE, &base_key);
        struct held *base = find(cache, &base_key);
        buf_free(&base_key);
        if (base != NULL && base->model == NULL) {
            held = base; // says why not
        } else if (base != NULL) {
            struct error made_why = {0};
            struct model *model = override_model(base->model, overrides, &made_why);
            held = entry_add(cache, &key); // base may be gone now
            held->model = model;
            held->why = made_why;
            held->rc = -EINVAL;
            if (model != NULL) {
                complete(cache, held);
            }
        }
    }
    buf_free(&key);
    if (held == NULL) {
        return -EAGAIN;
    }
    if (held->rc != 0) {
        return error_set(why, held->rc, "%s", held->why.text);
    }
    held->n_users++;
    *out = held;
    return 0;
}

void held_give(struct held **held) {
    if (*held != NULL) {
        (*held)->n_users--;
        *held = NULL;
    }
}

void held_mask(const struct held *held, char *text) {
    if (held->secret.n < 4) {
        return; // stars for so little would hide nothing and spoil the sentence
    }
    for (char *at; (at = strstr(text, held->secret.p)) != NULL;) {
        memset(at, '*', 3);
        memmove(at + 3, at + held->secret.n, strlen(at + held->secret.n) + 1);
    }
}
