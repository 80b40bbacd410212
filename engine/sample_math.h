/* sample_math.h - the sampler's arithmetic, one definition for the CPU and for kernels.
 *
 * Whoever draws gets the same token. So weights are integers, whose sums are exact in any order,
 * and what leads to them uses nothing but IEEE operations of one rounding each, written out: no
 * mathematical library, no fused multiply-add (the build forbids contraction). */
#ifndef COG_ENGINE_SAMPLE_MATH_H
#define COG_ENGINE_SAMPLE_MATH_H

#include "base/device.h"

#include <float.h>
#include <stdint.h>

#if defined(__CUDA_ARCH__)
#define COG_SAMPLE_MUL(a, b) __dmul_rn(a, b)
#define COG_SAMPLE_ADD(a, b) __dadd_rn(a, b)
#else
#define COG_SAMPLE_MUL(a, b) ((a) * (b))
#define COG_SAMPLE_ADD(a, b) ((a) + (b))
#endif

enum { COG_SAMPLE_BITS = 40 }; /* the best token weighs 2^40; a sum of 2^23 of them fits 64 bits */

/* exp(x) * 2^40 without its fraction, for x <= 0; 0 for NaN. 2^n times a polynomial of degree 11 on
 * [-ln 2 / 2, ln 2 / 2], the Taylor series: the rest is below 2^-46 of the sum. ln 2 in two parts,
 * the first short enough for exact products with n (Cody, Waite, 1980). */
COG_HOST_DEVICE uint64_t cog_sample_exp(double x)
{
    const double c[] = { 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                         1.0 / 5040,     1.0 / 720,     1.0 / 120,    1.0 / 24,
                         1.0 / 6,        1.0 / 2,       1.0,          1.0 };
    double r, p = c[0];
    int n;

    if (!(x > -28)) /* exp(-28) < 2^-40 */
        return 0;
    n = (int)COG_SAMPLE_ADD(COG_SAMPLE_MUL(x, 1.4426950408889634), -0.5);
    r = COG_SAMPLE_ADD(x, COG_SAMPLE_MUL((double)-n, 0x1.62e42feep-1));
    r = COG_SAMPLE_ADD(r, COG_SAMPLE_MUL((double)-n, 0x1.a39ef35793c76p-33));
    for (int i = 1; i < 12; i++)
        p = COG_SAMPLE_ADD(COG_SAMPLE_MUL(p, r), c[i]);
    return (uint64_t)COG_SAMPLE_MUL(p, 0x1p52) >> (52 - COG_SAMPLE_BITS - n);
}

/* The weight of a token that is a candidate, 0 for others: exp((logit - max) / temperature) of at
 * least 2^-40 and at least min_p. inverse = 1.0 / temperature. */
COG_HOST_DEVICE uint64_t cog_sample_weight(float logit, float max, double inverse, float min_p)
{
    double off = COG_SAMPLE_ADD((double)logit, -(double)max);
    uint64_t weight = cog_sample_exp(COG_SAMPLE_MUL(off, inverse));

    return (double)weight >= COG_SAMPLE_MUL((double)min_p, 0x1p40) ? weight : 0;
}

/* The sum that the best tokens must reach for a share of total; at least one of them is kept. */
COG_HOST_DEVICE uint64_t cog_sample_share(uint64_t total, float share)
{
    uint64_t sum = (uint64_t)COG_SAMPLE_MUL((double)total, (double)share);

    return sum > 0 ? sum : 1;
}

/* bits / 2^64 of total, without fraction: a token is drawn when the running sum exceeds it. */
COG_HOST_DEVICE uint64_t cog_sample_target(uint64_t total, uint64_t bits)
{
#if defined(__CUDA_ARCH__)
    return __umul64hi(total, bits);
#else
    return (uint64_t)((unsigned __int128)total * bits >> 64);
#endif
}

/* A logit with its bias; -infinity takes the token away. */
COG_HOST_DEVICE float cog_sample_bias(float logit, float bias)
{
#if defined(__CUDA_ARCH__)
    return __fadd_rn(logit, bias);
#else
    return logit + bias;
#endif
}

/* A logit after the repetition penalty; finite if it was: a client's penalty must not look like a
 * broken model. */
COG_HOST_DEVICE float cog_sample_repeat(float logit, float penalty)
{
    double value = logit > 0 ? (double)logit / (double)penalty
                             : COG_SAMPLE_MUL((double)logit, (double)penalty);

    if (!(logit >= -FLT_MAX && logit <= FLT_MAX))
        return logit;
    return value > (double)FLT_MAX ? FLT_MAX : value < -(double)FLT_MAX ? -FLT_MAX : (float)value;
}

/* A logit of a token that stands count > 0 times in the output. */
COG_HOST_DEVICE float cog_sample_occur(float logit, float frequency, float presence, int count)
{
#if defined(__CUDA_ARCH__)
    return __fsub_rn(logit, __fadd_rn(__fmul_rn(frequency, (float)count), presence));
#else
    float product = frequency * (float)count;

    return logit - (product + presence);
#endif
}

#endif
