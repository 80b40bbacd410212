#include "engine/tensor.h"

#include <string.h>

static float f16_to_f32(uint16_t h)
{
    _Float16 v; /* IEEE binary16; gcc and clang on x86-64 and arm64 convert it exactly */

    memcpy(&v, &h, sizeof(v));
    return (float)v;
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
