/* limits.h - how much one client may ask for: requests and tokens per minute, and requests at a
 * time.
 *
 * A limit per minute is a bucket that holds a minute's worth and fills evenly. A request takes one
 * of the first bucket when it begins. The tokens of its prompt are taken when they are counted, and
 * those of its answer when that has ended, so the second bucket may fall below zero: then nothing
 * begins until it has filled again.
 *
 * Pure: times are given, in nanoseconds of one clock. One thread at a time. */
#ifndef COG_SERVER_LIMITS_H
#define COG_SERVER_LIMITS_H

#include "base/sha256.h"

#include <stdbool.h>
#include <stdint.h>

enum { COG_RESET_SIZE = 24 };

typedef struct cog_limits {
    int requests, tokens; /* per minute; 0: no limit */
    int concurrent;       /* 0: no limit */
} cog_limits;

typedef struct cog_bucket {
    double level;
    uint64_t at_ns; /* when it had that level */
} cog_bucket;

/* Everybody who presents one key; on a server without keys, everybody. */
typedef struct cog_client {
    int refs;
    cog_sha256 digest; /* of the key; zero without one */
    cog_limits limits;
    cog_bucket requests, tokens;
    int n_running;
} cog_client;

typedef enum cog_limit {
    COG_LIMIT_NONE,
    COG_LIMIT_REQUESTS,
    COG_LIMIT_TOKENS,
    COG_LIMIT_CONCURRENT,
} cog_limit;

cog_client *cog_client_new(const cog_sha256 *digest, const cog_limits *limits, uint64_t now_ns);
void cog_client_ref(cog_client *c);
void cog_client_unref(cog_client *c); /* NULL is fine */

/* What was used of the old limits counts against the new ones. */
void cog_client_set_limits(cog_client *c, const cog_limits *limits, uint64_t now_ns);

/* A request begins, and runs until cog_client_end; or the limit that forbids it, and in how many
 * milliseconds (at least 1) it may be tried again. */
cog_limit cog_client_begin(cog_client *c, uint64_t now_ns, uint64_t *wait_ms);
void cog_client_end(cog_client *c);
void cog_client_refund(cog_client *c); /* it was refused through no fault of the client */

/* Takes a prompt's tokens, as cog_client_begin does a request. A prompt beyond what the bucket can
 * hold passes when the bucket is full. */
cog_limit cog_client_take_prompt(cog_client *c, uint64_t now_ns, int n_tokens, uint64_t *wait_ms);
void cog_client_charge(cog_client *c, uint64_t now_ns, int n_tokens); /* an answer's */

/* What is left of a limit per minute now (at least 0), and in how many milliseconds it will be
 * whole. */
int cog_bucket_remaining(const cog_bucket *b, int limit, uint64_t now_ns);
uint64_t cog_bucket_reset_ms(const cog_bucket *b, int limit, uint64_t now_ns);

/* A time as the x-ratelimit headers write it: "12ms", "1s", "6m0s". Returns dst. */
char *cog_reset_text(char dst[COG_RESET_SIZE], uint64_t ms);

#endif
