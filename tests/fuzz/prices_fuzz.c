// Any bytes as a price file: a refusal says why and where, and what is read never costs less than nothing.
#include "common/prices.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = {(const char *)data, size};
    struct prices *prices = NULL;
    struct error why = {0};
    if (prices_parse(text, "fuzz", &prices, &why) != 0) {
        if (prices != NULL || strncmp(why.text, "fuzz:", 5) != 0) {
            abort();
        }
        return 0;
    }
    const struct price *price = prices_find(prices, SLICE_LIT("openai"), slice_sub(text, size / 2, 16));
    const struct price_usage usage = {.input = 1000, .cached = 10, .write = 10, .output = 100};
    if (price != NULL && !(price_cost(price, &usage) >= 0)) {
        abort();
    }
    prices_free(prices);
    return 0;
}
