/* listen.c - the server's own listeners: any number, TCP and UNIX, one limit for all. Connections
 * beyond the limit get an answer instead of hanging in a backlog: the first of them are read, so
 * that probes are still answered and others are refused politely; those beyond get one by hand. */
#include "server/internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACKLOG = 1024,
    ACCEPT_BATCH = 16,
    MAX_WATCHERS = 64, /* connections to the address for metrics */
    CALM_MS = 2000,    /* without a shortage: it is over */
};

/* ------------------------------------------------------------------ accept */

static void refuse(cog_server *s, int fd)
{
    s->metrics.refused_connections++;
    cog_http_refuse(fd, COG_API_OVERLOADED);
    shutdown(fd, SHUT_WR);
    close(fd);
}

/* Descriptors are out: the spare one is given up for the moment that it takes to refuse. False when
 * not even that can be done. */
static bool refuse_with_spare(cog_server *s, int listen_fd)
{
    int fd;

    if (s->spare_fd < 0)
        return false;
    close(s->spare_fd);
    fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        refuse(s, fd);
    s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return true;
}

/* A connection that cannot be accepted stays in the backlog and would wake the loop for ever. */
static void rest(cog_listener *l)
{
    l->is_resting = true;
    uv_poll_stop(&l->poll);
}

/* Told once when it begins and once when it is over. */
static void on_shortage(cog_listener *l, int why)
{
    cog_server *s = l->server;

    if (s->shortage_ns == 0)
        cog_log(COG_WARN, "event=accept_fails reason=\"%s\" connections=%d refused=\"new ones\"",
                strerror(why), s->n_open);
    s->shortage_ns = cog_now_ns();
    s->n_shortages++;
    if (!refuse_with_spare(s, l->fd))
        rest(l);
}

/* Of accept: what concerns that one connection only, or nothing. */
static bool is_shortage(int why)
{
    return why == EMFILE || why == ENFILE || why == ENOBUFS || why == ENOMEM;
}

/* Whoever watches gets in when the server is full. */
static bool is_full(const cog_listener *l)
{
    const cog_server *s = l->server;

    return l->is_metrics ? s->n_metrics_open >= MAX_WATCHERS
                         : s->n_open >= s->cfg.max_connections + COG_PROBE_CONNECTIONS;
}

static void on_listen(uv_poll_t *p, int status, int events)
{
    cog_listener *l = p->data;
    cog_server *s = l->server;

    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage addr = { 0 };
        socklen_t len = sizeof(addr);
        int fd = accept4(l->fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (is_shortage(errno))
                on_shortage(l, errno);
            break;
        }
        if (is_full(l))
            refuse(s, fd);
        else
            cog_http_add(l, fd, (struct sockaddr *)&addr, len);
    }
    cog_http_flush(s);
}

void cog_listen_sweep(cog_server *s, uint64_t now)
{
    if (s->shortage_ns == 0)
        return;
    if (s->spare_fd < 0)
        s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (cog_listener *l = s->listeners; l; l = l->next) {
        if (l->is_resting && l->is_polled && s->spare_fd >= 0) {
            l->is_resting = false;
            uv_poll_start(&l->poll, UV_READABLE, on_listen);
        }
    }
    if (s->spare_fd >= 0 && now > s->shortage_ns + (uint64_t)CALM_MS * 1000000) {
        cog_log(COG_INFO, "event=accept_works shortages=%llu", (unsigned long long)s->n_shortages);
        s->shortage_ns = 0;
    }
}

/* ------------------------------------------------------------------ bind */

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)a;
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    return a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static void name_address(cog_listener *l)
{
    struct sockaddr_storage a = { 0 };
    socklen_t len = sizeof(a);
    char host[64], port[8];

    if (getsockname(l->fd, (struct sockaddr *)&a, &len) != 0 ||
        getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    snprintf(l->address, sizeof(l->address), a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
             port);
}

static uint16_t *port_of(struct sockaddr *a)
{
    return a->sa_family == AF_INET6 ? &((struct sockaddr_in6 *)(void *)a)->sin6_port
                                    : &((struct sockaddr_in *)(void *)a)->sin_port;
}

/* Appends a listener; it is the server's. */
static cog_listener *add(cog_server *s, int fd, bool is_metrics)
{
    cog_listener *l = cog_new(cog_listener), **at = &s->listeners;

    l->server = s;
    l->fd = fd;
    l->is_metrics = is_metrics;
    while (*at)
        at = &(*at)->next;
    *at = l;
    return l;
}

/* 0, or an errno. */
static int bind_address(cog_server *s, const struct addrinfo *a, bool is_metrics)
{
    int on = 1, off = 0, fd, why;

    fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) {
        name_address(add(s, fd, is_metrics));
        return 0;
    }
    why = errno;
    close(fd);
    return why;
}

static bool is_repeated(const struct addrinfo *list, const struct addrinfo *a)
{
    for (const struct addrinfo *b = list; b != a; b = b->ai_next) {
        if (b->ai_addrlen == a->ai_addrlen && memcmp(b->ai_addr, a->ai_addr, a->ai_addrlen) == 0)
            return true;
    }
    return false;
}

/* Of port 0 all get the port that the first one got. */
static void share_port(const cog_listener *l, struct addrinfo *list)
{
    struct sockaddr_storage a = { 0 };
    socklen_t len = sizeof(a);

    if (getsockname(l->fd, (struct sockaddr *)&a, &len) != 0)
        return;
    for (; list; list = list->ai_next)
        *port_of(list->ai_addr) = *port_of((struct sockaddr *)&a);
}

static int refuse_open(const char *spec, cog_err *err)
{
    return cog_err_set(err, COG_EINVAL,
                       "refusing to listen on %s without an API key, because other machines "
                       "can reach it; set an API key, or allow it with --insecure",
                       spec);
}

/* All addresses of a name; those of a family that this machine lacks are left out. */
static int bind_all(cog_server *s, struct addrinfo *list, const char *spec, bool is_metrics,
                    cog_err *err)
{
    cog_listener *last = NULL;
    int n = 0, why = 0;

    for (struct addrinfo *a = list; a; a = a->ai_next) {
        if (!is_metrics && !is_loopback(a->ai_addr) && !s->cfg.api_key_file && !s->cfg.insecure)
            return refuse_open(spec, err);
    }
    for (struct addrinfo *a = list; a; a = a->ai_next) {
        int rc = is_repeated(list, a) ? 0 : bind_address(s, a, is_metrics);

        if (rc == EADDRINUSE)
            return cog_err_set(err, COG_EIO,
                               "cannot listen on %s: the port is taken; stop the other program or "
                               "choose another port with --listen",
                               spec);
        if (rc != 0 && rc != EADDRNOTAVAIL && rc != EAFNOSUPPORT)
            return cog_err_set(err, COG_EIO, "cannot listen on %s: %s", spec, strerror(rc));
        why = rc ? rc : why;
        if (rc == 0 && n++ == 0) {
            for (last = s->listeners; last->next; last = last->next)
                ;
            share_port(last, list);
        }
    }
    if (n == 0)
        return cog_err_set(err, COG_EIO, "cannot listen on %s: %s", spec, strerror(why));
    return 0;
}

/* HOST:PORT or [HOST]:PORT into its parts; false when it is neither. */
static bool split(const char *spec, char host[256], const char **port)
{
    const char *colon = strrchr(spec, ':');
    size_t len;
    char *end;
    long n;

    if (!colon || !colon[1])
        return false;
    n = strtol(colon + 1, &end, 10);
    if (*end || n < 0 || n > 65535)
        return false;
    *port = colon + 1;
    len = (size_t)(colon - spec);
    if (len >= 2 && spec[0] == '[' && spec[len - 1] == ']') {
        spec++;
        len -= 2;
    } else if (memchr(spec, ':', len)) {
        return false;
    }
    if (len == 0 || len > 255)
        return false;
    memcpy(host, spec, len);
    host[len] = '\0';
    return true;
}

static int open_tcp(cog_server *s, const char *spec, bool is_metrics, cog_err *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *list;
    const char *port;
    char host[256];
    int rc;

    if (!split(spec, host, &port))
        return cog_err_set(err, COG_EINVAL,
                           "cannot listen on '%s': expected HOST:PORT, [IPV6]:PORT or unix:PATH",
                           spec);
    rc = getaddrinfo(host, port, &hints, &list);
    if (rc != 0)
        return cog_err_set(err, COG_EINVAL, "cannot listen on %s: %s", spec, gai_strerror(rc));
    rc = bind_all(s, list, spec, is_metrics, err);
    freeaddrinfo(list);
    return rc;
}

/* A socket file that nobody answers on is what a crash left behind. */
static void remove_stale(const struct sockaddr_un *a)
{
    struct stat st;
    int fd;

    if (lstat(a->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) != 0 && errno == ECONNREFUSED)
        unlink(a->sun_path);
    close(fd);
}

static int open_unix(cog_server *s, const char *path, bool is_metrics, cog_err *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    cog_listener *l;
    int fd;

    if (!*path || strlen(path) >= sizeof(a.sun_path))
        return cog_err_set(err, COG_EINVAL,
                           "cannot listen on unix:%s: the path must have 1 to %zu "
                           "bytes",
                           path, sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    remove_stale(&a);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, BACKLOG) != 0) {
        cog_err_set(err, COG_EIO, "cannot listen on unix:%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return COG_EIO;
    }
    l = add(s, fd, is_metrics);
    l->unix_path = cog_strdup(path);
    snprintf(l->address, sizeof(l->address), "unix:%s", path);
    return 0;
}

int cog_listen(cog_server *s, const char *spec, bool is_metrics, cog_err *err)
{
    if (strncmp(spec, "unix:", 5) == 0)
        return open_unix(s, spec + 5, is_metrics, err);
    return open_tcp(s, spec, is_metrics, err);
}

void cog_listener_start(cog_listener *l)
{
    uv_poll_init(&l->server->loop, &l->poll, l->fd);
    l->poll.data = l;
    l->is_polled = true;
    uv_poll_start(&l->poll, UV_READABLE, on_listen);
}

void cog_listener_stop(cog_listener *l)
{
    if (l->is_polled)
        uv_close((uv_handle_t *)&l->poll, NULL);
    l->is_polled = false;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    if (l->unix_path)
        unlink(l->unix_path);
    cog_free(l->unix_path);
    l->unix_path = NULL;
}
