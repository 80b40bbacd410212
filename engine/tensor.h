/* tensor.h - a read-only view of one tensor of a checkpoint file. */
#ifndef COG_ENGINE_TENSOR_H
#define COG_ENGINE_TENSOR_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef enum cog_dtype { COG_F32, COG_BF16, COG_F16 } cog_dtype;

enum { COG_MAX_DIMS = 4 };

typedef struct cog_tensor {
    const char *name; /* borrowed from the file that holds it */
    cog_dtype dtype;
    int n_dims;
    int64_t dim[COG_MAX_DIMS]; /* row-major, outermost first */
    const void *data;          /* borrowed, little-endian, any alignment */
    size_t bytes; /* product of dims times element size, checked when the file was opened */
} cog_tensor;

static inline size_t cog_dtype_size(cog_dtype dtype)
{
    return dtype == COG_F32 ? 4 : 2;
}

static inline const char *cog_dtype_name(cog_dtype dtype)
{
    return dtype == COG_F32 ? "f32" : dtype == COG_BF16 ? "bf16" : "f16";
}

static inline float cog_bf16_to_f32(uint16_t bits)
{
    union {
        uint32_t u;
        float f;
    } v = { .u = (uint32_t)bits << 16 };
    return v.f;
}

/* Round to nearest even; a NaN stays a NaN. */
static inline uint16_t cog_f32_to_bf16(float value)
{
    union {
        float f;
        uint32_t u;
    } v = { .f = value };

    if ((v.u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((v.u >> 16) | 0x40u);
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}

/* The value after one rounding to bf16. */
static inline float cog_round_bf16(float value)
{
    return cog_bf16_to_f32(cog_f32_to_bf16(value));
}

/* dst[i] = element first + i of t, for i < n. Any alignment, any dtype. */
void cog_tensor_read(float *dst, const cog_tensor *t, size_t first, size_t n);

/* A tensor as a matrix: [out, in, k, k] counts as [out, in * k * k], [n] and [1, 1, n] as [1, n].
 */
int64_t cog_tensor_rows(const cog_tensor *t);
int64_t cog_tensor_cols(const cog_tensor *t);

/* The size of n_parts tensors' rows, one below the other. COG_EFORMAT when their columns differ or
 * there is none. */
int cog_tensor_stack(int64_t *rows, int64_t *cols, const cog_tensor *const *parts, int n_parts,
                     cog_err *err);

#endif
