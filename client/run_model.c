// The model of `headrace run`: found in the user's file, with the overrides of --set and the budget, as
// statements for the coordinator. Invariant: a model whose secrets or prices are missing is refused here,
// before anything starts. Called by run.c.
#include "client/run_model.h"

#include "common/mem.h"
#include "common/secrets.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define SQL_MAX (1024 * 1024)
#define BUDGET_NAME "run"

static int add_secret(void *arg, struct slice name) {
    struct run *run = arg;
    size_t n = run->n_secret_names;
    run->secret_names = mem_realloc(run->secret_names, (n + 1) * sizeof(*run->secret_names));
    run->secret_names[n] = slice_dup(name);
    run->n_secret_names++;
    return 0;
}

// check_secrets makes sure that the workers will find every ${NAME} of the run's models.
static int check_secrets(struct run *run, struct error *why) {
    struct secrets *secrets = secrets_load(run->options.secrets, why);
    if (secrets == NULL) {
        return -EINVAL;
    }
    const struct model *chain[MODEL_CHAIN_MAX];
    int n = setup_chain(&run->statements, run->model, chain, why);
    int status = n < 0 ? n : model_secrets(run->model, add_secret, run);
    for (int i = 0; status == 0 && i < n; i++) {
        status = model_secrets(chain[i], add_secret, run);
    }
    for (size_t i = 0; status == 0 && i < run->n_secret_names; i++) {
        const char *name = run->secret_names[i];
        if (!secrets_has(secrets, slice_of(name))) {
            status = error_set(why, -ENOENT,
                               "model '%s' needs ${%s}, which is neither in the environment nor in a "
                               "secrets file: export %s=... or say --secrets FILE",
                               run->model->name, name, name);
        }
    }
    secrets_free(secrets);
    return status;
}

// add_create adds a statement for the coordinator: it replaces what a state folder holds.
static int add_create(struct buf *out, const struct model *model) {
    static const char plain[] = "CREATE MODEL", replace[] = "CREATE OR REPLACE MODEL";
    struct buf sql;
    buf_init(&sql, SQL_MAX);
    int status = model_to_sql(model, &sql);
    bool is_plain = status == 0 && slice_starts(buf_slice(&sql), plain);
    struct slice rest = buf_slice(&sql);
    if (is_plain) {
        status = buf_add_str(out, replace);
        rest = slice_sub(rest, strlen(plain), rest.n);
    }
    status = status ? status : buf_add_slice(out, rest);
    buf_free(&sql);
    return status;
}

// make_create writes the statements of a model and of those that may be asked instead, also by --set.
static int make_create(struct run *run, const struct model *model, struct error *why) {
    const struct model *chain[MODEL_CHAIN_MAX], *set[MODEL_CHAIN_MAX];
    int n = setup_chain(&run->statements, model, chain, why);
    int n_set = n < 0 ? n : setup_chain(&run->statements, run->model, set, why);
    if (n_set < 0) {
        return n_set;
    }
    buf_init(&run->create, SQL_MAX);
    int status = 0;
    for (int i = 0; status == 0 && i < n; i++) {
        status = add_create(&run->create, chain[i]);
    }
    bool is_other = strcmp(model->options.fallback_model, run->model->options.fallback_model) != 0;
    for (int i = 0; is_other && status == 0 && i < n_set; i++) {
        status = add_create(&run->create, set[i]);
    }
    status = status ? status : add_create(&run->create, model);
    return status == 0 ? 0 : error_set(why, status, "the models are longer than %d bytes", SQL_MAX);
}

// check_budget refuses a budget that could not be kept.
static int check_budget(const struct run *run, struct error *why) {
    const struct model_options *o = &run->model->options;
    struct price price;
    if ((isnan(o->budget_usd) && isnan(o->budget_usd_day)) || prices_of(run->prices, o, &price) ||
        run->options.dry_run) {
        return 0;
    }
    return error_set(why, -EINVAL,
                     "a budget needs a price: none of model '%s' is known; say --set price.input=... "
                     "--set price.output=..., or price.call, or --prices FILE", o->model);
}

int run_model_load(struct run *run, struct error *why) {
    const struct run_options *o = &run->options;
    int status = setup_load_models(o->file, &run->statements, why);
    if (status < 0) {
        return status;
    }
    const struct model *model = setup_find_model(&run->statements, o->file, o->model, why);
    if (model == NULL) {
        return -ENOENT;
    }
    struct model_setting *overrides = NULL;
    status = setup_overrides(&o->set, &overrides, why);
    size_t n = o->set.n;
    buf_init(&run->overrides, 64 * 1024);
    buf_init(&run->asked, 64 * 1024);
    status = status ? status : setup_pack_overrides(overrides, n, &run->asked, why);
    if (status == 0) {
        int n_all = setup_budget(&overrides, n, o->budget_usd, BUDGET_NAME, why);
        status = n_all < 0 ? n_all : 0;
        n = n_all < 0 ? n : (size_t)n_all;
    }
    if (status == 0) {
        run->model = model_override(model, overrides, n, why);
        status = run->model == NULL ? -EINVAL : 0;
        if (status < 0) {
            error_prefix(why, "--set: ");
        }
    }
    if (status == 0 && run->model->options.on_error == ON_ERROR_DEAD_LETTER) {
        status = error_set(why, -EINVAL,
                           "option 'on.error': got 'dead-letter', want 'error-row' or 'fail': every row of a "
                           "run comes out (say --set on.error=error-row)");
    }
    status = status ? status : setup_pack_overrides(overrides, n, &run->overrides, why);
    status = status ? status : make_create(run, model, why);
    status = status ? status : check_budget(run, why);
    setup_free_overrides(overrides, n);
    return status || o->dry_run ? status : check_secrets(run, why);
}
