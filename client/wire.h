/* wire.h - many HTTP requests at a time from one thread: libcurl's transfers under an epoll of our
 * own, so that a turn costs what happened in it and not the number of open streams.
 *
 * Bytes are stamped as they arrive and handed over after all sockets of the turn were read: what
 * the caller does with one stream's bytes is not in the next stream's time. One thread. */
#ifndef COG_CLIENT_WIRE_H
#define COG_CLIENT_WIRE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cog_wire_end {
    COG_WIRE_WHOLE,   /* the body ended as its framing says */
    COG_WIRE_CONNECT, /* no connection, or none that is trusted */
    COG_WIRE_TIMEOUT,
    COG_WIRE_CUT, /* the connection ended in the middle */
    COG_WIRE_BAD, /* what came is no HTTP */
} cog_wire_end;

typedef struct cog_wire_call cog_wire_call;
typedef struct cog_wire cog_wire;

/* One request and its answer; the caller's storage, which stays where it is until end was called.
 * Fields above the line are the caller's to set. */
struct cog_wire_call {
    const char *path; /* behind the base URL */
    cog_buf body;     /* POSTed when not empty, else GET; the caller frees it after the end */
    void *user;
    /* Bytes of the body, in order, and when they arrived (CLOCK_MONOTONIC); status is known. */
    void (*bytes)(cog_wire_call *c, uint64_t ns, const char *data, size_t len);
    void (*end)(cog_wire_call *c, cog_wire_end end); /* exactly once, last */
    /* ---- */
    int status;           /* of HTTP; 0: none came */
    bool has_retry_after; /* the answer says when to come back */
    char error[256];      /* what libcurl said of an end that is not whole */
    uint64_t end_ns;
    struct cog_wire_transfer *transfer; /* private */
};

typedef struct cog_wire_config {
    const char *url;     /* "http://127.0.0.1:8000/v1", without a slash at the end */
    const char *api_key; /* NULL: none */
    const char *ca_file; /* of certificates to trust instead of the system's; NULL: those */
    int max_open;        /* connections kept for the next request */
    uint32_t connect_timeout_ms, timeout_ms; /* the second is for a whole answer */
} cog_wire_config;

/* Strings are copied. COG_EINVAL: no URL that libcurl understands, or none of http and https;
 * COG_EIO: no epoll. */
int cog_wire_open(cog_wire **out, const cog_wire_config *cfg, cog_err *err);
void cog_wire_close(cog_wire *h); /* NULL is fine; calls under way end with COG_WIRE_CUT */

/* Begins the request; its first bytes leave during the next cog_wire_turn. */
void cog_wire_start(cog_wire *h, cog_wire_call *c);

/* Waits for something to happen until a time (CLOCK_MONOTONIC, UINT64_MAX: none) and does what
 * there is to do. Calls back bytes and end, which may start further calls. Returns at once when
 * nothing is under way and no time was given. */
void cog_wire_turn(cog_wire *h, uint64_t until_ns);

int cog_wire_under_way(const cog_wire *h);

#endif
