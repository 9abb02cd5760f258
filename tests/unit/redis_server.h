// A private redis-server for a test: a child on a Unix socket in a folder of its own, with the
// settings that headrace asks for. The test ends it by its pid.
#ifndef HEADRACE_TESTS_REDIS_SERVER_H
#define HEADRACE_TESTS_REDIS_SERVER_H

#include "common/clock.h"
#include "common/loop.h"

#include <ftw.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define REDIS_DEADLINE_US 20000000 // generous: the machine may be busy

struct redis_server {
    pid_t pid; // 0: not running
    char dir[64];
    char socket[96];
    redisContext *link; // a plain blocking connection, for the test to look behind the scenes
};

// redis_server_missing says whether redis-server is not installed, and says so.
static inline int redis_server_missing(void) {
    if (system("command -v redis-server >/dev/null 2>&1") == 0) {
        return 0;
    }
    printf("skipped: redis-server is not installed\n");
    return 1;
}

static inline void redis_server_die(const char *what) {
    fprintf(stderr, "redis-server for the test: %s\n", what);
    abort();
}

// redis_server_start starts it on its folder (kept from the last run) and waits until it answers.
// fsync: "always", "everysec", ...; extra: one more pair of arguments, or NULL.
static inline void redis_server_start_with(struct redis_server *s, const char *fsync,
                                           const char *extra, const char *value) {
    if (s->dir[0] == '\0') {
        snprintf(s->dir, sizeof(s->dir), "/tmp/headrace-test-XXXXXX");
        if (mkdtemp(s->dir) == NULL) {
            redis_server_die("no folder");
        }
        snprintf(s->socket, sizeof(s->socket), "%s/s", s->dir);
    }
    unlink(s->socket);
    s->pid = fork();
    if (s->pid == 0) {
        // A test that fails must not leave a server behind, nor one that holds its output open.
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (freopen("/dev/null", "w", stdout) == NULL || freopen("/dev/null", "w", stderr) == NULL) {
            _exit(126);
        }
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", s->socket, "--dir",
               s->dir, "--appendonly", "yes", "--appendfsync", fsync, "--save", "",
               "--maxmemory-policy", "noeviction", extra, value, (char *)NULL);
        _exit(127);
    }
    for (int64_t end = clock_us() + REDIS_DEADLINE_US; clock_us() < end; usleep(2000)) {
        redisContext *c = redisConnectUnix(s->socket);
        if (c != NULL && c->err == 0) {
            redisReply *r = redisCommand(c, "PING");
            int up = r != NULL && (r->type == REDIS_REPLY_STATUS ||
                                   strncmp(r->str, "NOAUTH", 6) == 0);
            freeReplyObject(r);
            if (up) {
                s->link = c;
                return;
            }
        }
        redisFree(c);
    }
    redis_server_die("did not start");
}

static inline void redis_server_start(struct redis_server *s) {
    redis_server_start_with(s, "always", NULL, NULL);
}

static inline void redis_server_kill(struct redis_server *s) {
    if (s->pid > 0) {
        redisFree(s->link);
        s->link = NULL;
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
        s->pid = 0;
    }
}

static inline int redis_server_unlink(const char *path, const struct stat *st, int kind,
                                      struct FTW *ftw) {
    return remove(path);
}

// redis_server_end kills it and removes its folder.
static inline void redis_server_end(struct redis_server *s) {
    redis_server_kill(s);
    if (s->dir[0] != '\0') {
        nftw(s->dir, redis_server_unlink, 8, FTW_DEPTH | FTW_PHYS);
        s->dir[0] = '\0';
    }
}

// redis_server_do runs a command over the test's own connection; free with freeReplyObject.
static inline redisReply *redis_server_do(struct redis_server *s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    redisReply *r = redisvCommand(s->link, format, args);
    va_end(args);
    if (r == NULL) {
        redis_server_die("connection lost");
    }
    return r;
}

// redis_server_run is redis_server_do without its reply.
#define redis_server_run(s, ...) freeReplyObject(redis_server_do(s, __VA_ARGS__))

// redis_server_until turns the loop until the condition holds or the deadline is past.
#define redis_server_until(loop, condition)                                                        \
    do {                                                                                           \
        int64_t end_us = clock_us() + REDIS_DEADLINE_US;                                           \
        while (!(condition) && clock_us() < end_us) {                                              \
            if (uv_run(loop_uv(loop), UV_RUN_NOWAIT) != 0 && !(condition)) {                       \
                usleep(200);                                                                       \
            }                                                                                      \
        }                                                                                          \
        assert_true(condition);                                                                    \
    } while (0)

#endif
