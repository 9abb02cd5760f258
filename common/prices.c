// List prices and what a call cost. Invariant: a model that is not in the table has no price, which
// is not the price 0. Called by the worker and by the coordinator's accounts.
#include "common/prices.h"

#define NONE (-1) // not applicable or not known; NaN, of a model's own options, means the same

static const struct price prices[] = {
#define PRICE(provider_, model_, input_, cached_, write_, output_, batch_, long_at_, long_in_,     \
              long_out_, as_of_, grade_)                                                           \
    {.provider = provider_,                                                                        \
     .model = model_,                                                                              \
     .input = input_,                                                                              \
     .cached = cached_,                                                                            \
     .output = output_,                                                                            \
     .long_at = long_at_,                                                                          \
     .long_in = long_in_,                                                                          \
     .long_out = long_out_,                                                                        \
     .as_of = as_of_},
#include "common/prices.def"
#undef PRICE
};

static const struct price *find_exactly(struct slice provider, struct slice model) {
    for (size_t i = 0; i < sizeof(prices) / sizeof(prices[0]); i++) {
        if (slice_is_nocase(provider, prices[i].provider) && slice_is(model, prices[i].model)) {
            return &prices[i];
        }
    }
    return NULL;
}

// ends_like says whether text ends as pattern, where '0' is any digit.
static bool ends_like(struct slice text, struct slice pattern) {
    if (text.n <= pattern.n) {
        return false;
    }
    const char *end = text.p + text.n - pattern.n;
    for (size_t i = 0; i < pattern.n; i++) {
        bool digit = end[i] >= '0' && end[i] <= '9';
        if (pattern.p[i] == '0' ? !digit : end[i] != pattern.p[i]) {
            return false;
        }
    }
    return true;
}

const struct price *price_find(struct slice provider, struct slice model) {
    const struct slice suffixes[] = {SLICE_LIT("-0000-00-00"), SLICE_LIT("-00000000"),
                                     SLICE_LIT("-latest")};
    if (slice_starts(model, "models/")) {
        model = slice_sub(model, sizeof("models/") - 1, model.n);
    }
    const struct price *price = find_exactly(provider, model);
    for (size_t i = 0; price == NULL && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        if (ends_like(model, suffixes[i])) {
            price = find_exactly(provider, slice_sub(model, 0, model.n - suffixes[i].n));
        }
    }
    return price;
}

double price_cost(const struct price *price, double input, double cached, double output) {
    bool is_long = price->long_at > 0 && input > (double)price->long_at;
    double per_cached = price->cached >= 0 ? price->cached : price->input;
    double per_output = price->output >= 0 ? price->output : 0;
    double in = (input - cached) * price->input + cached * per_cached;
    double out = output * per_output;
    return (in * (is_long ? price->long_in : 1) + out * (is_long ? price->long_out : 1)) / 1e6;
}
