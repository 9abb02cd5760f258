// What the subcommands share before anything starts. Called by all of them.
#include "client/setup.h"

#include "common/mem.h"
#include "proto/record.h"

#include <errno.h>
#include <fcntl.h>
#include <msgpack.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SQL_MAX (1024 * 1024)

int client_say(int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("headrace: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

char *setup_read_file(const char *file, size_t max, size_t *n, struct error *why) {
    int fd = strcmp(file, "-") == 0 ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    struct buf text;
    buf_init(&text, max + 4096);
    ssize_t got = fd < 0 ? -1 : 1;
    while (got > 0 && text.n <= max && buf_reserve(&text, 4096) == 0) {
        got = read(fd, text.p + text.n, 4096);
        text.n += got > 0 ? (size_t)got : 0;
    }
    int code = errno;
    if (fd > STDIN_FILENO) {
        close(fd);
    }
    if (got < 0) {
        error_set(why, -code, "cannot read '%s': %s", file, strerror(code));
    } else if (text.n > max) {
        error_set(why, -EMSGSIZE, "'%s' is longer than %zu bytes", file, max);
        got = -1;
    }
    if (got < 0 || buf_add_str(&text, "") < 0) {
        buf_free(&text);
        return NULL;
    }
    *n = text.n;
    char *bytes = buf_take(&text);
    return bytes != NULL ? bytes : mem_dup_str("");
}

int setup_load_models(const char *file, struct statements *list, struct error *why) {
    size_t n = 0;
    char *text = setup_read_file(file, SQL_MAX, &n, why);
    if (text == NULL) {
        return -EINVAL;
    }
    int status = model_sql_parse((struct slice){text, n}, file, list, why);
    free(text);
    for (size_t i = 0; i < list->n_warnings; i++) {
        client_say(0, "warning: %s", list->warnings[i]);
    }
    return status;
}

const struct model *setup_find_model(const struct statements *list, const char *file,
                                     const char *name, struct error *why) {
    struct buf names;
    buf_init(&names, 600);
    int full = 0;
    for (size_t i = list->n; i > 0; i--) {
        const struct model *model = list->items[i - 1].model;
        if (model != NULL && strcmp(model->name, name) == 0) {
            buf_free(&names);
            return model;
        }
        full = full || model == NULL ||
               buf_addf(&names, "%s%s", names.n > 0 ? ", " : "", model->name) < 0;
    }
    error_set(why, -ENOENT, "%s: got no model '%s', want one of those it creates: %s%s", file, name,
              names.n > 0 ? names.p : "none", full ? ", ..." : "");
    buf_free(&names);
    return NULL;
}

static const struct model *find_in_list(void *arg, struct slice name) {
    const struct statements *list = arg;
    for (size_t i = list->n; i > 0; i--) {
        const struct model *model = list->items[i - 1].model;
        if (model != NULL && slice_is(name, model->name)) {
            return model;
        }
    }
    return NULL;
}

int setup_chain(const struct statements *list, const struct model *model,
                const struct model *chain[MODEL_CHAIN_MAX], struct error *why) {
    int status = model_check_chain(model, find_in_list, (void *)list, why), n = 0;
    for (const char *next = model->options.fallback_model; status == 0 && next[0] != '\0'; n++) {
        chain[n] = find_in_list((void *)list, slice_of(next));
        next = chain[n]->options.fallback_model;
    }
    return status == 0 ? n : status;
}

int setup_overrides(const struct option_list *list, struct model_setting **settings,
                    struct error *why) {
    struct model_setting *made = mem_zalloc((list->n + 1) * sizeof(*made));
    for (size_t i = 0; i < list->n; i++) {
        const char *text = list->items[i];
        const char *equals = strchr(text, '=');
        if (equals == NULL || equals == text) {
            setup_free_overrides(made, i);
            return error_set(why, -EINVAL, "--set: got '%s', want OPTION=VALUE", text);
        }
        made[i].name = mem_dup(text, (size_t)(equals - text));
        made[i].value = mem_dup_str(equals + 1);
    }
    *settings = made;
    return 0;
}

void setup_free_overrides(struct model_setting *settings, size_t n) {
    for (size_t i = 0; settings != NULL && i < n; i++) {
        free(settings[i].name);
        free(settings[i].value);
    }
    free(settings);
}

int setup_budget(struct model_setting **settings, size_t n, const char *usd, const char *name,
                 struct error *why) {
    if (*usd == '\0') {
        return (int)n;
    }
    char *end;
    double amount = strtod(usd, &end);
    if (strspn(usd, "0123456789.") != strlen(usd) || *end != '\0' || amount < 0 || amount > 1000000) {
        return error_set(why, -EINVAL, "--budget-usd: got '%s', want USD, 0 to 1000000", usd);
    }
    *settings = mem_realloc(*settings, (n + 2) * sizeof(**settings));
    (*settings)[n] = (struct model_setting){.name = mem_dup_str("budget.usd"), .value = mem_dup_str(usd)};
    (*settings)[n + 1] = (struct model_setting){.name = mem_dup_str("budget.name"),
                                                .value = mem_dup_str(name)};
    return (int)n + 2;
}

static int add_text(struct buf *out, const char *text) {
    msgpack_sbuffer buffer;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer packer;
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    size_t n = strlen(text);
    msgpack_pack_str(&packer, n);
    msgpack_pack_str_body(&packer, text, n);
    int status = buf_add(out, buffer.data, buffer.size);
    msgpack_sbuffer_destroy(&buffer);
    return status;
}

// is_last says whether no later setting has the same name: the last one wins.
static bool is_last(const struct model_setting *settings, size_t n, size_t i) {
    for (size_t j = i + 1; j < n; j++) {
        if (strcmp(settings[i].name, settings[j].name) == 0) {
            return false;
        }
    }
    return true;
}

int setup_pack_overrides(const struct model_setting *settings, size_t n, struct buf *out,
                         struct error *why) {
    if (n == 0) {
        return 0;
    }
    size_t count = 0;
    struct buf map;
    buf_init(&map, 64 * 1024);
    for (size_t i = 0; i < n; i++) {
        count += is_last(settings, n, i);
    }
    // map 16: the head that takes any count
    char head[3] = {(char)0xde, (char)(count >> 8), (char)count};
    int status = buf_add(&map, head, sizeof(head));
    for (size_t i = 0; status == 0 && i < n; i++) {
        if (is_last(settings, n, i)) {
            status = add_text(&map, settings[i].name);
            status = status ? status : add_text(&map, settings[i].value);
        }
    }
    if (status == 0) {
        status = options_canonical(buf_slice(&map), out, why);
    } else {
        error_set(why, status, "--set: more than 64 KiB of options");
    }
    buf_free(&map);
    return status;
}
