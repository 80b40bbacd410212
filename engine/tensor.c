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
