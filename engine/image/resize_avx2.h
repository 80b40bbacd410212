/* resize_avx2.h - the two passes of resize.c in AVX2, with equal results. Private to resize.c.
 *
 * A weight of 24 bits is split into two of 16, w = high * 2^11 + low with 0 <= low < 2^11, so that
 * the multiply-add of 16-bit pairs gives the exact sum. */
#ifndef COG_ENGINE_RESIZE_AVX2_H
#define COG_ENGINE_RESIZE_AVX2_H

#include "engine/image/resize.h"

#include <stddef.h>

enum { COG_RESIZE_OVERREAD = 13 }; /* bytes */

/* n rows, each resized by t: dst [n, t->n_out, 3], src [n, src_row bytes]. Reads (and ignores) as
 * much as COG_RESIZE_OVERREAD bytes behind the last row. */
void cog_resize_rows_avx2(uint8_t *dst, const uint8_t *src, int n, size_t src_row,
                          const cog_resize_taps *t);

/* The first columns of dst [t->n_out, row_bytes]; returns how many bytes of each row it did, the
 * largest multiple of 16 in row_bytes. */
size_t cog_resize_columns_avx2(uint8_t *dst, const uint8_t *src, size_t row_bytes,
                               const cog_resize_taps *t);

#endif
