// load: sends single records at an even rate and prints how long each took to be answered, for the latency bench.
//
//   load queue IN OUT RATE SECONDS   PUSH to IN, PULL from OUT: rows {"id": "N", "text": ...} and their results
//   load http URL RATE SECONDS       POST of the call itself, by curl
//
// Prints "sent answered p50_us p99_us us": us until the last answer. Latency counts from when a record was due, so a
// stall is not hidden. A rate that nothing can keep up with finds out what can.
#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

static const char text[] = "The mic is great.";
static const char body[] =
    "{\"model\":\"gpt-5.4-mini\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a sentiment analyzer. Always "
    "respond with valid JSON.\"},{\"role\":\"user\",\"content\":\"Analyze sentiment. Return JSON: {\\\"sentiment\\\": "
    "\\\"<positive|negative|neutral>\\\"}\\n\\nThe mic is great.\"}]}";

struct load {
    int64_t begin_us, gap_us; // record i is due at begin_us + i * gap_us
    int64_t n, sent, answered;
    int64_t last_us; // when the last answer came
    int64_t *took_us;
};

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t due_us(const struct load *load, int64_t i) {
    return load->begin_us + i * load->gap_us;
}

static void answered(struct load *load, int64_t i) {
    if (i >= 0 && i < load->n && load->took_us[i] < 0) {
        load->last_us = now_us();
        load->took_us[i] = load->last_us - due_us(load, i);
        load->answered++;
    }
}

static bool is_over(const struct load *load) {
    return load->answered >= load->n || now_us() > due_us(load, load->n) + 10000000;
}

// tick makes a descriptor that can be read when records are due, so that waiting takes no processor time from what is
// measured. -1 on failure.
static int tick(const struct load *load) {
    struct itimerspec every = {.it_interval.tv_nsec = (long)load->gap_us * 1000, .it_value = {
        .tv_sec = load->begin_us / 1000000, .tv_nsec = load->begin_us % 1000000 * 1000}};
    every.it_interval.tv_sec = every.it_interval.tv_nsec / 1000000000;
    every.it_interval.tv_nsec %= 1000000000;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    return fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &every, NULL) == 0 ? fd : -1;
}

static void ticked(int fd) {
    uint64_t n;
    ssize_t rc = read(fd, &n, sizeof(n));
    (void)rc; // what is due is told by the clock
}

static int queue(struct load *load, const char *in, const char *out) {
    void *context = zmq_ctx_new(), *push = zmq_socket(context, ZMQ_PUSH), *pull = zmq_socket(context, ZMQ_PULL);
    if (zmq_connect(push, in) != 0 || zmq_connect(pull, out) != 0) {
        fprintf(stderr, "load: %s or %s: %s\n", in, out, zmq_strerror(zmq_errno()));
        return 1;
    }
    load->begin_us = now_us() + 200000; // the connections stand by then
    int timer = tick(load);
    while (!is_over(load)) {
        ticked(timer);
        for (; load->sent < load->n && due_us(load, load->sent) <= now_us(); load->sent++) {
            char row[128];
            int n = snprintf(row, sizeof(row), "{\"id\":\"%lld\",\"text\":\"%s\"}", (long long)load->sent, text);
            if (zmq_send(push, row, (size_t)n, ZMQ_DONTWAIT) < 0) {
                break;
            }
        }
        zmq_pollitem_t items[] = {{.socket = pull, .events = ZMQ_POLLIN}, {.fd = timer, .events = ZMQ_POLLIN}};
        zmq_poll(items, 2, 1000);
        char result[4096];
        int n;
        while ((n = zmq_recv(pull, result, sizeof(result) - 1, ZMQ_DONTWAIT)) >= 0) {
            result[(size_t)n < sizeof(result) ? (size_t)n : sizeof(result) - 1] = '\0';
            const char *id = strstr(result, "\"id\":\"");
            answered(load, id != NULL ? atoll(id + 6) : -1);
        }
    }
    int none = 0;
    zmq_setsockopt(push, ZMQ_LINGER, &none, sizeof(none));
    zmq_close(push);
    zmq_close(pull);
    zmq_ctx_term(context);
    return 0;
}

static size_t discard(char *bytes, size_t size, size_t n, void *arg) {
    (void)bytes, (void)arg;
    return size * n;
}

static int http(struct load *load, const char *url) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURLM *multi = curl_multi_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Authorization: Bearer k");
    load->begin_us = now_us() + 200000;
    int timer = tick(load);
    while (!is_over(load)) {
        ticked(timer);
        for (; load->sent < load->n && due_us(load, load->sent) <= now_us(); load->sent++) {
            CURL *easy = curl_easy_init();
            curl_easy_setopt(easy, CURLOPT_URL, url);
            curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
            curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
            curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
            curl_easy_setopt(easy, CURLOPT_PRIVATE, (char *)(intptr_t)load->sent);
            curl_multi_add_handle(multi, easy);
        }
        int running, left;
        curl_multi_perform(multi, &running);
        for (CURLMsg *m; (m = curl_multi_info_read(multi, &left)) != NULL;) {
            char *i;
            long status = 0;
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &i);
            curl_easy_getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &status);
            answered(load, status == 200 ? (int64_t)(intptr_t)i : -1);
            curl_multi_remove_handle(multi, m->easy_handle);
            curl_easy_cleanup(m->easy_handle);
        }
        struct curl_waitfd due = {.fd = timer, .events = CURL_WAIT_POLLIN};
        curl_multi_poll(multi, &due, 1, 1000, NULL);
    }
    curl_multi_cleanup(multi);
    curl_slist_free_all(headers);
    return 0;
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// report leaves out the first tenth, and counts a record without an answer as the longest.
static void report(struct load *load) {
    int64_t from = load->n / 10, n = load->n - from;
    for (int64_t i = 0; i < load->n; i++) {
        load->took_us[i] = load->took_us[i] < 0 ? INT64_MAX : load->took_us[i];
    }
    qsort(load->took_us + from, (size_t)n, sizeof(*load->took_us), by_size);
    printf("%lld %lld %lld %lld %lld\n", (long long)load->sent, (long long)load->answered,
           (long long)load->took_us[from + n / 2], (long long)load->took_us[from + n * 99 / 100],
           (long long)(load->last_us - load->begin_us));
}

int main(int argc, char **argv) {
    bool is_queue = argc == 6 && strcmp(argv[1], "queue") == 0, is_http = argc == 5 && strcmp(argv[1], "http") == 0;
    double rate = is_queue || is_http ? atof(argv[argc - 2]) : 0, seconds = rate > 0 ? atof(argv[argc - 1]) : 0;
    if (rate <= 0 || rate > 1000000 || seconds <= 0 || seconds > 3600 || rate * seconds < 10) {
        fprintf(stderr, "usage: load queue IN OUT RATE SECONDS | load http URL RATE SECONDS\n");
        return 2;
    }
    struct load load = {.gap_us = (int64_t)(1000000 / rate), .n = (int64_t)(rate * seconds)};
    load.took_us = malloc((size_t)load.n * sizeof(*load.took_us));
    if (load.took_us == NULL) {
        return 1;
    }
    memset(load.took_us, 0xff, (size_t)load.n * sizeof(*load.took_us));
    int rc = is_queue ? queue(&load, argv[2], argv[3]) : http(&load, argv[2]);
    if (rc == 0) {
        report(&load);
    }
    free(load.took_us);
    return rc;
}
