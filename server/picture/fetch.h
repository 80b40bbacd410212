/* fetch.h - downloads pictures: one thread with all its transfers, beside the loop.
 *
 * A transfer connects to no address that is not public, and the address that was looked at is the
 * one that is connected to: the look is taken where the socket is made, so a name that changes its
 * answer gains nothing. Redirects are not followed, certificates are verified, no proxy, cookie or
 * header of anybody's is used, and bytes are counted while they come. */
#ifndef COG_SERVER_PICTURE_FETCH_H
#define COG_SERVER_PICTURE_FETCH_H

#include "base/buf.h"
#include "base/err.h"
#include "base/mailbox.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct Curl_URL;
struct uv_loop_s;

typedef struct cog_fetcher cog_fetcher;

typedef enum cog_fetch_status {
    COG_FETCH_OK,
    COG_FETCH_REFUSED,   /* and will be the next time */
    COG_FETCH_LATER,     /* too slow, or the other server failed: may go well the next time */
    COG_FETCH_TOO_LARGE, /* more than max_bytes */
    COG_FETCH_CANCELED,
} cog_fetch_status;

/* One transfer, inside what wants it. Zero-initialised and filled up to user. */
typedef struct cog_fetch {
    cog_link link;
    struct Curl_URL *url; /* of cog_fetch_url_parse; owned from start on */
    size_t max_bytes;
    uint64_t deadline_ns;              /* the request's; UINT64_MAX: none */
    void (*done)(struct cog_fetch *f); /* on the loop thread, once for each start */
    void *user;

    cog_fetch_status status;    /* from done on */
    int curl_code, http_status; /* why, for the log */
    cog_buf body;               /* with COG_FETCH_OK the file; the owner's to free */

    atomic_bool is_canceled;
    void *easy; /* from here on: the thread's */
    bool is_refused, is_full;
    struct cog_fetch *next;
    cog_fetcher *fetcher;
} cog_fetch;

typedef struct cog_fetch_options {
    int connect_ms, total_ms;
    int max_transfers; /* at a time; others wait */
    bool (*is_allowed)(const struct sockaddr *addr);
} cog_fetch_options;

/* 2 s, 5 s, 32 transfers, cog_fetch_is_public. */
extern const cog_fetch_options cog_fetch_defaults;

/* On the loop's thread, all of these. COG_EIO: libcurl or the thread could not be started. */
int cog_fetcher_open(cog_fetcher **out, struct uv_loop_s *loop, const cog_fetch_options *opt,
                     cog_err *err);
void cog_fetcher_close(cog_fetcher *f); /* every transfer is done; NULL is fine. The loop has to run
                                           once more. */

void cog_fetch_start(cog_fetcher *f, cog_fetch *fetch);
void cog_fetch_cancel(
    cog_fetch *fetch); /* it is done soon; fine at any time between start and done */

#endif
