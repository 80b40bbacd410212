/* Resizing: the vector version and the plain one give the same bits; a picture of one colour stays
 * one; a size that stays is no change. The input's bytes are the pixels, over and over; the last
 * four are the sides. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "engine/cpu/cpuflags.h"
#include "engine/image/resize.h"

#include <string.h>

typedef struct picture {
    int width, height;
    uint8_t *rgb;
} picture;

static size_t bytes_of(const picture *p)
{
    return (size_t)p->width * (size_t)p->height * 3;
}

static picture new_picture(int width, int height)
{
    picture p = { width, height, NULL };

    p.rgb = cog_alloc(bytes_of(&p), 1);
    return p;
}

static void resize(picture *dst, const picture *src)
{
    cog_resize_bicubic(dst->rgb, dst->width, dst->height, src->rgb, src->width, src->height);
}

static void check_variants(const picture *src, int width, int height)
{
    picture plain = new_picture(width, height), fast = new_picture(width, height);

    cog_cpu_set_mask(0);
    resize(&plain, src);
    cog_cpu_set_mask(~0u);
    resize(&fast, src);
    REQUIRE_SAY(memcmp(plain.rgb, fast.rgb, bytes_of(&plain)) == 0, "%dx%d to %dx%d", src->width,
                src->height, width, height);
    if (width == src->width && height == src->height)
        REQUIRE(memcmp(plain.rgb, src->rgb, bytes_of(&plain)) == 0);
    cog_free(plain.rgb);
    cog_free(fast.rgb);
}

static void check_one_colour(const picture *src, int width, int height)
{
    picture flat = new_picture(src->width, src->height), out = new_picture(width, height);

    for (size_t i = 0; i < bytes_of(&flat); i++)
        flat.rgb[i] = src->rgb[i % 3];
    resize(&out, &flat);
    for (size_t i = 0; i < bytes_of(&out); i++)
        REQUIRE_SAY(out.rgb[i] == src->rgb[i % 3], "%d became %d", src->rgb[i % 3], out.rgb[i]);
    cog_free(flat.rgb);
    cog_free(out.rgb);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_tail tail = { bytes, len };
    int width = 1 + (int)fuzz_take(&tail) % 48, height = 1 + (int)fuzz_take(&tail) % 48;
    picture src = new_picture(1 + (int)fuzz_take(&tail) % 48, 1 + (int)fuzz_take(&tail) % 48);

    for (size_t i = 0; i < bytes_of(&src); i++)
        src.rgb[i] = tail.len ? bytes[i % tail.len] : (uint8_t)(i * 37);
    check_variants(&src, width, height);
    check_one_colour(&src, width, height);
    cog_free(src.rgb);
    return 0;
}
