// How many tokens a text is. Called by the client's dry run and by the coordinator's budgets.
#include "common/tokens.h"

uint64_t tokens_estimate(struct slice text) {
    return (text.n + TOKENS_BYTES - 1) / TOKENS_BYTES;
}
