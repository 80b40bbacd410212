#include "engine/tensor.h"

#include <string.h>

/* IEEE binary16, in bits: clang 14 has no half type on x86-64. */
static float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff;
    union {
        uint32_t u;
        float f;
    } v;

    if (exponent == 31)
        v.u = 0x7f800000u | fraction << 13;
    else if (exponent > 0)
        v.u = (exponent + 112) << 23 | fraction << 13;
    else
        v.f = (float)fraction * 0x1p-24f; /* zero or subnormal */
    v.u |= sign;
    return v.f;
}

void cog_tensor_read(float *dst, const cog_tensor *t, size_t first, size_t n)
{
    const unsigned char *src = (const unsigned char *)t->data + first * cog_dtype_size(t->dtype);
    uint16_t half;

    switch (t->dtype) {
    case COG_F32:
        memcpy(dst, src, n * sizeof(float));
        break;
    case COG_BF16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, src + 2 * i, sizeof(half));
            dst[i] = cog_bf16_to_f32(half);
        }
        break;
    case COG_F16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, src + 2 * i, sizeof(half));
            dst[i] = f16_to_f32(half);
        }
        break;
    }
}

int64_t cog_tensor_rows(const cog_tensor *t)
{
    return t->n_dims < 2 ? 1 : t->dim[0];
}

int64_t cog_tensor_cols(const cog_tensor *t)
{
    int64_t n = t->n_dims < 1 ? 1 : t->dim[t->n_dims - 1];

    for (int d = 1; d < t->n_dims - 1; d++)
        n *= t->dim[d];
    return n;
}

int cog_tensor_stack(int64_t *rows, int64_t *cols, const cog_tensor *const *parts, int n_parts,
                     cog_err *err)
{
    int64_t sum = 0, width = n_parts > 0 ? cog_tensor_cols(parts[0]) : 0;

    if (n_parts < 1)
        return cog_err_set(err, COG_EFORMAT, "a parameter of no tensors");
    for (int i = 0; i < n_parts; i++) {
        sum += cog_tensor_rows(parts[i]);
        if (cog_tensor_cols(parts[i]) != width)
            return cog_err_set(err, COG_EFORMAT,
                               "tensors '%s' and '%s' cannot be stacked: rows of %lld and %lld",
                               parts[0]->name, parts[i]->name, (long long)width,
                               (long long)cog_tensor_cols(parts[i]));
    }
    *rows = sum;
    *cols = width;
    return 0;
}
