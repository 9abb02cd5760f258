// tell: what a provider tells of its limits and troubles, each in its own words: headers on every
// answer, the body of a 429, the bodies of other refusals.
//
// Sources: the API references of the vendors, 2026-08: "Rate limits" and "Error codes" of OpenAI, Azure
// OpenAI ("Quotas and limits"), Anthropic ("Rate limits", "Errors"), Gemini ("Rate limits",
// google.rpc.RetryInfo, google.rpc.QuotaFailure).
#ifndef HEADRACE_TESTS_PROVIDER_TELL_H
#define HEADRACE_TESTS_PROVIDER_TELL_H

#include "common/httpd.h"
#include "tests/provider/fault.h"
#include "tests/provider/quota.h"

// Whose words. NONE: no headers, no delay in a 429, as most servers of one's own.
enum tell_style { TELL_OPENAI, TELL_AZURE, TELL_ANTHROPIC, TELL_GEMINI, TELL_NONE, TELL_STYLES };

// tell_style_find reads openai, azure, anthropic, gemini or none; TELL_STYLES for anything else.
enum tell_style tell_style_find(struct slice name);

// tell_headers adds what is left of each limit now.
//   OpenAI     x-ratelimit-{limit,remaining,reset}-{requests,tokens}, reset as in Go: 6m0s, 1.5s, 12ms
//   Azure      the same names, reset in whole seconds
//   Anthropic  anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset},
//              reset in RFC 3339, what remains of tokens in thousands
//   Gemini     nothing
// The minute's limit is told where there is one, else the day's.
void tell_headers(enum tell_style style, struct quota *quota, struct quota_pool *pool, int64_t now_us,
                  struct httpd_reply *reply);
// tell_refusal makes the 429 of a limit: status, body, how long to wait. reply->body is initialised.
void tell_refusal(enum tell_style style, const struct quota_refusal *refusal, int64_t most,
                  struct slice model, const char *request_id, struct httpd_reply *reply);
// tell_trouble makes the answer of a fault that trouble.def knows, and returns true; false for others.
bool tell_trouble(enum tell_style style, enum fault fault, int64_t retry_after_ms,
                  const char *request_id, struct httpd_reply *reply);
// tell_error makes an error of Anthropic or Gemini that is no limit and no trouble.
//   status  of OpenAI's; the vendor's own is told: 529 for Anthropic's 503, 400 for Gemini's 401
//   delay   say when to come again
void tell_error(enum tell_style style, int status, const char *message, int64_t retry_after_ms,
                bool delay, const char *request_id, struct httpd_reply *reply);
// tell_duration writes a time as Go does, in milliseconds at best, rounded up: "0s", "12ms", "1.5s",
// "6m0s", "1h2m3s".
void tell_duration(int64_t us, char *into, size_t size);

#endif
