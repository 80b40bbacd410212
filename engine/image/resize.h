/* resize.h - bicubic resizing of 8-bit RGB, to the bit as Pillow's Image.resize(size, BICUBIC).
 *
 * The filter is Keys' cubic convolution with a = -0.5, stretched by the scale when shrinking (so it
 * also removes aliases). Each axis is one pass in fixed point with 22 fractional bits; horizontal
 * first, then vertical, and the picture between them is rounded and clamped to 8 bits. An axis that
 * keeps its size has no pass. The definition is Pillow's (src/libImaging/Resample.c).
 *
 * Pure; any thread. */
#ifndef COG_ENGINE_RESIZE_H
#define COG_ENGINE_RESIZE_H

#include <stdint.h>

/* What one axis of n_in pixels contributes to each of n_out pixels. */
typedef struct cog_resize_taps {
    int n_out;
    int max;         /* row length of weight */
    int *first, *n;  /* [n_out] the input pixels first .. first + n - 1, all in range */
    int32_t *weight; /* [n_out, max] times 2^22; entries from n on are zero */
} cog_resize_taps;

void cog_resize_taps_init(cog_resize_taps *t, int n_in, int n_out); /* both at least 1 */
void cog_resize_taps_fini(cog_resize_taps *t);

/* dst [dst_height, dst_width, 3] becomes src [src_height, src_width, 3] resized; they do not
 * overlap, and every size is at least 1. Takes src_height * dst_width * 3 bytes meanwhile. */
void cog_resize_bicubic(uint8_t *dst, int dst_width, int dst_height, const uint8_t *src,
                        int src_width, int src_height);

#endif
