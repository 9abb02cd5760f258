// Sends the rows of a JSON Lines file through a PUSH socket: no acks, ZeroMQ's back-pressure.
//
//   producer_push ADDRESS FILE        cc producer_push.c -lzmq
//
// ADDRESS is the coordinator's --bind-in; its --model answers the rows. A frame may hold one row or
// many. When headrace is full, zmq_send blocks until there is room again.
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

static int send_rows(void *socket, FILE *file) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    int rc = 0;
    while (rc >= 0 && (n = getline(&line, &capacity, file)) > 0) {
        rc = zmq_send(socket, line, (size_t)n, 0);
    }
    free(line);
    return rc < 0 ? -1 : 0;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: producer_push ADDRESS FILE\n");
        return 2;
    }
    FILE *file = fopen(argv[2], "r");
    if (file == NULL) {
        perror(argv[2]);
        return 2;
    }
    void *context = zmq_ctx_new();
    void *socket = zmq_socket(context, ZMQ_PUSH);
    int linger = -1; // leaving waits until everything is sent
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger));
    int rc = zmq_connect(socket, argv[1]);
    rc = rc == 0 ? send_rows(socket, file) : rc;
    if (rc != 0) {
        fprintf(stderr, "producer_push: %s\n", zmq_strerror(zmq_errno()));
    }
    fclose(file);
    zmq_close(socket);
    zmq_ctx_term(context);
    return rc != 0;
}
