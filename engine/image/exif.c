#include "engine/image/exif.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

enum { TIFF_HEADER = 8, ENTRY = 12, TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, TYPE_LONG = 4 };

static uint32_t get16(const uint8_t *p, bool big)
{
    return big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t get32(const uint8_t *p, bool big)
{
    return big ? get16(p, big) << 16 | get16(p + 2, big) : get16(p + 2, big) << 16 | get16(p, big);
}

int cog_exif_orientation(const uint8_t *bytes, size_t len)
{
    size_t at, n;
    bool big;

    if (len >= 6 && memcmp(bytes, "Exif\0\0", 6) == 0) {
        bytes += 6;
        len -= 6;
    }
    if (len < TIFF_HEADER)
        return 1;
    big = memcmp(bytes, "MM\0*", 4) == 0;
    if (!big && memcmp(bytes, "II*\0", 4) != 0)
        return 1;

    at = get32(bytes + 4, big);
    if (at > len - 2)
        return 1;
    n = get16(bytes + at, big);
    at += 2;
    for (; n > 0 && len - at >= ENTRY; n--, at += ENTRY) {
        const uint8_t *e = bytes + at;
        uint32_t type = get16(e + 2, big), value;

        if (get16(e, big) != TAG_ORIENTATION)
            continue;
        if (get32(e + 4, big) != 1 || (type != TYPE_SHORT && type != TYPE_LONG))
            return 1;
        value = type == TYPE_SHORT ? get16(e + 8, big) : get32(e + 8, big);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

static void put(uint8_t *dst, const uint8_t *src)
{
    dst[0] = src[0];
    dst[1] = src[1];
    dst[2] = src[2];
}

static void mirror_row(uint8_t *row, int width)
{
    for (uint8_t *a = row, *b = row + ((size_t)width - 1) * 3; a < b; a += 3, b -= 3) {
        uint8_t keep[3];

        put(keep, a);
        put(a, b);
        put(b, keep);
    }
}

static void swap_rows(uint8_t *a, uint8_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t keep = a[i];

        a[i] = b[i];
        b[i] = keep;
    }
}

/* Pixel (x, y) goes to row x, column y, each counted from the other end if asked. In squares,
 * because one side of the move always strides over whole rows. */
static uint8_t *transpose(const uint8_t *src, int width, int height, bool mirrored, bool flipped)
{
    enum { SQUARE = 32 };
    uint8_t *dst = cog_alloc((size_t)width * height, 3);
    ptrdiff_t step = mirrored ? -3 : 3;

    for (int y0 = 0; y0 < height; y0 += SQUARE)
        for (int x0 = 0; x0 < width; x0 += SQUARE)
            for (int x = x0; x < x0 + SQUARE && x < width; x++) {
                size_t row = flipped ? width - 1 - x : x, column = mirrored ? height - 1 - y0 : y0;
                const uint8_t *from = src + ((size_t)y0 * width + x) * 3;
                uint8_t *to = dst + (row * height + column) * 3;

                for (int y = y0; y < y0 + SQUARE && y < height; y++) {
                    put(to, from);
                    from += (size_t)width * 3;
                    to += step;
                }
            }
    return dst;
}

uint8_t *cog_exif_turn(uint8_t *rgb, int *width, int *height, int orientation)
{
    /* Every orientation is a transposition or none, then mirrored columns or not, then mirrored
     * rows or not. */
    bool transposed = orientation >= 5;
    bool mirrored = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    bool flipped = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    size_t row = (size_t)*width * 3;

    assert(orientation >= 1 && orientation <= 8);
    if (transposed) {
        uint8_t *turned = transpose(rgb, *width, *height, mirrored, flipped);
        int side = *width;

        *width = *height;
        *height = side;
        cog_free(rgb);
        return turned;
    }
    if (mirrored)
        for (int y = 0; y < *height; y++)
            mirror_row(rgb + y * row, *width);
    if (flipped)
        for (int y = 0; y < *height / 2; y++)
            swap_rows(rgb + y * row, rgb + (*height - 1 - y) * row, row);
    return rgb;
}
