// requests: what peers ask of the coordinator that is no matter of the core's: models, status, dead letters.
#ifndef HEADRACE_COORDINATOR_REQUESTS_H
#define HEADRACE_COORDINATOR_REQUESTS_H

#include "coordinator/coordinator.h"

// requests_message answers a message that the core did not take.
void requests_message(struct coordinator *c, struct slice route, const struct message *message);

#endif
