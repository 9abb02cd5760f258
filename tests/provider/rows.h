// rows: the work on the lines of a job: looking at each when the job is validated, answering each.
#ifndef HEADRACE_TESTS_PROVIDER_ROWS_H
#define HEADRACE_TESTS_PROVIDER_ROWS_H

#include "tests/provider/jobs.h"

#define ROW_BYTES_MAX (32u << 20)

// rows_check looks at the job's next line, and fails the job for what is wrong with it. Returns false when
// all lines have been looked at.
bool rows_check(struct batch_job *job);
// rows_answer ends the job's next line: answers it, or as job->closing says. There is one left.
void rows_answer(struct batch_job *job, int64_t now_us);
// rows_forget frees what only the work on lines needs.
void rows_forget(struct batch_job *job);

#endif
