// providers: what is known of each provider without calling it: names, addresses, tasks, what a model
// must say. The facts of providers.def.
#ifndef HEADRACE_COMMON_PROVIDERS_H
#define HEADRACE_COMMON_PROVIDERS_H

#include "common/bytes.h"

struct model;

enum provider_id {
#define PROVIDER(ID, name, text, host, root, tokens, own) PROVIDER_##ID,
#define API(ID, KIND, path, tasks, schema, images, inputs)
#include "common/providers.def"
#undef PROVIDER
#undef API
    N_PROVIDERS
};

// The forms of requests and answers there are; several providers may speak the same one.
enum api_kind {
    API_CHAT,       // OpenAI chat completions
    API_RESPONSES,  // OpenAI responses
    API_EMBEDDINGS, // OpenAI embeddings
    API_MESSAGES,   // Anthropic messages
    API_TENSORS,    // Open Inference Protocol v2
    API_TEMPLATE,   // JSON made from option 'request.template'
    API_GENERATE,   // Gemini generateContent
    API_BATCH_EMBED, // Gemini batchEmbedContents
    N_APIS
};

enum api_tasks { API_TASKS_TEXT = 1, API_TASKS_VECTORS = 2, API_TASKS_TENSORS = 4 };
enum api_schema { API_SCHEMA_NEVER, API_SCHEMA_ASKED, API_SCHEMA_OWN, API_SCHEMA_ALWAYS };
enum api_images { API_IMAGES_NO, API_IMAGES_DATA, API_IMAGES_ASKED, API_IMAGES_LINK };
enum api_tokens { API_TOKENS_FREE, API_TOKENS_NEEDED };

struct provider_facts {
    enum provider_id id;
    const char *name; // as in option 'provider'
    const char *host; // "https://..." or ""
    const char *root; // "/v1"
    enum api_tokens tokens;
    const char *own;  // host or ""
};

struct provider_api {
    enum provider_id provider;
    enum api_kind kind;
    const char *path;
    unsigned tasks; // enum api_tasks, or-ed
    enum api_schema schema;
    enum api_images images;
    size_t inputs;  // 0: no limit
};

// What a provider takes of images: a row of images.def.
struct provider_images {
    unsigned kinds; // IMAGE_BIT of each
    size_t most;    // of one call; 0: no bound
    size_t bytes;   // of one in base64; 0: no bound
    uint32_t side;  // pixels; 0: no bound
    size_t body;    // bytes of a request; 0: no bound
};

// provider_images_of returns a provider's row; one of zeros when it has none.
const struct provider_images *provider_images_of(enum provider_id id);

// provider_facts_of returns a provider's row.
const struct provider_facts *provider_facts_of(enum provider_id id);
// provider_facts_find looks a name up as a user writes it, or returns NULL.
const struct provider_facts *provider_facts_find(struct slice name);

// provider_api_find picks the API that a model's calls go to: the one whose path ends the endpoint, or
// else the first that does the task.
//   endpoint  option 'endpoint', may be ""
//   tasks     enum api_tasks, or-ed: any of them
// Returns NULL when the provider has no API for the task, or *named is true and the API that the
// endpoint names does not do it.
const struct provider_api *provider_api_find(enum provider_id id, const char *endpoint, unsigned tasks,
                                             bool *named);

// provider_url appends the URL that a checked model's calls go to. An endpoint that is a bare host, or
// ends in a version (/v1), in /openai, in /deployments/NAME or in what the API's path begins with
// (/models) is a base: the rest of the API's path is put behind it, before a query. Any other endpoint
// is taken as it is. Returns 0 or -EMSGSIZE.
MUST_CHECK int provider_url(const struct model *model, struct buf *out);

// provider_host borrows the host of a URL, without port and credentials.
struct slice provider_host(const char *url);
// provider_is_own says whether a checked model's calls go to the provider's own host.
bool provider_is_own(const struct model *model);
// provider_is_azure says whether they go to Azure: by the provider's name, or by the endpoint's host.
bool provider_is_azure(const struct model *model);

// provider_takes_links says whether a checked model's records may name images by URL: image.links, and
// with 'auto' where the provider's own host fetches them.
bool provider_takes_links(const struct model *model);

// provider_names appends the names of all providers with ", " between. Returns 0 or -EMSGSIZE.
MUST_CHECK int provider_names(struct buf *out);

#endif
