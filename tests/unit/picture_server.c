#include "tests/unit/picture_server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Path, answer; a NULL answer and those that go on are made below. */
static const struct {
    const char *path, *answer;
} pages[] = {
    { "/ok", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nSet-Cookie: a=b\r\n\r\npicture" },
    { "/chunked",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\npic\r\n4\r\nture\r\n0\r\n\r\n" },
    { "/until-close", "HTTP/1.1 200 OK\r\n\r\npicture" },
    { "/empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" },
    { "/gzip", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\npicture" },
    { "/not-found", "HTTP/1.1 404 No\r\nContent-Length: 6\r\n\r\nsecret" },
    { "/forbidden", "HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\nsecret" },
    { "/no-content", "HTTP/1.1 204 No\r\n\r\n" },
    { "/partial", "HTTP/1.1 206 Some\r\nContent-Length: 6\r\n\r\nsecret" },
    { "/broken", "HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\nsecret" },
    { "/busy", "HTTP/1.1 503 No\r\nContent-Length: 6\r\n\r\nsecret" },
    { "/limit", "HTTP/1.1 429 No\r\nContent-Length: 6\r\n\r\nsecret" },
    { "/redirect", "HTTP/1.1 302 There\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n" },
    { "/redirect-inside",
      "HTTP/1.1 301 There\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n" },
    { "/redirect-file",
      "HTTP/1.1 307 There\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n" },
    { "/cut", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npicture" },
    { "/nothing", "" },
    { "/old", "picture, without a head" },
};

struct client {
    picture_server *server;
    int fd;
};

static bool put(int fd, const char *text, size_t len)
{
    while (len) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

static bool puts_all(int fd, const char *text)
{
    return put(fd, text, strlen(text));
}

static void wait_for_end(int fd)
{
    char byte;

    while (recv(fd, &byte, 1, 0) > 0)
        ;
}

static void serve_never(picture_server *s, int fd)
{
    wait_for_end(fd);
}

static void hang(picture_server *s, int fd)
{
    pthread_mutex_lock(&s->lock);
    s->n_hanging++;
    pthread_mutex_unlock(&s->lock);
    wait_for_end(fd);
    pthread_mutex_lock(&s->lock);
    s->n_hanging--;
    pthread_mutex_unlock(&s->lock);
}

static void serve_endless(picture_server *s, int fd)
{
    static const char block[4096];

    if (puts_all(fd, "HTTP/1.1 200 OK\r\n\r\n")) {
        while (put(fd, block, sizeof(block)))
            ;
    }
}

static void serve_slowly(picture_server *s, int fd)
{
    if (puts_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")) {
        while (puts_all(fd, "x"))
            usleep(20000);
    }
}

/* 60 ms, so that several overlap; none counts any more when its client can know the answer. */
static void serve_later(picture_server *s, int fd)
{
    pthread_mutex_lock(&s->lock);
    if (++s->n_late > s->max_late)
        s->max_late = s->n_late;
    pthread_mutex_unlock(&s->lock);
    usleep(60000);
    pthread_mutex_lock(&s->lock);
    s->n_late--;
    pthread_mutex_unlock(&s->lock);
    puts_all(fd, pages[0].answer);
}

static void serve_picture(picture_server *s, int fd)
{
    char text[200];

    pthread_mutex_lock(&s->lock);
    snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(s->picture), s->picture);
    pthread_mutex_unlock(&s->lock);
    puts_all(fd, text);
}

static void answer(picture_server *s, int fd, const char *path, size_t len)
{
    static const struct {
        const char *path;
        void (*serve)(picture_server *s, int fd);
    } made[] = {
        { "/hang", hang },         { "/stay", serve_never },  { "/endless", serve_endless },
        { "/slow", serve_slowly }, { "/later", serve_later }, { "/picture", serve_picture }
    };

    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (strlen(pages[i].path) == len && memcmp(pages[i].path, path, len) == 0)
            puts_all(fd, pages[i].answer);
    }
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
        if (strlen(made[i].path) == len && memcmp(made[i].path, path, len) == 0)
            made[i].serve(s, fd);
    }
}

static void count(picture_server *s, int n, const char *head)
{
    pthread_mutex_lock(&s->lock);
    s->n_open += n;
    s->n_connections += n > 0;
    if (head) {
        s->n_requests++;
        snprintf(s->last_head, sizeof(s->last_head), "%s", head);
    }
    if (s->n_open == 0)
        pthread_cond_broadcast(&s->left);
    pthread_mutex_unlock(&s->lock);
}

static void *serve(void *arg)
{
    struct client *c = arg;
    char head[2048];
    size_t len = 0;
    ssize_t n;

    head[0] = '\0';
    while (len + 1 < sizeof(head) && !strstr(head, "\r\n\r\n") &&
           (n = recv(c->fd, head + len, sizeof(head) - 1 - len, 0)) > 0) {
        len += (size_t)n;
        head[len] = '\0';
    }
    if (strncmp(head, "GET ", 4) == 0) {
        count(c->server, 0, head);
        answer(c->server, c->fd, head + 4, strcspn(head + 4, " "));
    }
    shutdown(c->fd, SHUT_WR);
    wait_for_end(c->fd);
    close(c->fd);
    count(c->server, -1, NULL);
    free(c);
    return NULL;
}

static void *accept_all(void *arg)
{
    picture_server *s = arg;
    int fd;

    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        struct client *c = malloc(sizeof(*c));
        pthread_t thread;

        *c = (struct client){ s, fd };
        count(s, 1, NULL);
        assert(pthread_create(&thread, NULL, serve, c) == 0);
        pthread_detach(thread);
    }
    return NULL;
}

void picture_server_start(picture_server *s)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(a);

    *s = (picture_server){ 0 };
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->left, NULL);
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(s->fd, (struct sockaddr *)&a, len) != 0 || listen(s->fd, 128) != 0 ||
        getsockname(s->fd, (struct sockaddr *)&a, &len) != 0 ||
        pthread_create(&s->thread, NULL, accept_all, s) != 0)
        abort();
    s->port = ntohs(a.sin_port);
}

void picture_server_reset(picture_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->n_connections = s->n_requests = 0;
    s->last_head[0] = '\0';
    pthread_mutex_unlock(&s->lock);
}

void picture_server_set(picture_server *s, const char *picture)
{
    pthread_mutex_lock(&s->lock);
    snprintf(s->picture, sizeof(s->picture), "%s", picture);
    pthread_mutex_unlock(&s->lock);
}

static int read_count(picture_server *s, const int *count)
{
    int n;

    pthread_mutex_lock(&s->lock);
    n = *count;
    pthread_mutex_unlock(&s->lock);
    return n;
}

int picture_server_requests(picture_server *s)
{
    return read_count(s, &s->n_requests);
}

int picture_server_open(picture_server *s)
{
    return read_count(s, &s->n_open);
}

int picture_server_hanging(picture_server *s)
{
    return read_count(s, &s->n_hanging);
}

void picture_server_wait(picture_server *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->n_open > 0)
        pthread_cond_wait(&s->left, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void picture_server_stop(picture_server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
    picture_server_wait(s);
    pthread_cond_destroy(&s->left);
    pthread_mutex_destroy(&s->lock);
}
