/* Against a server of the test's own. Names are resolved by the getaddrinfo below, which takes the
 * place of the system's in this program, libcurl included. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "server/picture/fetch.h"
#include "server/picture/fetch_url.h"
#include "tests/unit/picture_server.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

enum { MAX_FETCHES = 32 };

typedef struct rig {
    picture_server server;
    uv_loop_t loop;
    cog_fetcher *fetcher;
    cog_fetch fetch[MAX_FETCHES];
    int n_fetches, n_done;
    char domain[64];
} rig;

/* ------------------------------------------------------------------ names */

static atomic_int n_lookups, n_looks, n_given_up;
static atomic_bool may_give_up;

static struct addrinfo *found(const char *address, int port, struct addrinfo *next)
{
    struct addrinfo *a = calloc(1, sizeof(*a) + sizeof(struct sockaddr_in));
    struct sockaddr_in *in = (struct sockaddr_in *)(a + 1);

    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)port);
    inet_pton(AF_INET, address, &in->sin_addr);
    *a = (struct addrinfo){ .ai_family = AF_INET,
                            .ai_socktype = SOCK_STREAM,
                            .ai_protocol = IPPROTO_TCP,
                            .ai_addrlen = sizeof(*in),
                            .ai_addr = (struct sockaddr *)in,
                            .ai_next = next };
    return a;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    int port = service ? atoi(service) : 0;
    int n = atomic_fetch_add(&n_lookups, 1);

    if (strcmp(name, "slow.test") == 0) {
        for (int i = 0; i < 10000 && !atomic_load(&may_give_up); i++)
            usleep(1000);
        atomic_fetch_add(&n_given_up, 1);
        return EAI_AGAIN;
    }
    if (strcmp(name, "pictures.test") == 0)
        *out = found("127.0.0.1", port, NULL);
    else if (strcmp(name, "private.test") == 0)
        *out = found("10.0.0.1", port, NULL);
    else if (strcmp(name, "metadata.test") == 0)
        *out = found("169.254.169.254", port, NULL);
    else if (strcmp(name, "loopback.test") == 0)
        *out = found("127.0.0.2", port, NULL);
    else if (strcmp(name, "both.test") == 0)
        *out = found("192.168.0.1", port, found("127.0.0.2", port, NULL));
    else if (strcmp(name, "rebind.test") == 0)
        *out = found(n == 0 ? "127.0.0.1" : "127.0.0.2", port, NULL);
    else
        return EAI_NONAME;
    return 0;
}

void freeaddrinfo(struct addrinfo *a)
{
    while (a) {
        struct addrinfo *next = a->ai_next;

        free(a);
        a = next;
    }
}

/* Threads of libcurl that nobody waits for must not outlive the test. */
static void end_lookups(void)
{
    atomic_store(&may_give_up, true);
    while (atomic_load(&n_given_up) < 1)
        usleep(1000);
}

/* The server's address stands for a public one; the rest of the machine's are what they are. */
static bool is_allowed(const struct sockaddr *a)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a;

    atomic_fetch_add(&n_looks, 1);
    return (a->sa_family == AF_INET && ntohl(in->sin_addr.s_addr) == INADDR_LOOPBACK) ||
           cog_fetch_is_public(a);
}

/* ------------------------------------------------------------------ the rig */

static const cog_fetch_options quick = {
    .connect_ms = 400, .total_ms = 800, .max_transfers = 8, .is_allowed = is_allowed
};

/* For what is none of the test's: it takes as long as it takes. */
static const cog_fetch_options patient = {
    .connect_ms = 60000, .total_ms = 60000, .max_transfers = 8, .is_allowed = is_allowed
};

static void open_rig(rig *r, const cog_fetch_options *opt)
{
    cog_err err;

    *r = (rig){ 0 };
    atomic_store(&n_lookups, 0);
    atomic_store(&n_looks, 0);
    atomic_store(&n_given_up, 0);
    atomic_store(&may_give_up, false);
    picture_server_start(&r->server);
    snprintf(r->domain, sizeof(r->domain), ".test:%d", r->server.port);
    uv_loop_init(&r->loop);
    assert_int_equal(cog_fetcher_open(&r->fetcher, &r->loop, opt, &err), 0);
}

static void close_rig(rig *r)
{
    for (int i = 0; i < r->n_fetches; i++)
        cog_buf_fini(&r->fetch[i].body);
    cog_fetcher_close(r->fetcher);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&r->loop), 0);
    picture_server_stop(&r->server);
}

static void on_done(cog_fetch *f)
{
    rig *r = f->user;

    r->n_done++;
}

static cog_fetch *start(rig *r, const char *host, const char *path, size_t max_bytes,
                        uint64_t deadline_ns)
{
    cog_fetch *f = &r->fetch[r->n_fetches++];
    char *url = cog_sprintf("http://%s:%d%s", host, r->server.port, path);
    const char *domain = r->domain;

    assert_true(r->n_fetches <= MAX_FETCHES);
    *f = (cog_fetch){
        .max_bytes = max_bytes, .deadline_ns = deadline_ns, .done = on_done, .user = r
    };
    assert_int_equal(cog_fetch_url_parse(&f->url, url, &domain, 1), 0);
    cog_free(url);
    cog_fetch_start(r->fetcher, f);
    return f;
}

static void wait_for_all(rig *r)
{
    while (r->n_done < r->n_fetches)
        uv_run(&r->loop, UV_RUN_ONCE);
}

static cog_fetch *fetch(rig *r, const char *host, const char *path)
{
    cog_fetch *f = start(r, host, path, 1000, UINT64_MAX);

    wait_for_all(r);
    return f;
}

/* ------------------------------------------------------------------ what comes */

static void pictures_come(void **state)
{
    static const char *const paths[] = { "/ok", "/chunked", "/until-close", "/gzip", "/ok" };
    rig r;

    setenv("http_proxy", "http://127.0.0.1:1", 1); /* nobody's, and nobody asks it */
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    open_rig(&r, &quick);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        cog_fetch *f = fetch(&r, "pictures.test", paths[i]);

        assert_int_equal(f->status, COG_FETCH_OK);
        assert_int_equal(f->body.len, 7);
        assert_string_equal(f->body.data, "picture");
    }
    assert_int_equal(fetch(&r, "pictures.test", "/empty")->status, COG_FETCH_OK);
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    close_rig(&r);
}

static void nothing_of_a_client_is_passed_on(void **state)
{
    rig r;

    open_rig(&r, &quick);
    fetch(&r, "pictures.test", "/ok"); /* gives a cookie */
    fetch(&r, "pictures.test", "/ok");
    assert_memory_equal(r.server.last_head, "GET /ok HTTP/1.1\r\nHost: pictures.test:", 38);
    assert_null(strcasestr(r.server.last_head, "cookie"));
    assert_null(strcasestr(r.server.last_head, "authorization"));
    assert_null(strcasestr(r.server.last_head, "accept-encoding"));
    assert_non_null(strstr(r.server.last_head, "User-Agent: cogwheel/"));
    close_rig(&r);
}

static void failures(void **state)
{
    static const struct {
        const char *path;
        cog_fetch_status status;
    } cases[] = {
        { "/not-found", COG_FETCH_REFUSED },  { "/forbidden", COG_FETCH_REFUSED },
        { "/no-content", COG_FETCH_REFUSED }, { "/partial", COG_FETCH_REFUSED },
        { "/broken", COG_FETCH_LATER },       { "/busy", COG_FETCH_LATER },
        { "/limit", COG_FETCH_LATER },        { "/cut", COG_FETCH_LATER },
        { "/nothing", COG_FETCH_LATER },      { "/old", COG_FETCH_REFUSED },
    };
    rig r;

    open_rig(&r, &quick);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_fetch *f = fetch(&r, "pictures.test", cases[i].path);

        if (f->status != cases[i].status || f->body.data)
            fail_msg("%s: %d, curl %d, HTTP %d", cases[i].path, f->status, f->curl_code,
                     f->http_status);
    }
    assert_int_equal(fetch(&r, "unknown.test", "/ok")->status, COG_FETCH_REFUSED);
    close_rig(&r);
}

static void redirects_are_not_followed(void **state)
{
    static const char *const paths[] = { "/redirect", "/redirect-inside", "/redirect-file" };
    rig r;

    open_rig(&r, &quick);
    for (int i = 0; i < 3; i++) {
        picture_server_reset(&r.server);
        assert_int_equal(fetch(&r, "pictures.test", paths[i])->status, COG_FETCH_REFUSED);
        assert_int_equal(r.server.n_requests, 1);
    }
    close_rig(&r);
}

/* ------------------------------------------------------------------ where from */

static void private_addresses_are_not_connected_to(void **state)
{
    static const char *const hosts[] = { "private.test", "metadata.test", "loopback.test",
                                         "both.test" };
    rig r;

    open_rig(&r, &quick);
    for (int i = 0; i < 4; i++) {
        cog_fetch *f = fetch(&r, hosts[i], "/ok");

        if (f->status != COG_FETCH_REFUSED || f->curl_code != CURLE_COULDNT_CONNECT)
            fail_msg("%s: %d, curl %d", hosts[i], f->status, f->curl_code);
    }
    assert_int_equal(r.server.n_requests, 0);
    assert_int_equal(r.server.n_connections, 0);
    close_rig(&r);
}

/* A name that is public when it is looked at and private when it is connected to: there is one
 * look-up, one look, and the connection is to what was looked at. Asked anew it is refused. */
static void a_name_that_changes_gains_nothing(void **state)
{
    rig r;

    open_rig(&r, &quick);
    assert_int_equal(fetch(&r, "rebind.test", "/ok")->status, COG_FETCH_OK);
    assert_int_equal(atomic_load(&n_lookups), 1);
    assert_int_equal(atomic_load(&n_looks), 1);
    close_rig(&r);
    open_rig(&r, &quick);
    atomic_store(&n_lookups, 1);
    assert_int_equal(fetch(&r, "rebind.test", "/ok")->status, COG_FETCH_REFUSED);
    assert_int_equal(r.server.n_connections, 0);
    close_rig(&r);
}

/* A server of another program that shows a certificate which nobody signed. */
static pid_t start_tls(const char *dir, int port)
{
    char *make =
        cog_sprintf("openssl req -x509 -newkey rsa:2048 -nodes -keyout %s/key -out %s/cert "
                    "-days 2 -subj /CN=pictures.test "
                    "-addext subjectAltName=DNS:pictures.test 2>%s/log",
                    dir, dir, dir);
    char *key = cog_sprintf("%s/key", dir), *cert = cog_sprintf("%s/cert", dir);
    char *at = cog_sprintf("127.0.0.1:%d", port);
    pid_t child = -1;

    if (system(make) == 0) {
        child = fork();
        if (child == 0) {
            dup2(open("/dev/null", O_RDWR), STDIN_FILENO);
            dup2(STDIN_FILENO, STDOUT_FILENO);
            dup2(STDIN_FILENO, STDERR_FILENO);
            execlp("openssl", "openssl", "s_server", "-accept", at, "-key", key, "-cert", cert,
                   "-www", NULL);
            _exit(127);
        }
    }
    cog_free(make);
    cog_free(key);
    cog_free(cert);
    cog_free(at);
    return child;
}

static int free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static void certificates_are_verified(void **state)
{
    char dir[] = "cog-fetch-XXXXXX";
    const char *domain;
    char *url, *command;
    int port = free_port();
    pid_t child;
    cog_fetch *f = NULL;
    rig r;

    assert_non_null(mkdtemp(dir));
    child = start_tls(dir, port);
    assert_true(child > 0);
    command = cog_sprintf("rm -rf %s", dir);
    open_rig(&r, &patient);
    snprintf(r.domain, sizeof(r.domain), ".test:%d", port);
    domain = r.domain;
    url = cog_sprintf("https://pictures.test:%d/", port);
    do { /* until it listens */
        assert_true(r.n_fetches < MAX_FETCHES);
        usleep(100000);
        f = &r.fetch[r.n_fetches++];
        *f = (cog_fetch){
            .max_bytes = 1 << 20, .deadline_ns = UINT64_MAX, .done = on_done, .user = &r
        };
        assert_int_equal(cog_fetch_url_parse(&f->url, url, &domain, 1), 0);
        cog_fetch_start(r.fetcher, f);
        wait_for_all(&r);
    } while (f->curl_code == CURLE_COULDNT_CONNECT);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(system(command), 0);
    assert_int_equal(f->status, COG_FETCH_REFUSED);
    assert_int_equal(f->curl_code, CURLE_PEER_FAILED_VERIFICATION);
    close_rig(&r);
    cog_free(command);
    cog_free(url);
}

/* ------------------------------------------------------------------ how much, how long */

static void sizes_are_limited(void **state)
{
    rig r;
    cog_fetch *f;

    open_rig(&r, &quick);
    f = start(&r, "pictures.test", "/ok", 7, UINT64_MAX);
    wait_for_all(&r);
    assert_int_equal(f->status, COG_FETCH_OK);
    for (int i = 0; i < 3; i++) {
        static const char *const paths[] = { "/ok", "/chunked", "/until-close" };

        f = start(&r, "pictures.test", paths[i], 6, UINT64_MAX);
        wait_for_all(&r);
        assert_int_equal(f->status, COG_FETCH_TOO_LARGE);
        assert_null(f->body.data);
    }
    f = start(&r, "pictures.test", "/endless", 1 << 20, UINT64_MAX);
    wait_for_all(&r);
    assert_int_equal(f->status, COG_FETCH_TOO_LARGE);
    close_rig(&r);
}

static void slow_servers_are_left(void **state)
{
    rig r;

    open_rig(&r, &quick);
    start(&r, "pictures.test", "/hang", 1000, UINT64_MAX);
    start(&r, "pictures.test", "/slow", 1000, UINT64_MAX);
    start(&r, "slow.test", "/ok", 1000, UINT64_MAX);
    wait_for_all(&r);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(r.fetch[i].status, COG_FETCH_LATER);
        assert_int_equal(r.fetch[i].curl_code, CURLE_OPERATION_TIMEDOUT);
    }
    end_lookups();
    close_rig(&r);
}

/* Connections that nobody accepts: the queue of a listening socket is full. */
static void connecting_is_limited(void **state)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(a);
    int full = socket(AF_INET, SOCK_STREAM, 0), held[4];
    cog_fetch_options opt = quick;
    rig r;
    int port;
    cog_fetch *f;

    opt.total_ms = 600000; /* the test's own limit is shorter */
    open_rig(&r, &opt);
    assert_int_equal(bind(full, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(full, 0), 0);
    assert_int_equal(getsockname(full, (struct sockaddr *)&a, &len), 0);
    for (int i = 0; i < 4; i++) {
        held[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(held[i], (struct sockaddr *)&a, len);
    }
    port = r.server.port;
    r.server.port = ntohs(a.sin_port);
    snprintf(r.domain, sizeof(r.domain), ".test:%d", r.server.port);
    f = fetch(&r, "pictures.test", "/ok");
    assert_int_equal(f->status, COG_FETCH_LATER);
    assert_int_equal(f->curl_code, CURLE_OPERATION_TIMEDOUT);
    r.server.port = port;
    for (int i = 0; i < 4; i++)
        close(held[i]);
    close(full);
    close_rig(&r);
}

static void deadlines_pass(void **state)
{
    cog_fetch_options opt = quick;
    rig r;

    opt.total_ms = 600000;
    opt.max_transfers = 1;
    open_rig(&r, &opt);
    start(&r, "pictures.test", "/hang", 1000, cog_now_ns() + 200000000);
    start(&r, "pictures.test", "/ok", 1000, cog_now_ns() + 100000000); /* waits for the first */
    start(&r, "pictures.test", "/ok", 1000, cog_now_ns());
    start(&r, "pictures.test", "/ok", 1000, UINT64_MAX);
    wait_for_all(&r);
    assert_int_equal(r.fetch[0].status, COG_FETCH_LATER);
    assert_int_equal(r.fetch[1].status, COG_FETCH_LATER);
    assert_int_equal(r.fetch[2].status, COG_FETCH_LATER);
    assert_int_equal(r.fetch[3].status, COG_FETCH_OK);
    close_rig(&r);
}

static void canceled_ones_end_at_once(void **state)
{
    cog_fetch_options opt = quick;
    rig r;

    opt.total_ms = 600000;
    opt.max_transfers = 2;
    open_rig(&r, &opt);
    start(&r, "pictures.test", "/hang", 1000, UINT64_MAX);
    start(&r, "pictures.test", "/slow", 1000, UINT64_MAX);
    start(&r, "pictures.test", "/hang", 1000, UINT64_MAX); /* waits */
    cog_fetch_cancel(start(&r, "pictures.test", "/hang", 1000, UINT64_MAX));
    while (picture_server_requests(&r.server) < 2)
        usleep(1000);
    for (int i = 2; i >= 0; i--) /* the one that waits first: it must not get another's place */
        cog_fetch_cancel(&r.fetch[i]);
    wait_for_all(&r);
    for (int i = 0; i < 4; i++)
        assert_int_equal(r.fetch[i].status, COG_FETCH_CANCELED);
    assert_int_equal(r.server.n_requests, 2);
    /* fine when it is over already, before anybody was told */
    start(&r, "pictures.test", "/ok", 1000, UINT64_MAX);
    usleep(100000);
    cog_fetch_cancel(&r.fetch[4]);
    wait_for_all(&r);
    assert_true(r.fetch[4].status == COG_FETCH_OK || r.fetch[4].status == COG_FETCH_CANCELED);
    close_rig(&r);
}

static void a_name_that_is_not_found_holds_up_nobody(void **state)
{
    cog_fetch_options opt = quick;
    rig r;

    opt.total_ms = 600000;
    open_rig(&r, &opt);
    start(&r, "slow.test", "/ok", 1000, UINT64_MAX);
    while (atomic_load(&n_lookups) < 1)
        usleep(1000);
    cog_fetch_cancel(&r.fetch[0]);
    assert_int_equal(fetch(&r, "pictures.test", "/ok")->status, COG_FETCH_OK);
    assert_int_equal(r.fetch[0].status, COG_FETCH_CANCELED);
    assert_int_equal(atomic_load(&n_given_up), 0);
    end_lookups();
    close_rig(&r);
}

static void only_so_many_at_a_time(void **state)
{
    cog_fetch_options opt = quick;
    rig r;

    opt.total_ms = 600000;
    opt.max_transfers = 3;
    open_rig(&r, &opt);
    for (int i = 0; i < 20; i++)
        start(&r, "pictures.test", "/later", 1000, UINT64_MAX);
    wait_for_all(&r);
    for (int i = 0; i < 20; i++)
        assert_int_equal(r.fetch[i].status, COG_FETCH_OK);
    assert_int_equal(r.server.n_requests, 20);
    close_rig(&r);
    assert_int_equal(r.server.max_late, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_come),
        cmocka_unit_test(nothing_of_a_client_is_passed_on),
        cmocka_unit_test(failures),
        cmocka_unit_test(redirects_are_not_followed),
        cmocka_unit_test(private_addresses_are_not_connected_to),
        cmocka_unit_test(a_name_that_changes_gains_nothing),
        cmocka_unit_test(sizes_are_limited),
        cmocka_unit_test(slow_servers_are_left),
        cmocka_unit_test(connecting_is_limited),
        cmocka_unit_test(deadlines_pass),
        cmocka_unit_test(canceled_ones_end_at_once),
        cmocka_unit_test(a_name_that_is_not_found_holds_up_nobody),
        cmocka_unit_test(only_so_many_at_a_time),
        cmocka_unit_test(certificates_are_verified), /* last: needs openssl */
    };
    size_t n = sizeof(tests) / sizeof(tests[0]);

    /* cmocka's skip is "not ok" in TAP: a failure to who reads it. */
    if (system("command -v openssl >/dev/null") != 0) {
        puts("# certificates_are_verified is left out: there is no openssl");
        n--;
    }
    return _cmocka_run_group_tests("fetch", tests, n, NULL, NULL);
}
