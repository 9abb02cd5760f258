// The facts of providers.def, and the URLs that follow from them. Invariant: the rows of a provider's
// APIs stand in the order of the table, so the first that fits is the usual one. Called by the check
// of a model and by the worker.
#include "common/providers.h"

#include "common/image.h"
#include "common/model.h"

#include <ctype.h>
#include <string.h>

static const struct provider_facts facts[N_PROVIDERS] = {
#define PROVIDER(ID_, name_, text_, host_, root_, tokens_, own_)                                   \
    [PROVIDER_##ID_] = {.id = PROVIDER_##ID_, .name = text_, .host = host_, .root = root_,         \
                        .tokens = API_TOKENS_##tokens_, .own = own_},
#define API(ID, KIND, path, tasks, schema, images, inputs)
#include "common/providers.def"
#undef PROVIDER
#undef API
};

static const struct provider_api apis[] = {
#define PROVIDER(ID, name, text, host, root, tokens, own)
#define API(ID_, KIND_, path_, tasks_, schema_, images_, inputs_)                                  \
    {.provider = PROVIDER_##ID_, .kind = API_##KIND_, .path = path_, .tasks = API_TASKS_##tasks_,  \
     .schema = API_SCHEMA_##schema_, .images = API_IMAGES_##images_, .inputs = inputs_},
#include "common/providers.def"
#undef PROVIDER
#undef API
};
#define N_ROWS (sizeof(apis) / sizeof(apis[0]))

enum {
    PNG = IMAGE_BIT(IMAGE_PNG),
    JPEG = IMAGE_BIT(IMAGE_JPEG),
    GIF = IMAGE_BIT(IMAGE_GIF),
    WEBP = IMAGE_BIT(IMAGE_WEBP),
};
static const struct provider_images images[N_PROVIDERS] = {
#define IMAGES(ID_, kinds_, most_, bytes_, side_, body_)                                           \
    [PROVIDER_##ID_] = {.kinds = kinds_, .most = most_, .bytes = bytes_, .side = side_, .body = body_},
#include "common/images.def"
#undef IMAGES
};

const struct provider_images *provider_images_of(enum provider_id id) {
    return &images[id];
}

const struct provider_facts *provider_facts_of(enum provider_id id) {
    return &facts[id];
}

// is_same_name compares letters and digits alone: 'llama.cpp', 'LlamaCpp' and 'llama-cpp' are one.
static bool is_same_name(struct slice a, const char *b) {
    size_t i = 0;
    for (;;) {
        while (i < a.n && strchr(".-_ ", a.p[i]) != NULL && a.p[i] != '\0') {
            i++;
        }
        while (*b != '\0' && !isalnum((unsigned char)*b)) {
            b++;
        }
        if (i == a.n || *b == '\0') {
            return i == a.n && *b == '\0';
        }
        if (tolower((unsigned char)a.p[i++]) != tolower((unsigned char)*b++)) {
            return false;
        }
    }
}

const struct provider_facts *provider_facts_find(struct slice name) {
    for (size_t i = 0; i < N_PROVIDERS; i++) {
        if (is_same_name(name, facts[i].name)) {
            return &facts[i];
        }
    }
    return NULL;
}

int provider_names(struct buf *out) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < N_PROVIDERS; i++) {
        rc = buf_addf(out, "%s%s", i > 0 ? ", " : "", facts[i].name);
    }
    return rc;
}

// ---- Addresses ----------------------------------------------------------------------------------

struct slice provider_host(const char *url) {
    const char *from = strstr(url, "://");
    from = from != NULL ? from + 3 : url;
    struct slice host = {.p = from, .n = strcspn(from, "/?#")};
    const char *at = memrchr(host.p, '@', host.n);
    if (at != NULL) {
        host = slice_sub(host, (size_t)(at + 1 - host.p), host.n);
    }
    if (slice_starts(host, "[")) { // an IPv6 address, colons and all
        const char *end = memchr(host.p, ']', host.n);
        return end != NULL ? slice_sub(host, 1, (size_t)(end - host.p) - 1) : host;
    }
    const char *colon = memchr(host.p, ':', host.n);
    return colon != NULL ? slice_sub(host, 0, (size_t)(colon - host.p)) : host;
}

// A URL in three parts, borrowed: http://h:1 | /v1/x | ?a=b
struct url_parts {
    struct slice site, path, query;
};

static struct url_parts parts_of(const char *url) {
    const char *from = strstr(url, "://");
    from = from != NULL ? from + 3 : url;
    const char *path = from + strcspn(from, "/?#"), *query = path + strcspn(path, "?#");
    return (struct url_parts){
        .site = {.p = url, .n = (size_t)(path - url)},
        .path = {.p = path, .n = (size_t)(query - path)},
        .query = slice_of(query),
    };
}

static bool ends_with(struct slice text, const char *end) {
    size_t n = strlen(end);
    return text.n >= n && slice_is(slice_sub(text, text.n - n, n), end);
}

// api_end is what only this API's URLs end in: what follows {model} and {version}, or the whole path.
static const char *api_end(const struct provider_api *api) {
    const char *end = strrchr(api->path, '}');
    return end != NULL && end[1] != '\0' ? end + 1 : api->path;
}

const struct provider_api *provider_api_find(enum provider_id id, const char *endpoint, unsigned tasks,
                                             bool *named) {
    struct slice path = parts_of(endpoint).path;
    const struct provider_api *usual = NULL;
    *named = false;
    for (size_t i = 0; i < N_ROWS; i++) {
        if (apis[i].provider != id) {
            continue;
        }
        if (api_end(&apis[i])[0] != '\0' && ends_with(path, api_end(&apis[i]))) {
            *named = true;
            return (apis[i].tasks & tasks) != 0 ? &apis[i] : NULL;
        }
        if (usual == NULL && (apis[i].tasks & tasks) != 0) {
            usual = &apis[i];
        }
    }
    return usual;
}

// cut_segment takes the last segment off a path.
static struct slice cut_segment(struct slice *path) {
    const char *slash = memrchr(path->p, '/', path->n);
    size_t at = slash != NULL ? (size_t)(slash - path->p) : 0;
    struct slice segment = slash != NULL ? slice_sub(*path, at + 1, path->n) : *path;
    path->n = at;
    return segment;
}

static bool is_version(struct slice segment) {
    return segment.n >= 2 && segment.p[0] == 'v' && isdigit((unsigned char)segment.p[1]);
}

// missing_path says what to put behind a base path, as prefix and rest; false: path is no base.
static bool missing_path(const struct provider_facts *f, const struct provider_api *api,
                         struct slice path, const char **prefix, const char **rest) {
    *prefix = "";
    *rest = api->path;
    if (path.n == 0) {
        *prefix = f->root;
        return true;
    }
    struct slice before = path, last = cut_segment(&before);
    struct slice above = before, above_last = cut_segment(&above);
    if (slice_is(last, "openai") && f->root[0] != '\0') {
        *prefix = is_version(above_last) ? "" : "/v1";
        return true;
    }
    if (is_version(last) || slice_is(above_last, "deployments")) {
        return true;
    }
    if (api->path[0] == '/' && last.n > 0 && strncmp(api->path + 1, last.p, last.n) == 0 &&
        api->path[last.n + 1] == '/') {
        *rest = api->path + last.n + 1;
        return true;
    }
    return false;
}

// add_escaped appends a name as one segment of a path. Source: RFC 3986, section 2.3.
static int add_escaped(struct buf *out, struct slice name) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        rc = isalnum(c) || strchr("-._~", c) != NULL ? buf_add_byte(out, (char)c)
                                                     : buf_addf(out, "%%%02X", c);
    }
    return rc;
}

static int add_version(struct buf *out, const char *version) {
    int rc = version[0] != '\0' ? buf_add_str(out, "/versions/") : 0;
    return rc != 0 ? rc : add_escaped(out, slice_of(version));
}

static int add_path(struct buf *out, const char *path, const struct model_options *options) {
    const char *at = strstr(path, "{model}");
    if (at == NULL) {
        return buf_add_str(out, path);
    }
    struct slice model = slice_of(options->model), rest = slice_of(at + strlen("{model}"));
    if (slice_starts(model, "models/")) {
        model = slice_sub(model, strlen("models/"), model.n);
    }
    int rc = buf_add(out, path, (size_t)(at - path));
    rc = rc != 0 ? rc : add_escaped(out, model);
    if (rc == 0 && slice_starts(rest, "{version}")) {
        rest = slice_sub(rest, strlen("{version}"), rest.n);
        rc = add_version(out, options->tensor_version);
    }
    return rc != 0 ? rc : buf_add_slice(out, rest);
}

int provider_url(const struct model *model, struct buf *out) {
    const struct provider_facts *f = model->provider;
    const char *endpoint = model->options.endpoint;
    struct url_parts url = parts_of(endpoint[0] != '\0' ? endpoint : f->host);
    struct slice path = url.path;
    while (path.n > 0 && path.p[path.n - 1] == '/') {
        path.n--;
    }
    const char *prefix, *rest;
    if (model->api->path[0] == '\0' || !missing_path(f, model->api, path, &prefix, &rest)) {
        return buf_add_str(out, endpoint);
    }
    int rc = buf_add_slice(out, url.site);
    rc = rc != 0 ? rc : buf_add_slice(out, path);
    rc = rc != 0 ? rc : buf_add_str(out, prefix);
    rc = rc != 0 ? rc : add_path(out, rest, &model->options);
    return rc != 0 ? rc : buf_add_slice(out, url.query);
}

bool provider_is_own(const struct model *model) {
    const char *endpoint = model->options.endpoint, *own = model->provider->own;
    return own[0] != '\0' && (endpoint[0] == '\0' || slice_is_nocase(provider_host(endpoint), own));
}

bool provider_is_azure(const struct model *model) {
    static const char tail[] = ".openai.azure.com";
    struct slice host = provider_host(model->options.endpoint);
    size_t n = sizeof(tail) - 1;
    return model->provider->id == PROVIDER_AZURE_OPENAI ||
           (host.n > n && slice_is_nocase(slice_sub(host, host.n - n, n), tail));
}

bool provider_takes_links(const struct model *model) {
    if (model->api->images != API_IMAGES_LINK || model->options.image_links != IMAGE_LINKS_AUTO) {
        return model->api->images >= API_IMAGES_ASKED && model->options.image_links == IMAGE_LINKS_ON;
    }
    return model->provider->own[0] == '\0' || provider_is_own(model);
}
