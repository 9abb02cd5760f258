// fixed: which part of a prompt is the same in every call of a model, so that a provider can be told to
// keep it in its cache.
#ifndef HEADRACE_WORKER_FIXED_H
#define HEADRACE_WORKER_FIXED_H

#include "common/bytes.h"
#include "common/model.h"

// fixed_system says whether the system message is the same in every call, or there is none.
bool fixed_system(const struct model *model);

// fixed_prefix returns how many bytes at the beginning of a rendered user message are the same in every
// call; 0 when there are none, or nothing follows them. They hold more than white space.
size_t fixed_prefix(const struct model *model, struct slice user);

#endif
