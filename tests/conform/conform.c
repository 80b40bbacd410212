#include "tests/conform/conform.h"

#include "base/alloc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { GUARD = CONFORM_GUARD, POISON = CONFORM_POISON };

void *conform_alloc(conform *c, size_t n, size_t size)
{
    size_t bytes = n * size;
    char *base = cog_alloc_aligned(bytes + 2 * GUARD, 64);

    memset(base, POISON, bytes + 2 * GUARD);
    memcpy(base, &bytes, sizeof(bytes));
    c->memories++;
    return base + GUARD;
}

void conform_fail(conform *c, const char *what)
{
    if (c->failures++ == 0)
        printf("# %s %s %s: %s; seed %llu: %s\n", c->variant, cog_dtype_name(c->dtype), c->op,
               c->shape, (unsigned long long)c->seed, what);
}

void conform_free(conform *c, void *p)
{
    unsigned char *base = (unsigned char *)p - GUARD;
    size_t bytes;

    memcpy(&bytes, base, sizeof(bytes));
    for (size_t i = sizeof(bytes); i < GUARD; i++) {
        if (base[i] != POISON || base[GUARD + bytes + i - sizeof(bytes)] != POISON) {
            conform_fail(c, "wrote outside its output");
            break;
        }
    }
    c->memories--;
    cog_free(base);
}

float conform_get(const conform *c, const void *p, size_t i)
{
    return c->dtype == COG_F32 ? ((const float *)p)[i] : cog_bf16_to_f32(((const uint16_t *)p)[i]);
}

float conform_set(const conform *c, void *p, size_t i, float value)
{
    if (c->dtype == COG_F32)
        ((float *)p)[i] = value;
    else
        ((uint16_t *)p)[i] = cog_f32_to_bf16(value);
    return conform_get(c, p, i);
}

float conform_random(conform *c, float spread)
{
    return spread * (float)(2 * cog_rng_unit(cog_rng_next(&c->rng)) - 1);
}

void *conform_elements(conform *c, size_t n, float spread)
{
    void *p = conform_alloc(c, n, conform_size(c));

    for (size_t i = 0; i < n; i++)
        conform_set(c, p, i, conform_random(c, spread));
    return p;
}

float *conform_floats(conform *c, size_t n, float center, float spread)
{
    float *p = conform_alloc(c, n, sizeof(float));

    for (size_t i = 0; i < n; i++)
        p[i] = center + conform_random(c, spread);
    return p;
}

int conform_between(conform *c, int low, int high)
{
    return low + (int)cog_rng_below(&c->rng, (uint64_t)(high - low + 1));
}

void conform_shape(conform *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(c->shape, sizeof(c->shape), fmt, ap);
    va_end(ap);
}

void conform_near(conform *c, size_t index, float got, float want, double bound)
{
    char text[160];

    c->compared++;
    if (isnan(got) && isnan(want))
        return;
    if (got == want || fabs((double)got - (double)want) <= bound)
        return;
    snprintf(text, sizeof(text), "index %zu is %.9g, expected %.9g within %.3g", index, (double)got,
             (double)want, bound);
    conform_fail(c, text);
}

void conform_same(conform *c, const char *what, const void *got, const void *want, size_t bytes)
{
    const unsigned char *a = got, *b = want;
    char text[160];

    c->compared++;
    for (size_t i = 0; i < bytes; i++) {
        if (a[i] != b[i]) {
            snprintf(text, sizeof(text), "%s: other bits at byte %zu", what, i);
            conform_fail(c, text);
            return;
        }
    }
}

void conform_elements_near(conform *c, const void *got, const void *want, size_t n,
                           const double *bound)
{
    size_t moved = 0;
    char text[80];

    for (size_t i = 0; i < n; i++) {
        float g = conform_get(c, got, i), w = conform_get(c, want, i);
        double ulp = c->dtype == COG_BF16 ? ldexp(fabs((double)w), -7) : 0;
        conform_near(c, i, g, w, bound[i] + ulp);
        moved += g != w && !isnan(w);
    }
    if (c->dtype == COG_BF16 && moved > 3 + n / 50) {
        snprintf(text, sizeof(text), "%zu of %zu elements are an ulp off", moved, n);
        conform_fail(c, text);
    }
}

/* ---- the run ---- */

int conform_run(const conform_op *ops, size_t n_ops, const char *only, uint64_t seed,
                void (*begin)(conform *c))
{
    int failed = 0, n = 0;

    for (cog_dtype dtype = COG_F32; dtype <= COG_BF16; dtype++) {
        for (size_t i = 0; i < n_ops; i++) {
            conform c = { .dtype = dtype, .seed = seed, .op = ops[i].name, .rng = { seed, 0 } };
            if (only && strcmp(only, ops[i].name) != 0)
                continue;
            cog_kernels_ref(&c.ref, dtype);
            begin(&c);
            ops[i].run(&c);
            if (c.memories != 0)
                conform_fail(&c, "the test leaks");
            printf("%sok %d - %s %s %s, %ld comparisons\n", c.failures ? "not " : "", ++n,
                   c.variant, cog_dtype_name(dtype), c.op, c.compared);
            fflush(stdout);
            failed += c.failures != 0;
        }
    }
    printf("1..%d\n", n);
    return failed || n == 0 ? 1 : 0;
}
