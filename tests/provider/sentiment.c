// The simulator's opinion of a text. Invariant: it depends on the text alone. Called for each
// record of a prompt, and by --answer, so that tests can compare without the pipeline.
#include "tests/provider/sentiment.h"

#include <string.h>

#define WORD_MAX       16 // a longer word is in no list
#define NEGATION_REACH 3  // words that "not" turns round

static const char *const positive_words[] = {
    "amazing",     "awesome",     "beautiful",   "best",        "better",    "brilliant",
    "charming",    "clean",       "clear",       "comfortable", "cool",      "delicious",
    "delight",     "delightful",  "easy",        "enjoy",       "enjoyable", "enjoyed",
    "excellent",   "fabulous",    "fantastic",   "fast",        "favorite",  "fine",
    "flawless",    "fresh",       "friendly",    "fun",         "funny",     "glad",
    "good",        "great",       "happy",       "helpful",     "impressed", "impressive",
    "incredible",  "interesting", "like",        "liked",       "love",      "loved",
    "lovely",      "loves",       "masterpiece", "memorable",   "nice",      "outstanding",
    "perfect",     "perfectly",   "pleasant",    "pleased",     "quick",     "recommend",
    "recommended", "right",       "satisfied",   "solid",       "superb",    "tasty",
    "terrific",    "thank",       "top",         "touching",    "well",      "wonderful",
    "works",       "worth",       "yummy",
};
static const char *const negative_words[] = {
    "annoying",    "awful",      "avoid",        "bad",           "bland",          "boring",
    "broke",       "broken",     "cheap",        "cold",          "complaint",      "crap",
    "defective",   "dirty",      "disappointed", "disappointing", "disappointment", "disgusting",
    "dry",         "dull",       "dumb",         "fail",          "failed",         "fails",
    "garbage",     "gross",      "hate",         "hated",         "horrible",       "junk",
    "lacking",     "lame",       "lousy",        "mediocre",      "mess",           "mistake",
    "nasty",       "overpriced", "pathetic",     "pointless",     "poor",           "poorly",
    "predictable", "problem",    "problems",     "refund",        "ridiculous",     "rude",
    "sad",         "slow",       "stupid",       "sucked",        "sucks",          "terrible",
    "tough",       "trash",      "ugly",         "unfortunately", "unhappy",        "unreliable",
    "useless",     "waste",      "wasted",       "weak",          "worse",          "worst",
    "wrong",
};
static const char *const negations[] = {
    "aren't", "can't", "cannot", "didn't",  "doesn't", "don't",   "hardly", "isn't",    "never",
    "no",     "nor",   "not",    "nothing", "wasn't",  "without", "won't",  "wouldn't",
};
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static bool is_in(const char *const *list, size_t n, const char *word) {
    for (size_t i = 0; i < n; i++) {
        if (list[i][0] == word[0] && strcmp(list[i], word) == 0) {
            return true;
        }
    }
    return false;
}

static char letter(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : (c >= 'a' && c <= 'z') || c == '\'' ? c : '\0';
}

int sentiment_of(struct slice text) {
    int score = 0, turned = 0; // turned: words left that a negation turns round
    char word[WORD_MAX + 1];
    size_t n = 0;
    for (size_t i = 0; i <= text.n; i++) {
        char c = i < text.n ? letter(text.p[i]) : '\0';
        if (c != '\0') {
            if (n < WORD_MAX) {
                word[n] = c;
            }
            n++;
            continue;
        }
        if (n > 0 && n <= WORD_MAX) {
            word[n] = '\0';
            int value = is_in(positive_words, COUNT(positive_words), word)
                            ? 1
                            : -(int)is_in(negative_words, COUNT(negative_words), word);
            score += turned > 0 ? -value : value;
            turned -= turned > 0;
            if (is_in(negations, COUNT(negations), word)) {
                turned = NEGATION_REACH;
            }
        }
        n = 0;
        if (i < text.n && strchr(".!?;", text.p[i]) != NULL && text.p[i] != '\0') {
            turned = 0;
        }
    }
    return (score > 0) - (score < 0);
}

const char *sentiment_name(int sentiment) {
    return sentiment > 0 ? "positive" : sentiment < 0 ? "negative" : "neutral";
}
