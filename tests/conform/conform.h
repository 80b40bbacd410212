/* conform.h - each kernel of one variant against kernels_ref.c.
 *
 * An operation's file runs its kernel over a table of edge shapes and over random ones. Inputs sit
 * between NaNs, outputs are poisoned and lie between guard zones. The first failure of an operation
 * prints operation, shape, seed, index and both values.
 *
 * Two programs share this: conform_cpu.c runs the kernels of the CPU backend, conform_cuda.c those
 * of engine/cuda, with device.h for memory that is not the host's. */
#ifndef COG_TESTS_CONFORM_H
#define COG_TESTS_CONFORM_H

#include "base/rng.h"
#include "engine/cpu/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RANDOM_SHAPES = 100 };

typedef struct conform {
    cog_kernels ref, got; /* got: of the CPU variant under test */
    void *stream;         /* of a device */
    cog_dtype dtype;
    uint64_t seed;
    cog_rng rng; /* of the running operation */
    const char *variant, *op;
    char shape[160];
    int failures; /* of the running operation */
    long compared;
    int memories; /* guarded buffers alive */
} conform;

typedef struct conform_op {
    const char *name;
    void (*run)(conform *c);
} conform_op;

/* Runs those of ops whose name is `only` (NULL: all) in f32 and bf16 and prints TAP. begin fills in
 * what the operations need besides. Returns the exit status. */
int conform_run(const conform_op *ops, size_t n_ops, const char *only, uint64_t seed,
                void (*begin)(conform *c));
/* Counts a failure, and prints the operation's first. */
void conform_fail(conform *c, const char *what);

/* ---- inputs and outputs ---- */

enum { CONFORM_GUARD = 256 };

/* Every aligned pair and quadruple of these bytes is a NaN, as bf16 and as f32. */
enum { CONFORM_POISON = 0xff };

/* n elements of `size` bytes, 64-byte aligned, all NaN, between guard zones of NaN. */
void *conform_alloc(conform *c, size_t n, size_t size);
/* Checks that the guard zones are untouched. */
void conform_free(conform *c, void *p);

/* Sets element i of p, rounded to the type; returns the value that it then has. */
float conform_set(const conform *c, void *p, size_t i, float value);
float conform_get(const conform *c, const void *p, size_t i);
/* Uniform in [-spread, spread]. */
float conform_random(conform *c, float spread);
/* n random elements in conform_alloc'ed memory. */
void *conform_elements(conform *c, size_t n, float spread);
float *conform_floats(conform *c, size_t n, float center, float spread);
int conform_between(conform *c, int low, int high); /* both included */

static inline size_t conform_size(const conform *c)
{
    return cog_dtype_size(c->dtype);
}

/* ---- comparing ---- */

void conform_shape(conform *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* |got - want| <= bound; a NaN equals a NaN only. */
void conform_near(conform *c, size_t index, float got, float want, double bound);
/* n elements with the same bits. */
void conform_same(conform *c, const char *what, const void *got, const void *want, size_t bytes);
/* n elements: f32 within bound(i); bf16 within that plus one ulp, and almost all with the same
 * bits: f32 noise moves few values across a rounding boundary, a second rounding moves many. */
void conform_elements_near(conform *c, const void *got, const void *want, size_t n,
                           const double *bound);

#endif
