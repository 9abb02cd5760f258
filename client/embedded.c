// Private redis-server, coordinator and workers as children.
//
// Invariant: a part whose pid is not 0 is a child that was not waited for; nothing is signalled but
// such pids. Children stand in process groups of their own, so that Ctrl-C on the terminal reaches
// only this process, which ends them in order; the kernel kills them if this process dies.
#include "client/embedded.h"

#include "common/bytes.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_LONGEST STATE_PATH_MAX
#define SOCKET_PATH_MAX 107 // of sockaddr_un, with room for the NUL
#define PROBE_MS 3          // is it there yet? Redis takes about 10 ms
#define START_MS 20000      // for all parts together
#define STOP_MS 5000        // for coordinator or Redis, then they are killed
#define LOG_TAIL_LINES 5
#define LOG_TAIL_BYTES 600
#define ARGS_MAX 40
// A part that ends by itself is started again. One that cannot work says so with an exit status, and is
// given up soon; one that is killed may fall to a record that crashes its reader, three times each.
#define FAILED_MOST 3
#define ENDED_MOST 40
#define LIVED_MS 60000    // after that long a life, earlier ends are forgotten
#define AGAIN_MS 50       // wait before it is started again, times how often it ended
#define AGAIN_MOST_MS 1000

enum phase { PHASE_REDIS, PHASE_COORDINATOR, PHASE_RUNNING, PHASE_STOPPING, PHASE_STOPPED };
enum part_kind { PART_WORKER, PART_COORDINATOR, PART_REDIS }; // in the order of stopping

struct part {
    enum part_kind kind;
    char name[48];   // "worker-1"; its log is state/NAME.log
    pid_t pid;       // 0: not running
    bool was_told;   // to end
    int64_t began_us;
    int n_ended;     // times it ended by itself without LIVED_MS of life
    int n_failed;    // of these with an exit status of its own
    struct loop_timer *again; // until it is started again
    struct embedded *embedded;
};

struct embedded {
    struct embedded_config config;
    struct embedded_handlers handlers;
    struct loop *loop;
    struct loop_timer *probe, *deadline;
    enum phase phase;
    const char *state;          // the folder
    char sockets[PATH_LONGEST]; // where the sockets are: state, or a folder with a shorter name
    char bin[PATH_LONGEST];     // where our programs are
    char redis_server[PATH_LONGEST];
    char address[PATH_LONGEST + 32]; // of the coordinator
    bool made_sockets;
    bool is_started; // Redis was started
    bool is_lost;
    int64_t grace_ms;
    struct part *parts;
    size_t n_parts;
};

static struct embedded *of_signal; // SIGCHLD has no argument of its own; one embedded at a time

// ---- Folders and programs -----------------------------------------------------------------------

// choose_sockets finds a folder whose name is short enough for Unix sockets in it.
static int choose_sockets(struct embedded *embedded, struct error *why) {
    if (strlen(embedded->state) + strlen("/coordinator.sock") <= SOCKET_PATH_MAX) {
        slice_copy(slice_of(embedded->state), embedded->sockets, sizeof(embedded->sockets));
        return 0;
    }
    embedded->made_sockets = true;
    return state_temp(embedded->sockets, sizeof(embedded->sockets), "/tmp", why);
}

static bool find_in_path(const char *name, char *path, size_t size) {
    char places[4096];
    const char *env = getenv("PATH");
    snprintf(places, sizeof(places), "%s", env != NULL ? env : "/usr/local/bin:/usr/bin:/bin");
    char *rest = NULL;
    for (char *at = strtok_r(places, ":", &rest); at != NULL; at = strtok_r(NULL, ":", &rest)) {
        if (snprintf(path, size, "%s/%s", at, name) < (int)size && access(path, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

static int find_programs(struct embedded *embedded, struct error *why) {
    if (!find_in_path("redis-server", embedded->redis_server, sizeof(embedded->redis_server))) {
        return error_set(why, -ENOENT,
                         "redis-server is not there; install it: apt-get install redis-server");
    }
    ssize_t n = readlink("/proc/self/exe", embedded->bin, sizeof(embedded->bin) - 1);
    char *slash = n > 0 ? memrchr(embedded->bin, '/', (size_t)n) : NULL;
    if (slash == NULL) {
        return error_set(why, -ENOENT, "cannot find the folder of this program");
    }
    *slash = '\0';
    static const char *const programs[] = {"headrace-coordinator", "headrace-worker"};
    for (size_t i = 0; i < 2; i++) {
        char path[PATH_LONGEST + 32];
        snprintf(path, sizeof(path), "%s/%s", embedded->bin, programs[i]);
        if (access(path, X_OK) != 0) {
            return error_set(why, -ENOENT, "%s is not there; it belongs beside headrace", path);
        }
    }
    return 0;
}

// ---- Starting -----------------------------------------------------------------------------------

// run_child is the child's side: it never returns.
static void run_child(const struct embedded *embedded, const struct part *part, char *const *args,
                      pid_t parent) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1); // the parent died before the line above
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    char log[PATH_LONGEST + 64];
    snprintf(log, sizeof(log), "%s/%s.log", embedded->state, part->name);
    int in = open("/dev/null", O_RDONLY);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) {
        _exit(1);
    }
    // The folder stays locked until the last of its parts is gone.
    fcntl(embedded->config.state->lock, F_SETFD, 0);
    for (size_t i = 0; part->kind != PART_WORKER && i < embedded->config.n_secret_names; i++) {
        unsetenv(embedded->config.secret_names[i]);
    }
    execv(args[0], args);
    fprintf(stderr, "cannot run %s: %s\n", args[0], strerror(errno));
    _exit(127);
}

static int start(struct embedded *embedded, struct part *part, char *const *args) {
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        return -errno;
    }
    if (pid == 0) {
        run_child(embedded, part, args, parent);
    }
    setpgid(pid, pid); // also here: whoever comes first
    part->pid = pid;
    part->began_us = clock_us();
    return 0;
}

static void lost(struct embedded *embedded, const struct error *why) {
    if (!embedded->is_lost) {
        embedded->is_lost = true;
        embedded->handlers.on_lost(embedded->handlers.arg, why);
    }
}

static void start_or_lose(struct embedded *embedded, struct part *part, char *const *args) {
    int status = start(embedded, part, args);
    if (status < 0) {
        struct error why = {0};
        error_set(&why, status, "cannot start %s: %s", part->name, strerror(-status));
        lost(embedded, &why);
    }
}

static struct part *part_of(struct embedded *embedded, enum part_kind kind) {
    for (size_t i = 0; i < embedded->n_parts; i++) {
        if (embedded->parts[i].kind == kind) {
            return &embedded->parts[i];
        }
    }
    return NULL;
}

static void start_redis(struct embedded *embedded) {
    char path[PATH_LONGEST + 16];
    snprintf(path, sizeof(path), "%s/redis.sock", embedded->sockets);
    unlink(path);
    bool is_none = strcmp(embedded->config.durability, "none") == 0;
    char *args[] = {
        embedded->redis_server, "--port", "0", "--unixsocket", path, "--unixsocketperm", "700",
        "--dir", (char *)embedded->state, "--appendonly", "yes", "--appendfsync",
        is_none ? "no" : (char *)embedded->config.durability, "--save", "", "--maxmemory-policy",
        "noeviction", "--aof-load-truncated", "yes", "--daemonize", "no", "--loglevel", "notice", NULL,
    };
    start_or_lose(embedded, part_of(embedded, PART_REDIS), args);
}

static void start_coordinator(struct embedded *embedded) {
    char program[PATH_LONGEST + 32], redis[PATH_LONGEST + 32], partitions[24];
    // Only workers that outlived a coordinator have calls to claim from the next one.
    char *grace = embedded->phase == PHASE_RUNNING ? "3s" : "0";
    unlink(embedded->address + strlen("ipc://"));
    snprintf(program, sizeof(program), "%s/headrace-coordinator", embedded->bin);
    snprintf(redis, sizeof(redis), "unix:%s/redis.sock", embedded->sockets);
    snprintf(partitions, sizeof(partitions), "%lld", (long long)embedded->config.partitions);
    char *args[] = {
        program, "--bind", embedded->address, "--redis", redis, "--namespace", "run",
        "--partitions", partitions, "--name", "run", "--durability",
        (char *)embedded->config.durability, "--grace", grace, "--heartbeat", "500ms",
        "--overrides", "all", "--log-level", (char *)embedded->config.log_level,
        "--max-bytes", (char *)embedded->config.max_bytes, "--prices", (char *)embedded->config.prices,
        "--limits", (char *)embedded->config.limits, NULL,
    };
    start_or_lose(embedded, part_of(embedded, PART_COORDINATOR), args);
}

static void start_worker(struct embedded *embedded, struct part *part) {
    char program[PATH_LONGEST + 32], inflight[24];
    snprintf(program, sizeof(program), "%s/headrace-worker", embedded->bin);
    snprintf(inflight, sizeof(inflight), "%lld", (long long)embedded->config.max_inflight);
    char *args[ARGS_MAX] = {
        program, "--coordinator", embedded->address, "--name", part->name, "--max-inflight",
        inflight, "--log-level", (char *)embedded->config.log_level, "--ca-file",
        (char *)embedded->config.ca_file,
    };
    size_t n = 11;
    if (*embedded->config.secrets != '\0') {
        args[n++] = "--secrets";
        args[n++] = (char *)embedded->config.secrets;
    }
    start_or_lose(embedded, part, args);
}

static bool redis_answers(const struct embedded *embedded) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/redis.sock", embedded->sockets);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool answers = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return answers;
}

static void on_probe(void *arg) {
    struct embedded *embedded = arg;
    if (!embedded->is_started) {
        embedded->is_started = true;
        start_redis(embedded);
    } else if (embedded->phase == PHASE_REDIS && redis_answers(embedded)) {
        embedded->phase = PHASE_COORDINATOR;
        start_coordinator(embedded);
    } else if (embedded->phase == PHASE_COORDINATOR &&
               access(embedded->address + strlen("ipc://"), F_OK) == 0) {
        embedded->phase = PHASE_RUNNING;
        loop_timer_stop(embedded->probe);
        loop_timer_stop(embedded->deadline);
        embedded->handlers.on_ready(embedded->handlers.arg, embedded->address);
    }
}

void embedded_start_workers(struct embedded *embedded) {
    for (size_t i = 0; i < embedded->n_parts; i++) {
        struct part *part = &embedded->parts[i];
        if (part->kind == PART_WORKER && part->pid == 0 && embedded->phase == PHASE_RUNNING) {
            start_worker(embedded, part);
        }
    }
}

// ---- Ending -------------------------------------------------------------------------------------

// log_tail appends the last lines of a part's log.
static void log_tail(const struct embedded *embedded, const struct part *part, char *text,
                     size_t size) {
    char path[PATH_LONGEST + 64], block[LOG_TAIL_BYTES + 1];
    snprintf(path, sizeof(path), "%s/%s.log", embedded->state, part->name);
    *text = '\0';
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    if (fseek(file, -LOG_TAIL_BYTES, SEEK_END) != 0) {
        rewind(file);
    }
    size_t n = fread(block, 1, LOG_TAIL_BYTES, file);
    fclose(file);
    while (n > 0 && block[n - 1] == '\n') {
        n--;
    }
    size_t from = n;
    for (int lines = 0; from > 0; from--) {
        lines += block[from - 1] == '\n';
        if (lines == LOG_TAIL_LINES) {
            break;
        }
    }
    slice_copy((struct slice){block + from, n - from}, text, size);
}

// start_again is the timer of a part that ended by itself.
static void start_again(void *arg) {
    struct part *part = arg;
    struct embedded *embedded = part->embedded;
    if (embedded->phase != PHASE_RUNNING || part->pid != 0) {
        return;
    }
    switch (part->kind) {
    case PART_REDIS:
        start_redis(embedded);
        break;
    case PART_COORDINATOR:
        start_coordinator(embedded);
        break;
    case PART_WORKER:
        start_worker(embedded, part);
        break;
    }
}

// may_start_again counts an end, and says whether the part gets another life.
static bool may_start_again(struct embedded *embedded, struct part *part, int status) {
    if (clock_us() - part->began_us > (int64_t)LIVED_MS * 1000) {
        part->n_ended = part->n_failed = 0;
    }
    part->n_ended++;
    part->n_failed += !WIFSIGNALED(status);
    return embedded->phase == PHASE_RUNNING && part->n_failed < FAILED_MOST &&
           part->n_ended < ENDED_MOST;
}

static void part_ended(struct embedded *embedded, struct part *part, int status) {
    part->pid = 0;
    if (part->was_told || embedded->phase >= PHASE_STOPPING) {
        return;
    }
    char tail[LOG_TAIL_BYTES + 1], how[64];
    if (WIFSIGNALED(status)) {
        snprintf(how, sizeof(how), "was killed by signal %d", WTERMSIG(status));
    } else {
        snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(status));
    }
    struct error why = {0};
    if (may_start_again(embedded, part, status)) {
        error_set(&why, 0, "%s %s; it is started again", part->name, how);
        int64_t wait_ms = (int64_t)AGAIN_MS * part->n_ended;
        loop_timer_start(part->again, wait_ms < AGAIN_MOST_MS ? wait_ms : AGAIN_MOST_MS, 0);
        embedded->handlers.on_again(embedded->handlers.arg, part->kind == PART_COORDINATOR, &why);
        return;
    }
    log_tail(embedded, part, tail, sizeof(tail));
    error_set(&why, 0, "%s %s; its log %s/%s.log ends with:\n%s", part->name, how, embedded->state,
              part->name, tail);
    lost(embedded, &why);
}

// tell signals every running part of a kind; returns how many there are.
static size_t tell(struct embedded *embedded, enum part_kind kind, int signal) {
    size_t n = 0;
    for (size_t i = 0; i < embedded->n_parts; i++) {
        struct part *part = &embedded->parts[i];
        if (part->kind == kind && part->pid > 0) {
            n++;
            if (!part->was_told || signal == SIGKILL) {
                part->was_told = true;
                kill(part->pid, signal);
            }
        }
    }
    return n;
}

// stop_next tells the next kind of parts to end, when those before have.
static void stop_next(struct embedded *embedded) {
    for (enum part_kind kind = PART_WORKER; kind <= PART_REDIS; kind++) {
        // Nobody reads the data of a folder that is about to go: Redis need not tidy up.
        bool at_once = kind == PART_REDIS && embedded->config.is_scratch;
        int64_t wait = kind == PART_WORKER ? embedded->grace_ms : STOP_MS;
        if (tell(embedded, kind, at_once || wait == 0 ? SIGKILL : SIGTERM) > 0) {
            loop_timer_start(embedded->deadline, wait > 0 ? wait : STOP_MS, 0);
            return;
        }
    }
    embedded->phase = PHASE_STOPPED;
    loop_timer_stop(embedded->deadline);
    embedded->handlers.on_stopped(embedded->handlers.arg);
}

static void on_child(void *unused) {
    struct embedded *embedded = of_signal;
    if (embedded == NULL) {
        return;
    }
    bool any = false;
    for (size_t i = 0; i < embedded->n_parts; i++) {
        struct part *part = &embedded->parts[i];
        int status;
        if (part->pid > 0 && waitpid(part->pid, &status, WNOHANG) == part->pid) {
            part_ended(embedded, part, status);
            any = true;
        }
    }
    if (any && embedded->phase == PHASE_STOPPING) {
        stop_next(embedded);
    }
}

static void on_deadline(void *arg) {
    struct embedded *embedded = arg;
    if (embedded->phase < PHASE_RUNNING) {
        struct error why = {0};
        struct part *part = part_of(
            embedded, embedded->phase == PHASE_REDIS ? PART_REDIS : PART_COORDINATOR);
        error_set(&why, 0, "%s did not get ready in %d s; see %s/%s.log", part->name,
                  START_MS / 1000, embedded->state, part->name);
        lost(embedded, &why);
        return;
    }
    for (enum part_kind kind = PART_WORKER; kind <= PART_REDIS; kind++) {
        if (tell(embedded, kind, SIGKILL) > 0) {
            return;
        }
    }
}

void embedded_stop(struct embedded *embedded, int64_t grace_ms) {
    if (embedded->phase == PHASE_STOPPED) {
        return;
    }
    embedded->phase = PHASE_STOPPING;
    embedded->grace_ms = grace_ms;
    loop_timer_stop(embedded->probe);
    stop_next(embedded);
}

// ---- Life ---------------------------------------------------------------------------------------

static void add_part(struct embedded *embedded, enum part_kind kind, const char *name) {
    size_t n = embedded->n_parts;
    embedded->parts = mem_realloc(embedded->parts, (n + 1) * sizeof(*embedded->parts));
    embedded->parts[n] = (struct part){.kind = kind};
    slice_copy(slice_of(name), embedded->parts[n].name, sizeof(embedded->parts[n].name));
    embedded->n_parts++;
}

struct embedded *embedded_new(struct loop *loop, const struct embedded_config *config,
                              const struct embedded_handlers *handlers, struct error *why) {
    struct embedded *embedded = mem_zalloc(sizeof(*embedded));
    embedded->config = *config;
    embedded->handlers = *handlers;
    embedded->loop = loop;
    embedded->state = config->state->path;
    if (find_programs(embedded, why) < 0 || choose_sockets(embedded, why) < 0) {
        embedded_free(embedded);
        return NULL;
    }
    snprintf(embedded->address, sizeof(embedded->address), "ipc://%s/coordinator.sock",
             embedded->sockets);
    add_part(embedded, PART_REDIS, "redis");
    add_part(embedded, PART_COORDINATOR, "coordinator");
    for (int64_t i = 0; i < config->workers; i++) {
        char name[48];
        snprintf(name, sizeof(name), "worker-%lld", (long long)i + 1);
        add_part(embedded, PART_WORKER, name);
    }
    for (size_t i = 0; i < embedded->n_parts; i++) {
        embedded->parts[i].embedded = embedded;
        embedded->parts[i].again = loop_add_timer(loop, start_again, &embedded->parts[i]);
    }
    embedded->probe = loop_add_timer(loop, on_probe, embedded);
    embedded->deadline = loop_add_timer(loop, on_deadline, embedded);
    of_signal = embedded;
    loop_on_signal(loop, SIGCHLD, on_child, NULL);
    loop_timer_start(embedded->probe, 0, PROBE_MS);
    loop_timer_start(embedded->deadline, START_MS, 0);
    return embedded;
}

void embedded_free(struct embedded *embedded) {
    if (embedded == NULL) {
        return;
    }
    of_signal = NULL;
    for (size_t i = 0; i < embedded->n_parts; i++) {
        if (embedded->parts[i].again != NULL) {
            loop_timer_stop(embedded->parts[i].again);
        }
        if (embedded->parts[i].pid > 0) {
            kill(embedded->parts[i].pid, SIGKILL);
            waitpid(embedded->parts[i].pid, NULL, 0);
        }
    }
    if (embedded->made_sockets && *embedded->sockets != '\0') {
        state_remove_folder(embedded->sockets);
    }
    free(embedded->parts);
    free(embedded);
}
