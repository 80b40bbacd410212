#include "tests/unit/unit.h"

#include "tests/unit/http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

http_client client_open(const char *address)
{
    struct sockaddr_in a = { .sin_family = AF_INET };
    http_client c = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };

    a.sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(c.fd >= 0);
    assert_int_equal(connect(c.fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return c;
}

void client_close(http_client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    cog_buf_fini(&c->in);
}

void client_reset(http_client *c)
{
    struct linger now = { .l_onoff = 1 };

    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    client_close(c);
}

bool client_send(http_client *c, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len) {
        ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);
        if (n < 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

bool client_puts(http_client *c, const char *text)
{
    return client_send(c, text, strlen(text));
}

/* More bytes into c->in; false at the end. */
static bool receive(http_client *c)
{
    struct pollfd p = { .fd = c->fd, .events = POLLIN };
    char bytes[65536];
    ssize_t n;

    assert_int_equal(poll(&p, 1, CLIENT_WAIT_MS), 1);
    n = recv(c->fd, bytes, sizeof(bytes), 0);
    if (n <= 0)
        return false;
    cog_buf_add(&c->in, bytes, (size_t)n);
    return true;
}

bool client_wait_for(http_client *c, const char *text)
{
    while (!c->in.data || !strstr(c->in.data, text)) {
        if (!receive(c))
            return false;
    }
    return true;
}

bool client_is_ended(http_client *c)
{
    while (receive(c))
        ;
    return true;
}

http_response client_read_head(http_client *c)
{
    http_response r = { 0 };
    size_t len;

    do {
        if (!client_wait_for(c, "\r\n\r\n"))
            return r;
        len = (size_t)(strstr(c->in.data, "\r\n\r\n") - c->in.data) + 4;
        r.status = atoi(c->in.data + 9);
        cog_buf_clear(&r.head);
        cog_buf_add(&r.head, c->in.data, len);
        cog_buf_drop(&c->in, len);
    } while (r.status == 100);
    return r;
}

static bool read_sized(http_client *c, http_response *r, size_t len)
{
    while (c->in.len < len) {
        if (!receive(c))
            return false;
    }
    cog_buf_add(&r->body, c->in.data, len);
    cog_buf_drop(&c->in, len);
    return true;
}

static bool read_chunked(http_client *c, http_response *r)
{
    for (;;) {
        size_t len;

        if (!client_wait_for(c, "\r\n"))
            return false;
        len = strtoul(c->in.data, NULL, 16);
        cog_buf_drop(&c->in, (size_t)(strstr(c->in.data, "\r\n") - c->in.data) + 2);
        if (!read_sized(c, r, len))
            return false;
        while (c->in.len < 2) {
            if (!receive(c))
                return false;
        }
        cog_buf_drop(&c->in, 2);
        if (len == 0)
            return true;
    }
}

http_response client_read(http_client *c, bool is_head)
{
    http_response r = client_read_head(c);
    const char *length, *coding;

    if (r.status == 0 || r.status == 204 || is_head) {
        r.is_whole = r.status != 0;
        return r;
    }
    coding = response_header(&r, "Transfer-Encoding");
    if (coding) {
        r.is_whole = read_chunked(c, &r);
        return r;
    }
    length = response_header(&r, "Content-Length");
    if (length) {
        r.is_whole = read_sized(c, &r, strtoul(length, NULL, 10));
        return r;
    }
    while (receive(c))
        ;
    read_sized(c, &r, c->in.len);
    r.is_whole = true;
    return r;
}

void response_fini(http_response *r)
{
    cog_buf_fini(&r->head);
    cog_buf_fini(&r->body);
}

const char *response_header(const http_response *r, const char *name)
{
    static char value[2048];
    size_t len = strlen(name);

    for (const char *line = r->head.data; line; line = strstr(line, "\r\n")) {
        line += line == r->head.data ? 0 : 2;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            const char *v = line + len + 1;
            v += strspn(v, " ");
            snprintf(value, sizeof(value), "%.*s", (int)strcspn(v, "\r"), v);
            return value;
        }
    }
    return NULL;
}

http_response client_post(const char *address, const char *path, const char *body)
{
    http_client c = client_open(address);
    http_response r;
    cog_buf out = { 0 };

    cog_buf_printf(&out,
                   "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                   "Content-Length: %zu\r\n\r\n%s",
                   path, strlen(body), body);
    client_send(&c, out.data, out.len);
    r = client_read(&c, false);
    cog_buf_fini(&out);
    client_close(&c);
    return r;
}

http_response client_get(const char *address, const char *path)
{
    http_client c = client_open(address);
    http_response r;
    cog_buf out = { 0 };

    cog_buf_printf(&out, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    client_send(&c, out.data, out.len);
    r = client_read(&c, false);
    cog_buf_fini(&out);
    client_close(&c);
    return r;
}
