#include "server/limits.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>

#define MINUTE_NS 60e9

/* A clock that jumped back, or a first use, adds nothing. */
static double level_now(const cog_bucket *b, int limit, uint64_t now_ns)
{
    double gained = now_ns > b->at_ns ? (double)(now_ns - b->at_ns) / MINUTE_NS * limit : 0;

    return fmin(b->level + gained, limit);
}

static void settle(cog_bucket *b, int limit, uint64_t now_ns)
{
    b->level = level_now(b, limit, now_ns);
    b->at_ns = now_ns;
}

/* 0: the bucket holds need. */
static uint64_t wait_for(const cog_bucket *b, int limit, double need, uint64_t now_ns)
{
    double missing = need - level_now(b, limit, now_ns);

    return missing > 0 ? (uint64_t)ceil(missing / limit * MINUTE_NS * 1e-6) : 0;
}

cog_client *cog_client_new(const cog_sha256 *digest, const cog_limits *limits, uint64_t now_ns)
{
    cog_client *c = cog_new(cog_client);

    c->refs = 1;
    c->digest = *digest;
    c->limits = *limits;
    c->requests = (cog_bucket){ limits->requests, now_ns };
    c->tokens = (cog_bucket){ limits->tokens, now_ns };
    return c;
}

void cog_client_ref(cog_client *c)
{
    c->refs++;
}

void cog_client_unref(cog_client *c)
{
    if (c && --c->refs == 0)
        cog_free(c);
}

static void resize(cog_bucket *b, int old_limit, int new_limit, uint64_t now_ns)
{
    double used = old_limit ? old_limit - level_now(b, old_limit, now_ns) : 0;

    *b = (cog_bucket){ new_limit - used, now_ns };
}

void cog_client_set_limits(cog_client *c, const cog_limits *limits, uint64_t now_ns)
{
    resize(&c->requests, c->limits.requests, limits->requests, now_ns);
    resize(&c->tokens, c->limits.tokens, limits->tokens, now_ns);
    c->limits = *limits;
}

cog_limit cog_client_begin(cog_client *c, uint64_t now_ns, uint64_t *wait_ms)
{
    const cog_limits *l = &c->limits;

    *wait_ms = l->requests ? wait_for(&c->requests, l->requests, 1, now_ns) : 0;
    if (*wait_ms)
        return COG_LIMIT_REQUESTS;
    *wait_ms = l->tokens ? wait_for(&c->tokens, l->tokens, 1, now_ns) : 0;
    if (*wait_ms)
        return COG_LIMIT_TOKENS;
    if (l->concurrent && c->n_running >= l->concurrent) {
        *wait_ms = 1000; /* nobody can know */
        return COG_LIMIT_CONCURRENT;
    }
    settle(&c->requests, l->requests, now_ns);
    c->requests.level -= 1;
    c->n_running++;
    return COG_LIMIT_NONE;
}

void cog_client_end(cog_client *c)
{
    c->n_running--;
}

void cog_client_refund(cog_client *c)
{
    c->requests.level += 1;
}

cog_limit cog_client_take_prompt(cog_client *c, uint64_t now_ns, int n_tokens, uint64_t *wait_ms)
{
    int limit = c->limits.tokens;

    *wait_ms = limit ? wait_for(&c->tokens, limit, fmin(n_tokens, limit), now_ns) : 0;
    if (*wait_ms)
        return COG_LIMIT_TOKENS;
    cog_client_charge(c, now_ns, n_tokens);
    return COG_LIMIT_NONE;
}

void cog_client_charge(cog_client *c, uint64_t now_ns, int n_tokens)
{
    settle(&c->tokens, c->limits.tokens, now_ns);
    c->tokens.level -= n_tokens;
}

int cog_bucket_remaining(const cog_bucket *b, int limit, uint64_t now_ns)
{
    return (int)fmax(level_now(b, limit, now_ns), 0);
}

uint64_t cog_bucket_reset_ms(const cog_bucket *b, int limit, uint64_t now_ns)
{
    return wait_for(b, limit, limit, now_ns);
}

char *cog_reset_text(char dst[COG_RESET_SIZE], uint64_t ms)
{
    uint64_t s = (ms + 999) / 1000;

    if (ms < 1000)
        snprintf(dst, COG_RESET_SIZE, "%llums", (unsigned long long)ms);
    else if (s < 60)
        snprintf(dst, COG_RESET_SIZE, "%llus", (unsigned long long)s);
    else
        snprintf(dst, COG_RESET_SIZE, "%llum%llus", (unsigned long long)(s / 60),
                 (unsigned long long)(s % 60));
    return dst;
}
