/* HTTP through a socket: a server in this process over the engine's double. The input is what a
 * client sends, and bytes that never stand in UTF-8 say what else it does:
 *
 *     f8  a piece ends here          f9 N  a whole request of the table below
 *     fa  waits for answers          fb    ends its direction
 *     fc  closes and connects again  fd    the same by a reset
 *     fe  the engine stops working   ff    and works again
 *
 * Whatever a client does, what it gets is well-formed HTTP with JSON or events inside, no request
 * is left in the engine, and the server answers the next client. */
#include "tests/fuzz/fuzz_json.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/server.h"
#include "tests/unit/fake_engine.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { WAIT_MS = 20000, MAX_ANSWER = 1 << 20, MAX_WAIT_NS = 3000000 };

static struct {
    cog_server *server;
    cog_engine *engine;
    struct sockaddr_un address;
    pthread_t thread;
    int control; /* a connection that asks whether the server lives */
} world;

static const char *const requests[] = {
    "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /v1/models HTTP/1.1\r\nHost: a\r\nX-Request-Id: id.1\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"count=2\"}]}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"count=3 utf8\"}],\"stream\":true,"
    "\"stream_options\":{\"include_usage\":true}}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"hold\"}],\"stream\":true}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"fail=1 a b\"}],\"n\":2,\"stream\":true}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"burst=9 bytes=900 "
    "count=90\"}],\"stream\":true}",
    "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
    "\"image_url\","
    "\"image_url\":{\"url\":\"data:image/png;base64,RkFLRQ==\"}}]}]}",
    "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
    "\"data:;base64,QlJPS0VO\"}}]}]}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a b c\"}],\"max_tokens\":1,\"stop\":\"b\"}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"model\":\"none\"}",
    "{\"messages\":",
};

/* ---- the server ---- */

static void *run(void *arg)
{
    cog_server_run(world.server, world.engine);
    return NULL;
}

static int connect_client(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    REQUIRE(fd >= 0);
    REQUIRE(connect(fd, (struct sockaddr *)&world.address, sizeof(world.address)) == 0);
    return fd;
}

/* libFuzzer's alarm interrupts. */
static void wait_readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int n;

    do
        n = poll(&p, 1, WAIT_MS);
    while (n < 0 && errno == EINTR);
    REQUIRE(n == 1);
}

/* The loop has seen all that was sent before. */
static void ask_control(void)
{
    static const char ask[] = "GET /livez HTTP/1.1\r\nHost: control\r\n\r\n";
    char text[2048];
    size_t n = 0;
    const char *body;

    if (send(world.control, ask, strlen(ask), MSG_NOSIGNAL) < 0) { /* it was idle for too long */
        close(world.control);
        world.control = connect_client();
        REQUIRE(send(world.control, ask, strlen(ask), MSG_NOSIGNAL) > 0);
    }
    for (;;) {
        ssize_t got;

        wait_readable(world.control);
        got = recv(world.control, text + n, sizeof(text) - 1 - n, 0);
        REQUIRE(got > 0);
        n += (size_t)got;
        text[n] = '\0';
        body = strstr(text, "\r\n\r\n");
        if (body && strstr(text, "Content-Length: ") &&
            strlen(body + 4) >= strtoul(strstr(text, "Content-Length: ") + 16, NULL, 10))
            break;
    }
    REQUIRE_SAY(strncmp(text, "HTTP/1.1 200 ", 13) == 0, "%s", text);
}

/* Twice: at once, whatever is still asked. */
static void close_world(void)
{
    close(world.control);
    kill(getpid(), SIGTERM);
    kill(getpid(), SIGTERM);
    pthread_join(world.thread, NULL);
    cog_server_close(world.server);
    cog_engine_close(world.engine);
}

static void open_world(void)
{
    static const char *const names[] = { "test" };
    static char spec[5 + sizeof(world.address.sun_path)];
    static const char *const listen_at[] = { spec };
    cog_server_config cfg = cog_server_defaults;
    cog_err err = { 0 };

    fuzz_remove("socket");
    snprintf(spec, sizeof(spec), "unix:%s/socket", fuzz_folder());
    world.address.sun_family = AF_UNIX;
    memcpy(world.address.sun_path, spec + 5, sizeof(world.address.sun_path));
    cog_log_set_level(COG_ERROR);
    cfg.listen = listen_at;
    cfg.n_listen = 1;
    cfg.served_names = names;
    cfg.n_served_names = 1;
    cfg.max_body_bytes = 1 << 15;
    cfg.max_inflight_bytes = 1 << 16;
    cfg.max_unsent_bytes = 1 << 16;
    cfg.max_connections = 6;
    world.engine = fake_engine_new();
    REQUIRE_SAY(cog_server_open(&world.server, &cfg, &err) == 0, "%s", err.text);
    fake_engine_notify(world.engine, cog_server_wake, world.server);
    REQUIRE(pthread_create(&world.thread, NULL, run, NULL) == 0);
    world.control = connect_client();
    OPENSSL_init_crypto(0, NULL); /* whose end is then after that of the threads that use it */
    ask_control();                /* its signal handlers are there by now */
    atexit(close_world);
}

/* ---- what came back ---- */

typedef struct reply {
    const char *at, *end;
} reply;

/* The value of a field of the head that ends at end; NULL when there is none. */
static const char *field(const char *head, const char *end, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = head; p < end; p++) {
        p = memmem(p, (size_t)(end - p), "\r\n", 2);
        if (!p || p + 2 >= end)
            return NULL;
        p += 2;
        if ((size_t)(end - p) > n && strncasecmp(p, name, n) == 0 && p[n] == ':')
            return p + n + 1 + strspn(p + n + 1, " ");
        p--;
    }
    return NULL;
}

/* Takes len bytes; false when they are not all there. */
static bool take(reply *r, cog_buf *body, size_t len)
{
    if ((size_t)(r->end - r->at) < len)
        return false;
    cog_buf_add(body, r->at, len);
    r->at += len;
    return true;
}

static bool take_chunks(reply *r, cog_buf *body)
{
    for (;;) {
        const char *line = memmem(r->at, (size_t)(r->end - r->at), "\r\n", 2);
        char *stop;
        size_t len;

        if (!line)
            return false;
        len = strtoul(r->at, &stop, 16);
        REQUIRE(stop == line && stop > r->at && len <= MAX_ANSWER);
        r->at = line + 2;
        if (!take(r, body, len) || r->end - r->at < 2)
            return false;
        REQUIRE(r->at[0] == '\r' && r->at[1] == '\n');
        r->at += 2;
        if (len == 0)
            return true;
    }
}

static void check_events(const cog_buf *body)
{
    const char *end = body->data + body->len;

    for (const char *at = body->data; at && at < end;) {
        const char *stop = memmem(at, (size_t)(end - at), "\n\n", 2);

        REQUIRE(stop);
        if (strncmp(at, "data: {", 7) == 0)
            json_decref(fuzz_parse(at + 6, (size_t)(stop - at) - 6));
        else
            REQUIRE(strncmp(at, "data: [DONE]", 12) == 0 || at[0] == ':');
        at = stop + 2;
    }
}

static void check_body(const char *type, const cog_buf *body)
{
    if (body->len == 0)
        return;
    REQUIRE(type);
    if (strncmp(type, "application/json", 16) == 0)
        json_decref(fuzz_parse(body->data, body->len));
    else if (strncmp(type, "text/event-stream", 17) == 0)
        check_events(body);
}

/* libmicrohttpd's own answer, in HTML and without a type, to what it cannot read at all. Its head
 * may come twice (version 0.9.75, a field that it refuses), but the connection ends. */
static bool is_librarys(const char *head, const char *end, int status)
{
    const char *connection = field(head, end, "Connection");

    if (field(head, end, "Content-Type") || status < 400)
        return false;
    REQUIRE(connection && strncmp(connection, "close\r", 6) == 0);
    return true;
}

/* One answer; false when it is not whole, or the last one that can be told from the next. */
static bool check_answer(reply *r)
{
    const char *head = r->at, *end, *length, *coding;
    size_t left = (size_t)(r->end - r->at);
    cog_buf body = { 0 };
    bool is_whole;
    int status;

    end = memmem(head, left, "\r\n\r\n", 4);
    if (!end)
        return false;
    REQUIRE_SAY(strncmp(head, "HTTP/1.1 ", 9) == 0 || strncmp(head, "HTTP/1.0 ", 9) == 0, "'%.60s'",
                head);
    status = atoi(head + 9);
    REQUIRE_SAY(status == 100 || status == 200 || status == 204 || (status >= 400 && status <= 505),
                "%d", status);
    end += 2;
    r->at = end + 2;
    if (status == 100)
        return true;
    if (is_librarys(head, end, status))
        return false;
    coding = field(head, end, "Transfer-Encoding");
    length = field(head, end, "Content-Length");
    REQUIRE(!coding || !length);
    if (coding)
        is_whole = take_chunks(r, &body);
    else if (length)
        is_whole = take(r, &body, strtoul(length, NULL, 10));
    else
        is_whole = status == 204;
    if (is_whole)
        check_body(field(head, end, "Content-Type"), &body);
    cog_buf_fini(&body);
    return is_whole;
}

static void check_answers(const cog_buf *in)
{
    reply r = { in->data, in->data + in->len };

    while (r.at < r.end && check_answer(&r))
        ;
}

/* ---- the client ---- */

typedef struct client {
    int fd;
    cog_buf piece; /* not sent yet */
    cog_buf in;
    bool has_head; /* asks with HEAD, perhaps: answers cannot be told apart */
} client;

/* True when something came. */
static bool receive(client *c)
{
    char bytes[16384];
    ssize_t n;
    bool any = false;

    while (c->in.len < MAX_ANSWER && (n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        cog_buf_add(&c->in, bytes, (size_t)n);
        any = true;
    }
    return any;
}

static void flush_piece(client *c)
{
    size_t at = 0;

    while (at < c->piece.len) {
        ssize_t n = send(c->fd, c->piece.data + at, c->piece.len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN) {
            ask_control();
            receive(c);
            continue;
        }
        if (n < 0)
            break; /* refused by now */
        at += (size_t)n;
    }
    cog_buf_clear(&c->piece);
}

/* Until the server has nothing more to say, or for a moment. */
static void await(client *c)
{
    uint64_t end = cog_now_ns() + MAX_WAIT_NS;
    int quiet = 0;

    flush_piece(c);
    while (quiet < 2 && cog_now_ns() < end) {
        ask_control();
        quiet = receive(c) || fake_engine_live(world.engine) ? 0 : quiet + 1;
    }
}

static void finish(client *c, bool is_reset)
{
    struct linger now = { .l_onoff = 1 };

    flush_piece(c);
    receive(c);
    if (!c->has_head && c->in.len > 0)
        check_answers(&c->in);
    if (is_reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(c->fd);
    cog_buf_clear(&c->in);
}

static void add_request(cog_buf *out, unsigned i)
{
    const char *text = requests[i % (sizeof(requests) / sizeof(requests[0]))];

    if (text[0] != '{')
        cog_buf_puts(out, text);
    else
        cog_buf_printf(out,
                       "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: "
                       "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                       strlen(text), text);
}

static void act(client *c, uint8_t what)
{
    switch (what) {
    case 0xf8:
        flush_piece(c);
        break;
    case 0xfa:
        await(c);
        break;
    case 0xfb:
        flush_piece(c);
        shutdown(c->fd, SHUT_WR);
        break;
    case 0xfc:
    case 0xfd:
        finish(c, what == 0xfd);
        c->fd = connect_client();
        break;
    default:
        flush_piece(c);
        fake_engine_pause(world.engine, what == 0xfe);
        break;
    }
}

/* Clients are gone: so are their requests, soon. */
static void check_engine(void)
{
    uint64_t end = cog_now_ns() + (uint64_t)WAIT_MS * 1000000;

    while (fake_engine_live(world.engine) > 0) {
        REQUIRE(cog_now_ns() < end);
        ask_control();
        usleep(200);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    client c = { 0 };

    if (!world.server)
        open_world();
    c.fd = connect_client();
    c.has_head = memmem(bytes, len, "HEAD", 4) != NULL;
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == 0xf9 && i + 1 < len)
            add_request(&c.piece, bytes[++i]);
        else if (bytes[i] >= 0xf8)
            act(&c, bytes[i]);
        else
            cog_buf_add(&c.piece, &bytes[i], 1);
    }
    fake_engine_pause(world.engine, false);
    await(&c);
    finish(&c, false);
    check_engine();
    cog_buf_fini(&c.piece);
    cog_buf_fini(&c.in);
    return 0;
}
