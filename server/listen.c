/* listen.c - the server's own listeners: any number, TCP and UNIX, one limit for all. A connection
 * beyond the limit gets an answer instead of hanging in a backlog. */
#include "server/internal.h"

#include "base/alloc.h"
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
};

/* ------------------------------------------------------------------ accept */

static void refuse(cog_server *s, int fd)
{
    s->metrics.refused_connections++;
    cog_http_refuse(fd, COG_API_OVERLOADED);
    shutdown(fd, SHUT_WR);
    close(fd);
}

/* Descriptors are out: the spare one is given up for the moment that it takes to refuse. */
static void refuse_with_spare(cog_server *s, int listen_fd)
{
    int fd;

    close(s->spare_fd);
    fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        refuse(s, fd);
    s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Whoever watches gets in when the server is full. */
static bool is_full(const cog_listener *l)
{
    const cog_server *s = l->server;

    return l->is_metrics ? s->n_metrics_open >= MAX_WATCHERS : s->n_open >= s->cfg.max_connections;
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
            if (errno == EMFILE || errno == ENFILE)
                refuse_with_spare(s, l->fd);
            break;
        }
        if (is_full(l))
            refuse(s, fd);
        else
            cog_http_add(l, fd, (struct sockaddr *)&addr, len);
    }
    cog_http_flush(s);
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

static int name_address(cog_listener *l)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    char host[64], port[8];

    if (getsockname(l->fd, (struct sockaddr *)&a, &len) != 0 ||
        getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return COG_EIO;
    snprintf(l->address, sizeof(l->address), a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
             port);
    return 0;
}

static int bind_address(cog_listener *l, const struct addrinfo *a)
{
    int on = 1, off = 0;

    l->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return -errno;
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6)
        setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(l->fd, a->ai_addr, a->ai_addrlen) == 0 && listen(l->fd, BACKLOG) == 0)
        return 0;
    close(l->fd);
    l->fd = -1;
    return -errno;
}

static int bind_first(cog_listener *l, const struct addrinfo *list, const char *spec, cog_err *err)
{
    const cog_server_config *cfg = &l->server->cfg;
    int rc = 0;

    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        if (!l->is_metrics && !is_loopback(a->ai_addr) && !cfg->api_key_file && !cfg->insecure)
            return cog_err_set(
                err, COG_EINVAL,
                "refusing to listen on %s without an API key, because other machines "
                "can reach it; set an API key, or allow it with --insecure",
                spec);
        rc = bind_address(l, a);
        if (rc == 0)
            return name_address(l);
    }
    if (rc == -EADDRINUSE)
        return cog_err_set(err, COG_EIO,
                           "cannot listen on %s: the port is taken; stop the other program or "
                           "choose another port with --listen",
                           spec);
    return cog_err_set(err, COG_EIO, "cannot listen on %s: %s", spec, strerror(-rc));
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

static int open_tcp(cog_listener *l, const char *spec, cog_err *err)
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
    rc = bind_first(l, list, spec, err);
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

static int open_unix(cog_listener *l, const char *path, cog_err *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    if (!*path || strlen(path) >= sizeof(a.sun_path))
        return cog_err_set(err, COG_EINVAL,
                           "cannot listen on unix:%s: the path must have 1 to %zu "
                           "bytes",
                           path, sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    remove_stale(&a);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0 || bind(l->fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        listen(l->fd, BACKLOG) != 0)
        return cog_err_set(err, COG_EIO, "cannot listen on unix:%s: %s", path, strerror(errno));
    l->unix_path = cog_strdup(path);
    snprintf(l->address, sizeof(l->address), "unix:%s", path);
    return 0;
}

int cog_listener_open(cog_listener *l, cog_server *s, const char *spec, cog_err *err)
{
    l->server = s;
    l->fd = -1;
    if (strncmp(spec, "unix:", 5) == 0)
        return open_unix(l, spec + 5, err);
    return open_tcp(l, spec, err);
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
