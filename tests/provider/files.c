// Uploaded and generated files. Invariant: a file is in the list and in the table, or gone. Called
// by the APIs of files and by jobs.
#include "tests/provider/files.h"
#include "common/mem.h"
#include "tests/provider/fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#define ID_SALT 900 // of fault_random

struct file *files_add(struct files *files, const char *id, uint64_t seed, uint64_t owner,
                       struct spool **spool, int64_t now_us) {
    struct file *file = mem_zalloc(sizeof(*file));
    file->number = ++files->n_made;
    char draw[24];
    snprintf(draw, sizeof(draw), "%016llx",
             (unsigned long long)fault_random(seed, file->number, ID_SALT));
    snprintf(file->id, sizeof(file->id), "%s%s", id, draw);
    file->owner = owner;
    file->spool = *spool;
    *spool = NULL;
    file->created_us = file->ready_us = now_us;
    DL_APPEND(files->list, file);
    HASH_ADD_STR(files->table, id, file);
    return file;
}

struct file *files_find(struct files *files, struct slice id, uint64_t owner, int64_t now_us) {
    struct file *file = NULL;
    HASH_FIND(hh, files->table, id.n > 0 ? id.p : "", id.n, file);
    if (file != NULL && file->expires_us != 0 && now_us >= file->expires_us) {
        files_remove(files, file);
        return NULL;
    }
    return file != NULL && file->owner == owner ? file : NULL;
}

void files_remove(struct files *files, struct file *file) {
    DL_DELETE(files->list, file);
    HASH_DEL(files->table, file);
    spool_leave(&file->spool);
    free(file);
}

void files_free(struct files *files) {
    struct file *file, *next;
    HASH_ITER(hh, files->table, file, next) {
        files_remove(files, file);
    }
}
