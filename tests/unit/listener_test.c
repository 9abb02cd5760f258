// Listening: what an address may look like, where it then listens, and what is told when it cannot.
#include "common/listener.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct {
    const char *name, *address;
} good[] = {
    {"a host and a port", "127.0.0.1:0"},
    {"a name and a port", "localhost:0"},
    {"a port behind a colon", ":0"},
    {"a port alone", "0"},
};

static void addresses_that_are_listened_at(void **state) {
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct error why = {0};
        int fd = listener_open(good[i].address, &why);
        if (fd < 0) {
            fail_msg("%s: %s", good[i].name, why.text);
        }
        assert_in_range(listener_port(fd), 1, 65535);
        assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
        close(fd);
    }
}

static void without_a_host_only_this_machine_is_served(void **state) {
    struct error why = {0};
    int fd = listener_open("0", &why);
    assert_true(fd >= 0);
    struct sockaddr_in at = {0};
    socklen_t n = sizeof(at);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    assert_int_equal(at.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(listener_port(fd), ntohs(at.sin_port));
    close(fd);
}

static void brackets_hold_an_ipv6_address(void **state) {
    struct error why = {0};
    int fd = listener_open("[::1]:0", &why);
    if (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT) {
        skip(); // this machine has no IPv6
    }
    assert_true(fd >= 0);
    struct sockaddr_in6 at = {0};
    socklen_t n = sizeof(at);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    assert_memory_equal(&at.sin6_addr, &in6addr_loopback, sizeof(at.sin6_addr));
    assert_int_equal(listener_port(fd), ntohs(at.sin6_port));
    close(fd);
}

static const struct {
    const char *name, *address;
} bad[] = {
    {"nothing", ""},
    {"a host alone", "localhost"},
    {"no port behind the colon", "127.0.0.1:"},
    {"a port that is a word", "127.0.0.1:http"},
    {"more behind the port", "127.0.0.1:80x"},
    {"a sign", "127.0.0.1:-1"},
    {"a port there is not", "127.0.0.1:65536"},
    {"a port longer than any number", "127.0.0.1:99999999999999999999999999"},
};

static void what_is_no_address_is_said_so(void **state) {
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error why = {0};
        int rc = listener_open(bad[i].address, &why);
        char want[128];
        snprintf(want, sizeof(want), "address: got '%s', want host:port with port 0..65535", bad[i].address);
        if (rc != -EINVAL || strcmp(why.text, want) != 0) {
            fail_msg("%s: got %d, %s", bad[i].name, rc, why.text);
        }
    }
}

static void a_port_in_use_is_said_so(void **state) {
    struct error why = {0};
    char again[32], want[64];
    int fd = listener_open("0", &why);
    assert_true(fd >= 0);
    snprintf(again, sizeof(again), "127.0.0.1:%d", listener_port(fd));
    snprintf(want, sizeof(want), "cannot listen on '%s': ", again);
    assert_int_equal(listener_open(again, &why), -EADDRINUSE);
    assert_memory_equal(why.text, want, strlen(want));
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_that_are_listened_at),
        cmocka_unit_test(without_a_host_only_this_machine_is_served),
        cmocka_unit_test(brackets_hold_an_ipv6_address),
        cmocka_unit_test(what_is_no_address_is_said_so),
        cmocka_unit_test(a_port_in_use_is_said_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
