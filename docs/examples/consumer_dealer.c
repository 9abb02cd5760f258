// Takes results with acks: each one is in the output once, whatever is killed, this program too.
//
//   consumer_dealer ADDRESS CONSUMER OUTPUT [COUNT]     cc consumer_dealer.c -lzmq -lmsgpackc
//
// ADDRESS is the coordinator's --bind. CONSUMER is a name that stays the same when this is started
// again. An output line is "PARTITION OSEQ RESULT". So the output itself tells what is there already: a
// result that comes twice has a number that is not above its partition's last one. A result is acked
// after it is on the disk. Stops when OUTPUT has at least COUNT lines. See docs/protocol.md.
#include <inttypes.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

enum { REFUSED = 0x01, SUBSCRIBE = 0x30, RESULTS = 0x32, ACK = 0x33 };
#define PARTITIONS_MAX 4096
#define CREDIT 1000     // most results sent and not yet acked
#define AGAIN_MS 100    // after a refusal
#define SILENCE_MS 1000 // then ask whether the coordinator still knows us

static void *socket_; // the DEALER
static FILE *out;
static uint64_t last[PARTITIONS_MAX]; // number of the last result of each partition in the output
static uint64_t n_lines;              // of the output
// again: SUBSCRIBE once all that is under way was read; one answers any number of refusals.
static bool again = true;

// begin starts a frame: the head and a map of n fields, which the caller adds.
static void begin(msgpack_sbuffer *frame, msgpack_packer *pack, int kind, size_t n) {
    msgpack_sbuffer_init(frame);
    msgpack_packer_init(pack, frame, msgpack_sbuffer_write);
    msgpack_sbuffer_write(frame, (char[]){'H', 'R', 1, (char)kind}, 4);
    msgpack_pack_map(pack, n);
}

static void add_str(msgpack_packer *pack, const char *text) {
    msgpack_pack_str_with_body(pack, text, strlen(text));
}

static void end(msgpack_sbuffer *frame) {
    if (zmq_send(socket_, frame->data, frame->size, 0) < 0) {
        fprintf(stderr, "consumer_dealer: %s\n", zmq_strerror(zmq_errno()));
    }
    msgpack_sbuffer_destroy(frame);
}

static void send_subscribe(const char *consumer) {
    msgpack_sbuffer frame;
    msgpack_packer pack;
    begin(&frame, &pack, SUBSCRIBE, 3);
    add_str(&pack, "consumer");
    add_str(&pack, consumer);
    add_str(&pack, "credit");
    msgpack_pack_uint64(&pack, CREDIT);
    add_str(&pack, "format");
    add_str(&pack, "json");
    end(&frame);
}

static void send_ack(uint64_t partition, uint64_t upto) {
    msgpack_sbuffer frame;
    msgpack_packer pack;
    begin(&frame, &pack, ACK, 2);
    add_str(&pack, "partition");
    msgpack_pack_uint64(&pack, partition);
    add_str(&pack, "upto");
    msgpack_pack_uint64(&pack, upto);
    end(&frame);
}

// read_output learns what the output holds. A last line that a power cut has torn is cut off: it was
// not acked and comes again.
static int read_output(void) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    off_t good = 0;
    rewind(out);
    while ((n = getline(&line, &capacity, out)) > 0 && line[n - 1] == '\n') {
        uint64_t partition, oseq;
        if (sscanf(line, "%" SCNu64 " %" SCNu64 " ", &partition, &oseq) == 2 &&
            partition < PARTITIONS_MAX) {
            last[partition] = oseq;
        }
        good += n;
        n_lines++;
    }
    free(line);
    return fseeko(out, 0, SEEK_END) != 0 || ftruncate(fileno(out), good) != 0 ? -1 : 0;
}

static const msgpack_object *field(const msgpack_object *map, const char *name) {
    for (uint32_t i = 0; map->type == MSGPACK_OBJECT_MAP && i < map->via.map.size; i++) {
        const msgpack_object *key = &map->via.map.ptr[i].key;
        if (key->via.str.size == strlen(name) && memcmp(key->via.str.ptr, name, strlen(name)) == 0) {
            return &map->via.map.ptr[i].val;
        }
    }
    fprintf(stderr, "consumer_dealer: a message without '%s'\n", name);
    exit(1);
}

static void on_results(const msgpack_object *map) {
    uint64_t partition = field(map, "partition")->via.u64;
    uint64_t oseq = field(map, "first_oseq")->via.u64;
    const msgpack_object_bin *results = &field(map, "results")->via.bin;
    const char *at = results->ptr, *stop = at + results->size;
    while (partition < PARTITIONS_MAX && at < stop) {
        const char *newline = memchr(at, '\n', (size_t)(stop - at));
        size_t n = (size_t)((newline != NULL ? newline : stop) - at);
        if (oseq > last[partition]) {
            fprintf(out, "%" PRIu64 " %" PRIu64 " ", partition, oseq);
            fwrite(at, 1, n, out);
            fputc('\n', out);
            last[partition] = oseq;
            n_lines++;
        }
        at += n + 1;
        oseq++;
    }
    if (fflush(out) != 0 || fsync(fileno(out)) != 0) {
        perror("consumer_dealer: output");
        exit(1); // not acked: it comes again
    }
    send_ack(partition, oseq - 1);
}

static void on_refused(const msgpack_object *map) {
    static const char *const try_again[] = {"starting", "stopping", "not-subscribed", "bad-ack"};
    const msgpack_object *code = field(map, "code"), *text = field(map, "message");
    for (size_t i = 0; i < 4; i++) {
        if (code->via.str.size == strlen(try_again[i]) &&
            memcmp(code->via.str.ptr, try_again[i], code->via.str.size) == 0) {
            again = true;
            return;
        }
    }
    fprintf(stderr, "%.*s: %.*s\n", (int)code->via.str.size, code->via.str.ptr,
            (int)text->via.str.size, text->via.str.ptr);
    exit(1);
}

static void on_frame(zmq_msg_t *frame) {
    const char *bytes = zmq_msg_data(frame);
    msgpack_unpacked message;
    msgpack_unpacked_init(&message);
    size_t offset = 4;
    if (zmq_msg_size(frame) > 4 && msgpack_unpack_next(&message, bytes, zmq_msg_size(frame), &offset) ==
                                       MSGPACK_UNPACK_SUCCESS) {
        if (bytes[3] == RESULTS) {
            on_results(&message.data);
        } else if (bytes[3] == REFUSED) {
            on_refused(&message.data);
        }
    }
    msgpack_unpacked_destroy(&message);
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: consumer_dealer ADDRESS CONSUMER OUTPUT [COUNT]\n");
        return 2;
    }
    uint64_t count = argc == 5 ? strtoull(argv[4], NULL, 10) : 0;
    out = fopen(argv[3], "a+");
    if (out == NULL || read_output() != 0) {
        perror(argv[3]);
        return 2;
    }
    void *context = zmq_ctx_new();
    socket_ = zmq_socket(context, ZMQ_DEALER);
    zmq_setsockopt(socket_, ZMQ_LINGER, &(int){1000}, sizeof(int)); // the last ACK
    if (zmq_connect(socket_, argv[1]) != 0) {
        fprintf(stderr, "consumer_dealer: %s: %s\n", argv[1], zmq_strerror(zmq_errno()));
        return 2;
    }
    while (count == 0 || n_lines < count) {
        zmq_pollitem_t item = {.socket = socket_, .events = ZMQ_POLLIN};
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_poll(&item, 1, again ? AGAIN_MS : SILENCE_MS) == 0) {
            if (again) {
                send_subscribe(argv[2]);
            } else {
                send_ack(0, 0); // says nothing new; a restarted coordinator refuses it
            }
            again = false;
        } else if (zmq_msg_recv(&frame, socket_, 0) >= 0) {
            on_frame(&frame);
        }
        zmq_msg_close(&frame);
    }
    int rc = fclose(out);
    zmq_close(socket_);
    zmq_ctx_term(context);
    return rc != 0;
}
