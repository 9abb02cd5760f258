// A model's INPUT columns of IMAGE against its provider. Invariant: after this, an image that a record
// brings has a place in the request. Called by model_check, after templates were compiled.
#include "common/model_parts.h"

#include "common/providers.h"
#include "common/template.h"

#include <errno.h>

static const struct column *first_image(const struct model *model) {
    for (size_t i = 0; i < model->n_input; i++) {
        if (model->input[i].type == TYPE_IMAGE) {
            return &model->input[i];
        }
    }
    return NULL;
}

// Options that mean nothing without an image.
static int check_no_options(const struct model *model, int *line, struct error *why) {
    static const char *const options[] = {"image.links", "image.detail"};
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (model_setting_of(model, options[i]) != NULL) {
            return error_set(why, model_blame(model, options[i], line),
                             "option '%s': given, want it left out: no INPUT column is IMAGE", options[i]);
        }
    }
    return 0;
}

// instead_of says what to do with an API that takes no images.
static const char *instead_of(enum api_kind kind) {
    switch (kind) {
    case API_TENSORS:
        return "a JSON tensor holds no bytes: want an ARRAY of the pixels, or a STRING of base64 where the "
               "model decodes it";
    case API_TEMPLATE:
        return "request.template places texts alone: want a STRING of base64 or of a URL";
    default:
        return "it makes vectors of text alone";
    }
}

static int check_api(const struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    const struct provider_images *images = provider_images_of(model->provider->id);
    size_t most = (size_t)o->batch_size * model->n_images;
    bool has_detail = model->provider->id == PROVIDER_OPENAI || model->provider->id == PROVIDER_AZURE_OPENAI;
    if (model->api->images == API_IMAGES_NO) {
        return error_set(why, -EINVAL, "INPUT: column '%.60s' is IMAGE, which this API of %s does not take: %s",
                         first_image(model)->name, model->provider->name, instead_of(model->api->kind));
    }
    if (images->most > 0 && most > images->most) {
        return error_set(why, model_blame(model, "batch.size", line),
                         "option 'batch.size': got %lld, want at most %zu: %s takes %zu images in a call",
                         (long long)o->batch_size, images->most / model->n_images, model->provider->name,
                         images->most);
    }
    if (o->image_links == IMAGE_LINKS_ON && model->api->images == API_IMAGES_DATA) {
        return error_set(why, model_blame(model, "image.links", line),
                         "option 'image.links': got 'on', want 'auto' or 'off': %s takes no links",
                         model->provider->name);
    }
    if (o->image_detail != IMAGE_DETAIL_AUTO && !has_detail) {
        return error_set(why, model_blame(model, "image.detail", line),
                         "option 'image.detail': given, want it left out: only openai and azure-openai have it");
    }
    return 0;
}

// What a template names.
struct names {
    const struct model *model;
    bool is_named[MODEL_COLUMNS_MAX];
    bool has_column, has_records;
};

static void on_name(void *arg, struct slice name, bool inside) {
    struct names *names = arg;
    int i = model_input_index(names->model, name);
    if (i >= 0) {
        names->is_named[i] = names->has_column = true;
    }
    names->has_records |= slice_is(name, "records");
}

static int check_template(const struct model *model, const char *option, const struct template *t, int *line,
                          struct error *why) {
    struct names names = {.model = model};
    bool is_system = t == model->system_template;
    if (t == NULL) {
        return 0;
    }
    template_walk(t, "records", on_name, &names);
    if (is_system && names.has_records) {
        return error_set(why, model_blame(model, option, line),
                         "option '%s': got '{{records}}' with the IMAGE '%.60s', want it in the prompt: a system "
                         "message is text alone",
                         option, first_image(model)->name);
    }
    for (size_t i = 0; i < model->n_input; i++) {
        bool is_image = model->input[i].type == TYPE_IMAGE;
        if (is_image && is_system && names.is_named[i]) {
            return error_set(why, model_blame(model, option, line),
                             "option '%s': got '{{%.60s}}', which is an IMAGE, want it in the prompt: a system "
                             "message is text alone",
                             option, model->input[i].name);
        }
        if (is_image && !is_system && names.has_column && !names.is_named[i]) {
            return error_set(why, model_blame(model, option, line),
                             "option '%s': names columns, but not the IMAGE '%.60s', want {{%.60s}} in it: an "
                             "image without a place would not be sent",
                             option, model->input[i].name, model->input[i].name);
        }
    }
    return 0;
}

int model_check_images(struct model *model, int *line, struct error *why) {
    model->n_images = 0;
    for (size_t i = 0; i < model->n_input; i++) {
        model->n_images += model->input[i].type == TYPE_IMAGE;
    }
    if (model->n_images == 0) {
        return check_no_options(model, line, why);
    }
    bool batched = model->options.batch_size > 1;
    int rc = check_api(model, line, why);
    rc = rc != 0 ? rc : check_template(model, "system.prompt", model->system_template, line, why);
    return rc != 0    ? rc
           : batched ? check_template(model, "batch.prompt.template", model->batch_template, line, why)
                     : check_template(model, "prompt.template", model->prompt_template, line, why);
}
