#include "tests/conform/conform.h"

#include "base/alloc.h"
#include "engine/cpu/cpuflags.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 256, SKIP = 77 };

/* Every aligned pair and quadruple of these bytes is a NaN, as bf16 and as f32. */
enum { POISON = 0xff };

typedef struct header {
    size_t bytes;
} header;

void *conform_alloc(conform *c, size_t n, size_t size)
{
    size_t bytes = n * size;
    char *base = cog_alloc_aligned(bytes + 2 * GUARD, 64);

    memset(base, POISON, bytes + 2 * GUARD);
    memcpy(base, &bytes, sizeof(bytes));
    c->memories++;
    return base + GUARD;
}

static void fail(conform *c, const char *what)
{
    if (c->failures++ == 0)
        printf("# %s %s %s: %s; seed %llu: %s\n", c->got.isa, cog_dtype_name(c->dtype), c->op,
               c->shape, (unsigned long long)c->seed, what);
}

void conform_free(conform *c, void *p)
{
    unsigned char *base = (unsigned char *)p - GUARD;
    size_t bytes;

    memcpy(&bytes, base, sizeof(bytes));
    for (size_t i = sizeof(bytes); i < GUARD; i++) {
        if (base[i] != POISON || base[GUARD + bytes + i - sizeof(bytes)] != POISON) {
            fail(c, "wrote outside its output");
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
    fail(c, text);
}

void conform_same(conform *c, const char *what, const void *got, const void *want, size_t bytes)
{
    const unsigned char *a = got, *b = want;
    char text[160];

    c->compared++;
    for (size_t i = 0; i < bytes; i++) {
        if (a[i] != b[i]) {
            snprintf(text, sizeof(text), "%s: other bits at byte %zu", what, i);
            fail(c, text);
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
        fail(c, text);
    }
}

/* ---- the run ---- */

static const struct {
    const char *name;
    void (*run)(conform *c);
} ops[] = {
    { "gemm", conform_gemm },           { "gemm_out", conform_gemm_out },
    { "attention", conform_attention }, { "norms", conform_norms },
    { "functions", conform_functions }, { "exact", conform_exact },
};

static const struct {
    const char *name;
    unsigned need, mask;
} variants[] = {
    { "ref", 0, 0 },
    { "avx2", COG_CPU_AVX2, COG_CPU_AVX2 },
    { "avx512", COG_CPU_AVX512, COG_CPU_AVX512 },
    { "bf16", COG_CPU_AVX512_BF16, ~0u },
};

static int run_variant(unsigned mask, const char *op, uint64_t seed)
{
    int failed = 0, n = 0;

    for (cog_dtype dtype = COG_F32; dtype <= COG_BF16; dtype++) {
        for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
            conform c = { .dtype = dtype, .seed = seed, .op = ops[i].name, .rng = { seed, 0 } };
            if (op && strcmp(op, ops[i].name) != 0)
                continue;
            cog_cpu_set_mask(mask);
            cog_kernels_ref(&c.ref, dtype);
            cog_kernels_get(&c.got, dtype, cog_cpu_flags());
            ops[i].run(&c);
            if (c.memories != 0)
                fail(&c, "the test leaks");
            printf("%sok %d - %s %s %s, %ld comparisons\n", c.failures ? "not " : "", ++n,
                   c.got.isa, cog_dtype_name(dtype), c.op, c.compared);
            failed += c.failures != 0;
        }
    }
    printf("1..%d\n", n);
    return failed || n == 0 ? 1 : 0;
}

static int usage(void)
{
    fprintf(stderr, "conform [--op gemm|gemm_out|attention|norms|functions|exact] "
                    "[--flags ref|avx2|avx512|bf16] [--seed N]\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *op = NULL, *flags = "bf16";
    uint64_t seed = 1;

    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            return usage();
        if (strcmp(argv[i], "--op") == 0)
            op = argv[i + 1];
        else if (strcmp(argv[i], "--flags") == 0)
            flags = argv[i + 1];
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
        else
            return usage();
    }
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        if (strcmp(flags, variants[i].name) != 0)
            continue;
        if ((cog_cpu_flags() & variants[i].need) != variants[i].need) {
            printf("1..0 # SKIP this CPU has no %s\n", flags);
            return SKIP;
        }
        return run_variant(variants[i].mask, op, seed);
    }
    return usage();
}
