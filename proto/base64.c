#include "proto/base64.h"

#include "base/err.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* A character's six bits at one of four places; the top byte marks what is no base64. */
#define BAD 0xff000000u
#define SIX(c)                                   \
    ((c) >= 'A' && (c) <= 'Z'   ? (c) - 'A'      \
     : (c) >= 'a' && (c) <= 'z' ? (c) - 'a' + 26 \
     : (c) >= '0' && (c) <= '9' ? (c) - '0' + 52 \
     : (c) == '+'               ? 62             \
     : (c) == '/'               ? 63             \
                                : -1)
#define ENTRY(c, shift) (SIX(c) < 0 ? BAD : (uint32_t)SIX(c) << (shift))
#define E4(c, s)        ENTRY(c, s), ENTRY((c) + 1, s), ENTRY((c) + 2, s), ENTRY((c) + 3, s)
#define E16(c, s)       E4(c, s), E4((c) + 4, s), E4((c) + 8, s), E4((c) + 12, s)
#define E64(c, s)       E16(c, s), E16((c) + 16, s), E16((c) + 32, s), E16((c) + 48, s)
#define E256(s)                                         \
    {                                                   \
        E64(0, s), E64(64, s), E64(128, s), E64(192, s) \
    }

static const uint32_t place[4][256] = { E256(18), E256(12), E256(6), E256(0) };

static inline uint32_t group(const uint8_t *s)
{
    return place[0][s[0]] | place[1][s[1]] | place[2][s[2]] | place[3][s[3]];
}

/* The last group, which may be short: n is 2 or 3 characters. */
static int decode_tail(uint8_t *dst, const uint8_t *s, size_t n)
{
    uint32_t v = place[0][s[0]] | place[1][s[1]] | (n == 3 ? place[2][s[2]] : 0);
    uint32_t unused = n == 3 ? 0xffu : 0xffffu;

    if (v & (BAD | unused))
        return COG_EINVAL;
    dst[0] = (uint8_t)(v >> 16);
    if (n == 3)
        dst[1] = (uint8_t)(v >> 8);
    return 0;
}

int cog_base64_decode_table(uint8_t *dst, size_t *out_len, const char *src, size_t len)
{
    const uint8_t *s = (const uint8_t *)src;
    uint8_t *d = dst;
    uint32_t seen = 0;

    if (len && len % 4 == 0 && s[len - 1] == '=')
        len -= s[len - 2] == '=' ? 2 : 1;
    if (len % 4 == 1)
        return COG_EINVAL;
    for (; len >= 4; len -= 4, s += 4, d += 3) {
        uint32_t v = group(s);
        seen |= v;
        d[0] = (uint8_t)(v >> 16);
        d[1] = (uint8_t)(v >> 8);
        d[2] = (uint8_t)v;
    }
    if (seen & BAD)
        return COG_EINVAL;
    if (len) {
        if (decode_tail(d, s, len) < 0)
            return COG_EINVAL;
        d += len - 1;
    }
    *out_len = (size_t)(d - dst);
    return 0;
}

#if defined(__x86_64__)

/* 32 characters to 24 bytes, writing 32. False when one of them is no base64. */
__attribute__((target("avx2"))) static inline bool block_avx2(uint8_t *dst, const char *src)
{
    const __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)src);
    /* Signed compares: bytes of 0x80 and above are negative and in no range. */
#define WITHIN(lo, hi)                                               \
    _mm256_and_si256(_mm256_cmpgt_epi8(c, _mm256_set1_epi8((lo)-1)), \
                     _mm256_cmpgt_epi8(_mm256_set1_epi8((hi) + 1), c))
    const __m256i upper = WITHIN('A', 'Z'), lower = WITHIN('a', 'z'), digit = WITHIN('0', '9');
#undef WITHIN
    const __m256i plus = _mm256_cmpeq_epi8(c, _mm256_set1_epi8('+'));
    const __m256i slash = _mm256_cmpeq_epi8(c, _mm256_set1_epi8('/'));
    const __m256i any = _mm256_or_si256(_mm256_or_si256(upper, lower),
                                        _mm256_or_si256(digit, _mm256_or_si256(plus, slash)));
    __m256i shift, v;

    if (_mm256_movemask_epi8(any) != -1)
        return false;
    shift = _mm256_or_si256(_mm256_and_si256(upper, _mm256_set1_epi8(-'A')),
                            _mm256_and_si256(lower, _mm256_set1_epi8(26 - 'a')));
    shift = _mm256_or_si256(shift, _mm256_and_si256(digit, _mm256_set1_epi8(52 - '0')));
    shift = _mm256_or_si256(shift, _mm256_and_si256(plus, _mm256_set1_epi8(62 - '+')));
    shift = _mm256_or_si256(shift, _mm256_and_si256(slash, _mm256_set1_epi8(63 - '/')));
    v = _mm256_add_epi8(c, shift);
    v = _mm256_maddubs_epi16(v, _mm256_set1_epi32(0x01400140)); /* pairs: first << 6 | second */
    v = _mm256_madd_epi16(v, _mm256_set1_epi32(0x00011000));    /* first << 12 | second */
    v = _mm256_shuffle_epi8(v, _mm256_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1,
                                                -1, 2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1,
                                                -1, -1));
    v = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)dst, v);
    return true;
}

/* The groups before the last few; returns the characters used. What is no base64 is left to the
 * table, which finds it. */
__attribute__((target("avx2"))) static size_t decode_avx2(uint8_t *dst, const char *src, size_t len)
{
    size_t i = 0;

    /* A block writes 8 bytes past its own 24: those of the 16 characters that must follow. */
    while (len - i >= 48 && block_avx2(dst + i / 4 * 3, src + i))
        i += 32;
    return i;
}

bool cog_base64_has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

#else

static size_t decode_avx2(uint8_t *dst, const char *src, size_t len)
{
    return 0;
}

bool cog_base64_has_avx2(void)
{
    return false;
}

#endif

int cog_base64_decode(uint8_t *dst, size_t *out_len, const char *src, size_t len)
{
    size_t done = cog_base64_has_avx2() ? decode_avx2(dst, src, len) : 0;
    int rc = cog_base64_decode_table(dst + done / 4 * 3, out_len, src + done, len - done);

    if (rc == 0)
        *out_len += done / 4 * 3;
    return rc;
}

/* Bits of a group of 24, from the top. */
static char digit_of(uint32_t group, int from_top)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    return alphabet[group >> (18 - 6 * from_top) & 63];
}

void cog_base64_encode(cog_buf *out, const void *bytes, size_t len)
{
    const uint8_t *src = bytes;

    cog_buf_reserve(out, (len + 2) / 3 * 4);
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t group = (uint32_t)src[i] << 16 | (n > 1 ? (uint32_t)src[i + 1] << 8 : 0) |
                         (n > 2 ? src[i + 2] : 0);
        char four[4];

        for (int k = 0; k < 4; k++)
            four[k] = (size_t)k <= n ? digit_of(group, k) : '=';
        cog_buf_add(out, four, 4);
    }
}
