// batch_rows: the work on the lines of a job: looking at each when the job is validated, answering
// each.
#ifndef HEADRACE_TESTS_PROVIDER_BATCH_ROWS_H
#define HEADRACE_TESTS_PROVIDER_BATCH_ROWS_H

#include "tests/provider/batch_jobs.h"

#define ROW_BYTES_MAX (32u << 20)

// batch_rows_check looks at the job's next line, and fails the job for what is wrong with it.
// Returns false when all lines have been looked at.
bool batch_rows_check(struct batch_job *job);
// batch_rows_answer ends the job's next line: answers it, or as job->closing says. There is one
// left.
void batch_rows_answer(struct batch_job *job, int64_t now_us);
// batch_rows_forget frees what only the work on lines needs.
void batch_rows_forget(struct batch_job *job);

#endif
