// catalog: models and their revisions in Redis.
//   hr:{ns}:models      SET   names
//   hr:{ns}:model:NAME  HASH  "head" -> newest revision, revision -> CREATE MODEL statement
#ifndef HEADRACE_COORDINATOR_CATALOG_H
#define HEADRACE_COORDINATOR_CATALOG_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"

struct redis;
struct catalog;

// catalog_new borrows the connection. It must know the script model_put, as the store's does.
struct catalog *catalog_new(struct redis *redis, const char *ns);
// catalog_free may come before the connection is freed; nothing is called back after it.
void catalog_free(struct catalog *catalog);

// done gets 0 or a negative errno with why.
typedef void catalog_done(void *arg, int status, size_t n_changed, const struct error *why);

// catalog_load reads every model and revision; call once the store is ready. A statement that no
// longer parses is logged and left out.
void catalog_load(struct catalog *catalog, catalog_done *done, void *arg);

// catalog_create carries out CREATE MODEL statements, all checked before the first is written.
// A model equal to the newest revision changes nothing; otherwise OR REPLACE makes a new revision,
// IF NOT EXISTS leaves what is there, and neither is -EEXIST. replace: as if OR REPLACE stood in each
// statement. done is called when all is durable.
void catalog_create(struct catalog *catalog, struct slice sql, bool replace, catalog_done *done, void *arg);

// catalog_find borrows the newest revision, catalog_revision a given one; NULL when there is none.
// They live as long as the catalog.
const struct model *catalog_find(const struct catalog *catalog, struct slice name);
const struct model *catalog_revision(const struct catalog *catalog, struct slice name, uint32_t revision);

// catalog_each calls back for the newest revision of every model, by name.
void catalog_each(const struct catalog *catalog, void (*each)(void *arg, const struct model *model),
                  void *arg);

#endif
