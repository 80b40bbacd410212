/* http_client.h - a raw HTTP/1.1 client for tests: sends exactly what it is told, reads one
 * response at a time. Every wait ends after CLIENT_WAIT_MS, and then the test fails. */
#ifndef COG_TESTS_HTTP_CLIENT_H
#define COG_TESTS_HTTP_CLIENT_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

enum { CLIENT_WAIT_MS = 20000 };

typedef struct http_client {
    int fd;
    cog_buf in; /* received, not yet used */
} http_client;

typedef struct http_response {
    int status; /* 0: the connection ended before a whole response */
    cog_buf head, body;
    bool is_whole; /* the body ended as the framing says */
} http_response;

http_client client_open(const char *address);                    /* "127.0.0.1:PORT" */
void client_close(http_client *c);                               /* FIN */
void client_reset(http_client *c);                               /* RST */
bool client_send(http_client *c, const void *bytes, size_t len); /* false: the peer is gone */
bool client_puts(http_client *c, const char *text);

/* The next response; of HEAD, and with status 204, there is no body. */
http_response client_read(http_client *c, bool is_head);
/* The head alone; the body's bytes stay in c->in. */
http_response client_read_head(http_client *c);
/* Reads until text is in c->in; false at the end of the connection. */
bool client_wait_for(http_client *c, const char *text);
/* True when the peer ends the connection (by FIN or RST) within the wait. */
bool client_is_ended(http_client *c);

void response_fini(http_response *r);
/* A header's value, NULL when absent. Valid until the next call. */
const char *response_header(const http_response *r, const char *name);

/* One POST of a JSON body and its response, on a connection of its own. */
http_response client_post(const char *address, const char *path, const char *body);
http_response client_get(const char *address, const char *path);

#endif
