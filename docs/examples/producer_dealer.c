// Sends the rows of a JSON Lines file with acks: every row is accepted once, whatever is killed.
//
//   producer_dealer ADDRESS PRODUCER MODEL FILE     cc producer_dealer.c -lzmq -lmsgpackc
//
// ADDRESS is the coordinator's --bind. PRODUCER is a name that stays the same when this is started
// again with the same file. A row's sequence is its place in the file, so nothing has to be kept here:
// what was not acked is read again. See docs/protocol.md.
#include <msgpack.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

enum { REFUSED = 0x01, OPEN = 0x20, OPENED = 0x21, APPEND = 0x22, ACKED = 0x23, FLUSH = 0x24 };
#define ROWS 200        // in one APPEND
#define SILENCE_MS 3000 // then OPEN again: the coordinator may be a new one

static void *socket_; // the DEALER
static FILE *file;    // stands after row number `sent`
static char *line;
static size_t line_capacity;
static bool is_open, at_end;
static uint64_t sent, acked, limit; // sequences, from 1; limit: up to here rows may be sent

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
        fprintf(stderr, "producer_dealer: %s\n", zmq_strerror(zmq_errno()));
    }
    msgpack_sbuffer_destroy(frame);
}

static void send_open(const char *producer, const char *model) {
    msgpack_sbuffer frame;
    msgpack_packer pack;
    begin(&frame, &pack, OPEN, 2);
    add_str(&pack, "producer");
    add_str(&pack, producer);
    add_str(&pack, "model");
    add_str(&pack, model);
    end(&frame);
    is_open = false;
}

// next_row reads the next line that is not empty; returns its length, or 0 at the end.
static size_t next_row(void) {
    ssize_t n;
    while ((n = getline(&line, &line_capacity, file)) >= 0) {
        n -= n > 0 && line[n - 1] == '\n';
        if (strspn(line, " \t\r\n") < (size_t)n) {
            return (size_t)n;
        }
    }
    return 0;
}

static void send_rows(void) {
    while (is_open && !at_end && sent < limit) {
        msgpack_sbuffer rows, frame;
        msgpack_packer pack;
        uint64_t count = 0;
        msgpack_sbuffer_init(&rows);
        while (count < ROWS && sent + count < limit && !at_end) {
            size_t n = next_row();
            at_end = n == 0;
            if (n > 0) {
                msgpack_sbuffer_write(&rows, line, n);
                msgpack_sbuffer_write(&rows, "\n", 1);
                count++;
            }
        }
        if (count > 0) {
            begin(&frame, &pack, APPEND, 3);
            add_str(&pack, "first_seq");
            msgpack_pack_uint64(&pack, sent + 1);
            add_str(&pack, "count");
            msgpack_pack_uint64(&pack, count);
            add_str(&pack, "records");
            msgpack_pack_bin_with_body(&pack, rows.data, rows.size);
            end(&frame);
            sent += count;
        }
        msgpack_sbuffer_destroy(&rows);
        if (at_end) { // nothing follows: do not wait for batch.timeout.ms
            begin(&frame, &pack, FLUSH, 0);
            end(&frame);
        }
    }
}

static const msgpack_object *field(const msgpack_object *map, const char *name) {
    for (uint32_t i = 0; map->type == MSGPACK_OBJECT_MAP && i < map->via.map.size; i++) {
        const msgpack_object *key = &map->via.map.ptr[i].key;
        if (key->via.str.size == strlen(name) && memcmp(key->via.str.ptr, name, strlen(name)) == 0) {
            return &map->via.map.ptr[i].val;
        }
    }
    fprintf(stderr, "producer_dealer: a message without '%s'\n", name);
    exit(1);
}

static void on_refused(const msgpack_object *map, const char *producer, const char *model) {
    static const char *const try_again[] = {"starting", "stopping", "not-open", "gap", "over-limit"};
    const msgpack_object *code = field(map, "code"), *text = field(map, "message");
    for (size_t i = 0; i < 5; i++) {
        if (code->via.str.size == strlen(try_again[i]) &&
            memcmp(code->via.str.ptr, try_again[i], code->via.str.size) == 0) {
            if (is_open || i < 2) { // else: a second refusal of what was sent before
                usleep(100 * 1000);
                send_open(producer, model);
            }
            return;
        }
    }
    fprintf(stderr, "%.*s: %.*s\n", (int)code->via.str.size, code->via.str.ptr,
            (int)text->via.str.size, text->via.str.ptr);
    exit(1);
}

static void on_frame(zmq_msg_t *frame, const char *producer, const char *model) {
    const char *bytes = zmq_msg_data(frame);
    msgpack_unpacked message;
    msgpack_unpacked_init(&message);
    size_t offset = 4;
    if (zmq_msg_size(frame) > 4 && msgpack_unpack_next(&message, bytes, zmq_msg_size(frame), &offset) ==
                                       MSGPACK_UNPACK_SUCCESS) {
        if (bytes[3] == OPENED) {
            sent = acked = field(&message.data, "upto")->via.u64;
            limit = field(&message.data, "limit")->via.u64;
            is_open = true;
            at_end = false;
            rewind(file);
            for (uint64_t i = 0; i < acked && next_row() > 0; i++) {
            }
        } else if (bytes[3] == ACKED && is_open) {
            acked = field(&message.data, "upto")->via.u64;
            limit = field(&message.data, "limit")->via.u64;
        } else if (bytes[3] == REFUSED) {
            on_refused(&message.data, producer, model);
        }
    }
    msgpack_unpacked_destroy(&message);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: producer_dealer ADDRESS PRODUCER MODEL FILE\n");
        return 2;
    }
    file = fopen(argv[4], "r");
    if (file == NULL) {
        perror(argv[4]);
        return 2;
    }
    void *context = zmq_ctx_new();
    socket_ = zmq_socket(context, ZMQ_DEALER);
    zmq_setsockopt(socket_, ZMQ_LINGER, &(int){0}, sizeof(int));
    if (zmq_connect(socket_, argv[1]) != 0) {
        fprintf(stderr, "producer_dealer: %s: %s\n", argv[1], zmq_strerror(zmq_errno()));
        return 2;
    }
    send_open(argv[2], argv[3]);
    while (!is_open || !at_end || acked < sent) {
        zmq_pollitem_t item = {.socket = socket_, .events = ZMQ_POLLIN};
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_poll(&item, 1, SILENCE_MS) == 0) {
            send_open(argv[2], argv[3]);
        } else if (zmq_msg_recv(&frame, socket_, 0) >= 0) {
            on_frame(&frame, argv[2], argv[3]);
            send_rows();
        }
        zmq_msg_close(&frame);
    }
    printf("%llu rows acked\n", (unsigned long long)acked);
    fclose(file);
    free(line);
    zmq_close(socket_);
    zmq_ctx_term(context);
    return 0;
}
