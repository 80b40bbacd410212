#include "engine/image/resize_avx2.h"

#include "base/alloc.h"

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

enum { SPLIT = 11, FRACTION_BITS = 22, GROUP = 4 /* taps at a time */ };

/* Per output and group of four taps the four high parts, then the four low parts. */
typedef struct split_taps {
    int groups;
    int16_t *part; /* [n_out, groups, 2, GROUP] */
} split_taps;

static split_taps split(const cog_resize_taps *t)
{
    split_taps s = { .groups = (t->max + GROUP - 1) / GROUP };

    s.part = cog_array(int16_t, (size_t)t->n_out * s.groups * 2 * GROUP);
    for (int j = 0; j < t->n_out; j++)
        for (int i = 0; i < t->n[j]; i++) {
            int32_t w = t->weight[(size_t)j * t->max + i];
            int16_t *p = s.part + ((size_t)j * s.groups + i / GROUP) * 2 * GROUP + i % GROUP;

            p[0] = (int16_t)(w >> SPLIT);
            p[GROUP] = (int16_t)(w & ((1 << SPLIT) - 1));
        }
    return s;
}

static __m256i broadcast64(const int16_t *p)
{
    int64_t v;

    memcpy(&v, p, sizeof(v));
    return _mm256_set1_epi64x(v);
}

static __m256i finish(__m256i high, __m256i low)
{
    return _mm256_add_epi32(_mm256_slli_epi32(high, SPLIT), low);
}

static __m256i round_off(__m256i sum)
{
    sum = _mm256_add_epi32(sum, _mm256_set1_epi32(1 << (FRACTION_BITS - 1)));
    return _mm256_srai_epi32(sum, FRACTION_BITS);
}

/* Four pixels become rrrrgggg bbbb0000 in 16 bits each: a multiply-add sums neighbours, so after
 * all taps the eight sums are r r g g | b b 0 0. */
static void resize_row(uint8_t *dst, const uint8_t *src, const cog_resize_taps *t,
                       const split_taps *s)
{
    const __m128i planar = _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1);

    for (int j = 0; j < t->n_out; j++, dst += 3) {
        const uint8_t *p = src + (size_t)t->first[j] * 3;
        const int16_t *w = s->part + (size_t)j * s->groups * 2 * GROUP;
        __m256i high = _mm256_setzero_si256(), low = high, sum;

        for (int i = 0; i < t->n[j]; i += GROUP, p += GROUP * 3, w += 2 * GROUP) {
            __m128i pixels = _mm_loadu_si128((const __m128i *)p);
            __m256i wide = _mm256_cvtepu8_epi16(_mm_shuffle_epi8(pixels, planar));

            high = _mm256_add_epi32(high, _mm256_madd_epi16(wide, broadcast64(w)));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(wide, broadcast64(w + GROUP)));
        }
        sum = finish(high, low);
        sum = round_off(_mm256_hadd_epi32(sum, sum)); /* r g r g | b 0 b 0 */
        sum = _mm256_packs_epi32(sum, sum);
        sum = _mm256_packus_epi16(sum, sum);
        dst[0] = (uint8_t)_mm256_extract_epi8(sum, 0);
        dst[1] = (uint8_t)_mm256_extract_epi8(sum, 1);
        dst[2] = (uint8_t)_mm256_extract_epi8(sum, 16);
    }
}

void cog_resize_rows_avx2(uint8_t *dst, const uint8_t *src, int n, size_t src_row,
                          const cog_resize_taps *t)
{
    split_taps s = split(t);

    for (int y = 0; y < n; y++)
        resize_row(dst + (size_t)y * t->n_out * 3, src + y * src_row, t, &s);
    cog_free(s.part);
}

/* The two weights of taps i and i + 1 in every 32 bits; an odd last tap is paired with zero. */
static __m256i pair(const int32_t *w, bool single, bool high)
{
    int32_t a = high ? w[0] >> SPLIT : w[0] & ((1 << SPLIT) - 1);
    int32_t b = single ? 0 : high ? w[1] >> SPLIT : w[1] & ((1 << SPLIT) - 1);

    return _mm256_set1_epi32((int32_t)((uint32_t)b << 16 | (uint16_t)a));
}

/* Sixteen columns of one output row. */
static void resize_strip(uint8_t *dst, const uint8_t *p, size_t row_bytes, const int32_t *w, int n)
{
    __m256i high[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
    __m256i low[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
    __m256i out;

    for (int i = 0; i < n; i += 2, p += 2 * row_bytes) {
        bool single = i + 1 == n;
        __m256i wh = pair(w + i, single, true), wl = pair(w + i, single, false);
        __m128i a = _mm_loadu_si128((const __m128i *)p);
        __m128i b = single ? a : _mm_loadu_si128((const __m128i *)(p + row_bytes));
        __m256i wide[2] = { _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)),
                            _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b)) };

        for (int k = 0; k < 2; k++) {
            high[k] = _mm256_add_epi32(high[k], _mm256_madd_epi16(wide[k], wh));
            low[k] = _mm256_add_epi32(low[k], _mm256_madd_epi16(wide[k], wl));
        }
    }
    out =
        _mm256_packs_epi32(round_off(finish(high[0], low[0])), round_off(finish(high[1], low[1])));
    out = _mm256_permute4x64_epi64(out, 0xd8);
    _mm_storeu_si128((__m128i *)dst, _mm_packus_epi16(_mm256_castsi256_si128(out),
                                                      _mm256_extracti128_si256(out, 1)));
}

size_t cog_resize_columns_avx2(uint8_t *dst, const uint8_t *src, size_t row_bytes,
                               const cog_resize_taps *t)
{
    size_t whole = row_bytes - row_bytes % 16;

    for (int j = 0; j < t->n_out; j++)
        for (size_t x = 0; x < whole; x += 16)
            resize_strip(dst + j * row_bytes + x, src + t->first[j] * row_bytes + x, row_bytes,
                         t->weight + (size_t)j * t->max, t->n[j]);
    return whole;
}
