/* rng.h - a counter-based generator: a value is a pure function of its key and counter, so a result
 * never depends on what else was drawn. Steele, Lea, Flood, "Fast splittable pseudorandom number
 * generators" (OOPSLA 2014): the SplitMix64 finaliser, applied twice. Not for secrets. */
#ifndef COG_BASE_RNG_H
#define COG_BASE_RNG_H

#include "base/device.h"

#include <stdint.h>

COG_HOST_DEVICE uint64_t cog_rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The counter-th 64-bit value of the stream named by key. */
COG_HOST_DEVICE uint64_t cog_rng_at(uint64_t key, uint64_t counter)
{
    return cog_rng_mix(cog_rng_mix(key + 0x9e3779b97f4a7c15u) +
                       (counter + 1) * 0x9e3779b97f4a7c15u);
}

/* A double in [0, 1) from the top 53 bits. */
COG_HOST_DEVICE double cog_rng_unit(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1.0p-53;
}

/* A float in [center - spread, center + spread) from the top 24 bits, the same on every machine. */
COG_HOST_DEVICE float cog_rng_around(uint64_t bits, float center, float spread)
{
    float unit = (float)(bits >> 40) * 0x1p-24f;

    return center + spread * (2 * unit - 1);
}

/* A sequential stream for tests and simulations. */
typedef struct cog_rng {
    uint64_t key, counter;
} cog_rng;

static inline uint64_t cog_rng_next(cog_rng *r)
{
    return cog_rng_at(r->key, r->counter++);
}

/* Uniform in [0, n), n > 0 (Lemire's multiply-shift; the bias is below n / 2^64). */
static inline uint64_t cog_rng_below(cog_rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)cog_rng_next(r) * n) >> 64);
}

#endif
