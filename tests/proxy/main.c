// headrace-faultproxy: stands between any two parts and breaks what is between them, as it is told by
// lines on a Unix socket. Each line is answered by one line: "ok", maybe with numbers, or "error" and
// a sentence. Invariant: a line is carried out whole before the next one is read.
//
//   headrace-faultproxy SOCKET
//
//   link NAME PORT TARGET    listen on 127.0.0.1:PORT (0: any) for TARGET; answers "ok PORT"
//   delay NAME MS            bandwidth NAME BYTES_PER_S       cut NAME BYTES
//   reset NAME               half NAME                        refuse NAME
//   hole NAME up|down|both   (up: what the client sends)      heal NAME
//   stats NAME               answers "ok CONNECTIONS OPEN BYTES_UP BYTES_DOWN"
//
// NAME may be * for every link, where that makes sense. What each fault does: tests/proxy/link.h.
#include "common/loop.h"
#include "common/mem.h"
#include "tests/proxy/link.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#define LINKS_MAX 256
#define LINE_MAX_BYTES 512

struct teller;

struct proxy {
    struct loop *loop;
    uv_pipe_t control;
    struct link *links[LINKS_MAX];
    size_t n_links;
    struct teller *tellers;
};

// Somebody who gives commands.
struct teller {
    uv_pipe_t pipe;
    struct proxy *proxy;
    struct teller *prev, *next;
    char line[LINE_MAX_BYTES];
    size_t n;
};

struct answer {
    uv_write_t req;
    char text[LINE_MAX_BYTES];
};

// ---- Commands ---------------------------------------------------------------------------------------

typedef void fault_function(struct link *link, const char *value);

static void do_delay(struct link *link, const char *value) {
    link_delay(link, atoll(value));
}

static void do_bandwidth(struct link *link, const char *value) {
    link_bandwidth(link, atoll(value));
}

static void do_cut(struct link *link, const char *value) {
    link_cut(link, atoll(value));
}

static void do_reset(struct link *link, const char *value) {
    link_reset(link);
}

static void do_half(struct link *link, const char *value) {
    link_half(link);
}

static void do_refuse(struct link *link, const char *value) {
    link_refuse(link);
}

static void do_heal(struct link *link, const char *value) {
    link_heal(link);
}

static void do_hole(struct link *link, const char *value) {
    if (strcmp(value, "down") != 0) {
        link_hole(link, LINK_CLIENT);
    }
    if (strcmp(value, "up") != 0) {
        link_hole(link, LINK_TARGET);
    }
}

static const struct {
    const char *name;
    fault_function *carry_out;
    bool has_value;
} faults[] = {
    {.name = "delay", .carry_out = do_delay, .has_value = true},
    {.name = "bandwidth", .carry_out = do_bandwidth, .has_value = true},
    {.name = "cut", .carry_out = do_cut, .has_value = true},
    {.name = "reset", .carry_out = do_reset},
    {.name = "half", .carry_out = do_half},
    {.name = "refuse", .carry_out = do_refuse},
    {.name = "heal", .carry_out = do_heal},
    {.name = "hole", .carry_out = do_hole, .has_value = true},
};

static void add_link(struct proxy *proxy, const char *name, int port, const char *target, char *out) {
    struct error why = {0};
    if (proxy->n_links == LINKS_MAX) {
        snprintf(out, LINE_MAX_BYTES, "error no more than %d links\n", LINKS_MAX);
        return;
    }
    struct link *link = link_new(loop_uv(proxy->loop), name, port, target, &why);
    if (link == NULL) {
        snprintf(out, LINE_MAX_BYTES, "error %.400s\n", why.text);
        return;
    }
    proxy->links[proxy->n_links++] = link;
    snprintf(out, LINE_MAX_BYTES, "ok %d\n", link_port(link));
}

static size_t carry_out(struct proxy *proxy, const char *name, fault_function *function,
                        const char *value) {
    size_t n = 0;
    for (size_t i = 0; i < proxy->n_links; i++) {
        if (strcmp(name, "*") == 0 || strcmp(name, link_name(proxy->links[i])) == 0) {
            function(proxy->links[i], value);
            n++;
        }
    }
    return n;
}

static bool print_stats(struct proxy *proxy, const char *name, char *out) {
    for (size_t i = 0; i < proxy->n_links; i++) {
        if (strcmp(name, link_name(proxy->links[i])) == 0) {
            struct link_stats s = link_stats(proxy->links[i]);
            snprintf(out, LINE_MAX_BYTES,
                     "ok %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", s.connections, s.open,
                     s.bytes[LINK_CLIENT], s.bytes[LINK_TARGET]);
            return true;
        }
    }
    return false;
}

// command carries a line out and writes its answer, at most LINE_MAX_BYTES.
static void command(struct proxy *proxy, const char *line, char *out) {
    char verb[16] = "", name[64] = "", value[64] = "", target[64] = "";
    int n = sscanf(line, "%15s %63s %63s %63s", verb, name, value, target);
    if (strcmp(verb, "link") == 0 && n == 4) {
        add_link(proxy, name, atoi(value), target, out);
        return;
    }
    if (strcmp(verb, "stats") == 0 && n == 2 && print_stats(proxy, name, out)) {
        return;
    }
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        if (strcmp(verb, faults[i].name) == 0 && n == (faults[i].has_value ? 3 : 2) &&
            carry_out(proxy, name, faults[i].carry_out, value) > 0) {
            snprintf(out, LINE_MAX_BYTES, "ok\n");
            return;
        }
    }
    snprintf(out, LINE_MAX_BYTES, "error got '%.100s', want a command and the name of a link\n", line);
}

// ---- The control socket -----------------------------------------------------------------------------

static void on_answered(uv_write_t *req, int status) {
    free(req);
}

static void on_teller_closed(uv_handle_t *handle) {
    free(handle->data);
}

static void teller_close(struct teller *teller) {
    DL_DELETE(teller->proxy->tellers, teller);
    uv_close((uv_handle_t *)&teller->pipe, on_teller_closed);
}

static void hear_line(struct teller *teller) {
    struct answer *answer = mem_zalloc(sizeof(*answer));
    command(teller->proxy, teller->line, answer->text);
    uv_buf_t buf = uv_buf_init(answer->text, (unsigned)strlen(answer->text));
    if (uv_write(&answer->req, (uv_stream_t *)&teller->pipe, &buf, 1, on_answered) != 0) {
        free(answer);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    struct teller *teller = handle->data;
    *buf = uv_buf_init(teller->line + teller->n, (unsigned)(LINE_MAX_BYTES - 1 - teller->n));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct teller *teller = stream->data;
    if (n < 0) { // gone, or UV_ENOBUFS: a line without an end
        teller_close(teller);
        return;
    }
    teller->n += (size_t)n;
    for (char *end; (end = memchr(teller->line, '\n', teller->n)) != NULL;) {
        *end = '\0';
        hear_line(teller);
        teller->n -= (size_t)(end + 1 - teller->line);
        memmove(teller->line, end + 1, teller->n);
    }
}

static void on_teller(uv_stream_t *stream, int status) {
    struct teller *teller = mem_zalloc(sizeof(*teller));
    teller->proxy = stream->data;
    uv_pipe_init(stream->loop, &teller->pipe, 0);
    teller->pipe.data = teller;
    DL_APPEND(teller->proxy->tellers, teller);
    if (status < 0 || uv_accept(stream, (uv_stream_t *)&teller->pipe) != 0 ||
        uv_read_start((uv_stream_t *)&teller->pipe, on_alloc, on_read) != 0) {
        teller_close(teller);
    }
}

static void on_signal(void *arg) {
    loop_stop(arg);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: headrace-faultproxy SOCKET\n");
        return 2;
    }
    struct proxy proxy = {.loop = loop_new()};
    uv_pipe_init(loop_uv(proxy.loop), &proxy.control, 0);
    proxy.control.data = &proxy;
    unlink(argv[1]);
    int rc = uv_pipe_bind(&proxy.control, argv[1]);
    rc = rc != 0 ? rc : uv_listen((uv_stream_t *)&proxy.control, 16, on_teller);
    if (rc == 0) {
        loop_on_signal(proxy.loop, SIGTERM, on_signal, proxy.loop);
        loop_on_signal(proxy.loop, SIGINT, on_signal, proxy.loop);
        loop_run(proxy.loop);
    } else {
        fprintf(stderr, "headrace-faultproxy: cannot listen on '%s': %s\n", argv[1], uv_strerror(rc));
    }
    for (size_t i = 0; i < proxy.n_links; i++) {
        link_free(proxy.links[i]);
    }
    while (proxy.tellers != NULL) {
        teller_close(proxy.tellers);
    }
    loop_free(proxy.loop);
    return rc == 0 ? 0 : 3;
}
