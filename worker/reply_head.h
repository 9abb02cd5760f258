// reply_head: what an answer's headers say, whatever was asked: when to try again, what the body is.
#ifndef HEADRACE_WORKER_REPLY_HEAD_H
#define HEADRACE_WORKER_REPLY_HEAD_H

#include "common/bytes.h"

struct reply_head {
    uint64_t delay_ms;   // from Retry-After and its kin; 0: none
    int should_retry;    // header x-should-retry: 1, 0, -1 not there
    char content_type[96];
    char request_id[257];
};

// reply_head_clear makes it that of an answer without headers.
void reply_head_clear(struct reply_head *head);
// reply_head_read takes in one header; others than these are skipped.
void reply_head_read(struct reply_head *head, struct slice name, struct slice value);
// header_split cuts a header line in two, trimmed. False: it is none.
bool header_split(struct slice line, struct slice *name, struct slice *value);

#endif
