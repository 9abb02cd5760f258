// Takes results from a PULL socket: no acks; what is lost after it was sent stays lost.
//
//   consumer_pull ADDRESS OUTPUT [COUNT]        cc consumer_pull.c -lzmq
//
// ADDRESS is the coordinator's --bind-out. Each message is one result, a JSON object. Stops after
// COUNT results; without COUNT it goes on for ever.
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

static int take(void *socket, FILE *out, unsigned long count) {
    for (unsigned long n = 0; count == 0 || n < count; n++) {
        zmq_msg_t result;
        zmq_msg_init(&result);
        if (zmq_msg_recv(&result, socket, 0) < 0) {
            return -1;
        }
        fwrite(zmq_msg_data(&result), 1, zmq_msg_size(&result), out);
        fputc('\n', out);
        zmq_msg_close(&result);
        if (fflush(out) != 0) {
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: consumer_pull ADDRESS OUTPUT [COUNT]\n");
        return 2;
    }
    FILE *out = fopen(argv[2], "a");
    if (out == NULL) {
        perror(argv[2]);
        return 2;
    }
    void *context = zmq_ctx_new();
    void *socket = zmq_socket(context, ZMQ_PULL);
    int rc = zmq_connect(socket, argv[1]);
    if (rc != 0 || take(socket, out, argc == 4 ? strtoul(argv[3], NULL, 10) : 0) != 0) {
        fprintf(stderr, "consumer_pull: %s\n", zmq_strerror(zmq_errno()));
        rc = 1;
    }
    rc = fclose(out) != 0 || rc != 0;
    zmq_close(socket);
    zmq_ctx_term(context);
    return rc;
}
