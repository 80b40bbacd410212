/* front.c - the two ends of what frontend.py measures: the real server over the engine's double,
 * and a client that reads many streams and says how old each token is when it arrives.
 *
 *     front serve                       prints its address; ends with standard input
 *     front streams ADDRESS N MS S      N streams with a token every MS, for S seconds, as JSON
 *
 * The engine's double writes into each token when it was made (CLOCK_MONOTONIC), so the age holds
 * the queue to the loop, the server's writing, the kernel and the client's reading. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/unit/server_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BLOCK = 65536, MAX_CONNECTIONS = 2000, MS = 1000000, MAX_SPREAD = 1000 * MS };

/* ---------------------------------------------------------------- the server */

static int serve(void)
{
    fixture *f = fixture_new();
    char byte;

    f->cfg.max_connections = MAX_CONNECTIONS;
    f->cfg.sse_ping_ms = 0;
    fake_engine_set_queue(f->engine, MAX_CONNECTIONS);
    fixture_start(f);
    printf("%s\n", f->address);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    fixture_free(f);
    return 0;
}

/* ---------------------------------------------------------------- the client */

typedef struct ages {
    float *us; /* [n] microseconds */
    size_t n, room;
} ages;

static void add_age(ages *a, uint64_t made, uint64_t now)
{
    if (a->n == a->room) {
        a->room = a->room ? 2 * a->room : 65536;
        a->us = cog_realloc(a->us, a->room, sizeof(float));
    }
    a->us[a->n++] = (float)((double)(now - made) / 1e3);
}

/* Stamps that arrived whole; one that is cut by the end of the block is left out. */
static void read_stamps(ages *a, const char *text, uint64_t now)
{
    for (const char *p = strchr(text, '@'); p; p = strchr(p + 1, '@')) {
        char *end;
        uint64_t made = strtoull(p + 1, &end, 10);

        if (*end == ' ')
            add_age(a, made, now);
    }
}

static int compare(const void *x, const void *y)
{
    return (*(const float *)x > *(const float *)y) - (*(const float *)x < *(const float *)y);
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* A stream whose first token is here. */
static int open_stream(const char *address, int every_ms)
{
    http_client c = client_open(address);
    char *script = cog_sprintf("stamp count=1000000 every=%d", every_ms);
    char *body = chat_body(script, ",\"stream\":true,\"max_tokens\":3900");
    char *request = cog_sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: "
                                "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                                strlen(body), body);

    if (!client_puts(&c, request) || !client_wait_for(&c, "@")) {
        fprintf(stderr, "no stream from %s: %s\n", address, c.in.len ? c.in.data : "nothing");
        exit(1);
    }
    cog_buf_fini(&c.in);
    cog_free(script);
    cog_free(body);
    cog_free(request);
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    return c.fd;
}

/* Reads what is there until a time; ages may be NULL. */
static void read_until(int epoll, uint64_t end, ages *a)
{
    static char block[BLOCK + 1];
    struct epoll_event ev[1024];
    uint64_t now;

    while ((now = cog_now_ns()) < end) {
        int n = epoll_wait(epoll, ev, 1024, (int)((end - now) / 1000000) + 1);

        for (int i = 0; i < n; i++) {
            ssize_t len = read(ev[i].data.fd, block, BLOCK);

            if (len == 0 || (len < 0 && errno != EAGAIN)) {
                fputs("a stream ended\n", stderr);
                exit(1);
            }
            block[len > 0 ? len : 0] = '\0';
            if (a)
                read_stamps(a, block, cog_now_ns());
        }
    }
}

static int streams(const char *address, int n, int every_ms, int seconds)
{
    int epoll = epoll_create1(0);
    uint64_t begin = cog_now_ns(), spread = (uint64_t)every_ms * MS;
    ages a = { 0 };
    double cpu;

    spread = spread < MAX_SPREAD ? spread : MAX_SPREAD;
    for (int i = 0; i < n; i++) {
        struct epoll_event ev = { .events = EPOLLIN };

        ev.data.fd = open_stream(address, every_ms);
        epoll_ctl(epoll, EPOLL_CTL_ADD, ev.data.fd, &ev);
        /* Over the time between two tokens, as real streams are over many steps. */
        read_until(epoll, begin + spread * (uint64_t)(i + 1) / (uint64_t)n, NULL);
    }
    fputs("open\n", stderr);
    read_until(epoll, cog_now_ns() + 500000000, NULL);
    cpu = cpu_seconds();
    read_until(epoll, cog_now_ns() + (uint64_t)seconds * 1000000000, &a);
    cpu = cpu_seconds() - cpu;
    qsort(a.us, a.n, sizeof(float), compare);
    printf("{\"streams\":%d,\"tokens\":%zu,\"seconds\":%d", n, a.n, seconds);
    if (a.n)
        printf(",\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f", (double)a.us[a.n / 2],
               (double)a.us[a.n * 9 / 10], (double)a.us[a.n * 99 / 100]);
    printf(",\"client_cpu\":%.3f}\n", cpu / seconds);
    fflush(stdout);
    cog_free(a.us);
    return 0;
}

int main(int argc, char **argv)
{
    struct rlimit files;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc == 2 && strcmp(argv[1], "serve") == 0)
        return serve();
    if (argc == 6 && strcmp(argv[1], "streams") == 0)
        return streams(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
    fputs("usage: front serve | front streams ADDRESS N MS SECONDS\n", stderr);
    return 2;
}
