#include "engine/image/resize.h"

#include "base/alloc.h"
#include "engine/cpu/cpuflags.h"
#include "engine/image/resize_avx2.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

enum { FRACTION_BITS = 22, HALF = 1 << (FRACTION_BITS - 1), CHANNELS = 3 };

static double cubic(double t)
{
    const double a = -0.5;

    t = fabs(t);
    if (t < 1)
        return ((a + 2) * t - (a + 3)) * t * t + 1;
    if (t < 2)
        return (((t - 5) * t + 8) * t - 4) * a;
    return 0;
}

void cog_resize_taps_init(cog_resize_taps *t, int n_in, int n_out)
{
    double scale = (double)n_in / n_out;
    double stretch = fmax(scale, 1);
    double support = 2 * stretch;
    double *raw;

    assert(n_in > 0 && n_out > 0);
    t->n_out = n_out;
    t->max = (int)ceil(support) * 2 + 1;
    t->first = cog_array(int, n_out);
    t->n = cog_array(int, n_out);
    t->weight = cog_array(int32_t, (size_t)n_out * t->max);
    raw = cog_array(double, t->max);
    for (int j = 0; j < n_out; j++) {
        double centre = (j + 0.5) * scale, sum = 0;
        int lo = (int)fmax(trunc(centre - support + 0.5), 0);
        int hi = (int)fmin(trunc(centre + support + 0.5), n_in);

        for (int i = 0; i < hi - lo; i++) {
            raw[i] = cubic((i + lo - centre + 0.5) * (1 / stretch));
            sum += raw[i];
        }
        for (int i = 0; i < hi - lo; i++)
            t->weight[(size_t)j * t->max + i] =
                (int32_t)(raw[i] / sum * (1 << FRACTION_BITS) + (raw[i] / sum < 0 ? -0.5 : 0.5));
        t->first[j] = lo;
        t->n[j] = hi - lo;
    }
    cog_free(raw);
}

void cog_resize_taps_fini(cog_resize_taps *t)
{
    cog_free(t->first);
    cog_free(t->n);
    cog_free(t->weight);
    *t = (cog_resize_taps){ 0 };
}

static uint8_t to_byte(int32_t sum)
{
    sum >>= FRACTION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* The weights of one pixel add up to 2^22 and their magnitudes to less than 1.3 times that, so a
 * sum of weights times bytes stays below 2^31. */
static void resize_row(uint8_t *dst, const uint8_t *src, const cog_resize_taps *t)
{
    for (int j = 0; j < t->n_out; j++) {
        const uint8_t *p = src + (size_t)t->first[j] * CHANNELS;
        const int32_t *w = t->weight + (size_t)j * t->max;
        int32_t r = HALF, g = HALF, b = HALF;

        for (int i = 0; i < t->n[j]; i++, p += CHANNELS) {
            r += w[i] * p[0];
            g += w[i] * p[1];
            b += w[i] * p[2];
        }
        *dst++ = to_byte(r);
        *dst++ = to_byte(g);
        *dst++ = to_byte(b);
    }
}

/* As many rows from the top as the fast version may do. */
static int resize_rows_fast(uint8_t *dst, const uint8_t *src, int height, size_t src_row,
                            const cog_resize_taps *t)
{
#if defined(__x86_64__)
    int tail = (int)((COG_RESIZE_OVERREAD + src_row - 1) / src_row);

    if ((cog_cpu_flags() & COG_CPU_AVX2) && height > tail) {
        cog_resize_rows_avx2(dst, src, height - tail, src_row, t);
        return height - tail;
    }
#endif
    return 0;
}

static size_t resize_columns_fast(uint8_t *dst, const uint8_t *src, size_t row_bytes,
                                  const cog_resize_taps *t)
{
#if defined(__x86_64__)
    if (cog_cpu_flags() & COG_CPU_AVX2)
        return cog_resize_columns_avx2(dst, src, row_bytes, t);
#endif
    return 0;
}

/* Adds up whole rows, a strip of columns at a time, so that the sums stay in the first cache. */
static void resize_columns(uint8_t *dst, const uint8_t *src, size_t row_bytes, size_t from,
                           const cog_resize_taps *t)
{
    enum { STRIP = 1024 };
    int32_t sum[STRIP];

    for (int j = 0; j < t->n_out; j++, dst += row_bytes) {
        const int32_t *w = t->weight + (size_t)j * t->max;

        for (size_t x = from; x < row_bytes; x += STRIP) {
            size_t n = row_bytes - x < STRIP ? row_bytes - x : STRIP;
            const uint8_t *p = src + (size_t)t->first[j] * row_bytes + x;

            for (size_t c = 0; c < n; c++)
                sum[c] = HALF;
            for (int i = 0; i < t->n[j]; i++, p += row_bytes)
                for (size_t c = 0; c < n; c++)
                    sum[c] += w[i] * p[c];
            for (size_t c = 0; c < n; c++)
                dst[x + c] = to_byte(sum[c]);
        }
    }
}

void cog_resize_bicubic(uint8_t *dst, int dst_width, int dst_height, const uint8_t *src,
                        int src_width, int src_height)
{
    size_t src_row = (size_t)src_width * CHANNELS, dst_row = (size_t)dst_width * CHANNELS;
    uint8_t *between = NULL;
    cog_resize_taps t;

    if (src_width != dst_width) {
        uint8_t *out = dst;

        if (src_height != dst_height)
            out = between = cog_array(uint8_t, src_height * dst_row);
        cog_resize_taps_init(&t, src_width, dst_width);
        for (int y = resize_rows_fast(out, src, src_height, src_row, &t); y < src_height; y++)
            resize_row(out + y * dst_row, src + y * src_row, &t);
        cog_resize_taps_fini(&t);
        src = out;
    }
    if (src_height != dst_height) {
        cog_resize_taps_init(&t, src_height, dst_height);
        resize_columns(dst, src, dst_row, resize_columns_fast(dst, src, dst_row, &t), &t);
        cog_resize_taps_fini(&t);
    } else if (src != dst) {
        memcpy(dst, src, src_height * dst_row);
    }
    cog_free(between);
}
