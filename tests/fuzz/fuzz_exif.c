/* Exif: an orientation from any bytes, the same with and without JPEG's prefix; turning and turning
 * back is no change. The last two bytes are the sides of a picture to turn. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "engine/image/exif.h"

#include <string.h>

static void check_prefix(const uint8_t *bytes, size_t len, int orientation)
{
    static const uint8_t prefix[6] = "Exif\0";
    uint8_t *longer;

    if (len >= sizeof(prefix) && memcmp(bytes, prefix, sizeof(prefix)) == 0)
        return;
    longer = cog_alloc(len + sizeof(prefix), 1);
    memcpy(longer, prefix, sizeof(prefix));
    memcpy(longer + sizeof(prefix), bytes, len);
    REQUIRE(cog_exif_orientation(longer, len + sizeof(prefix)) == orientation);
    cog_free(longer);
}

static void check_turn(int orientation, int width, int height)
{
    static const int back[9] = { 0, 1, 2, 3, 4, 5, 8, 7, 6 };
    size_t n = (size_t)width * (size_t)height * 3;
    uint8_t *rgb = cog_alloc(n, 1);
    int w = width, h = height;

    for (size_t i = 0; i < n; i++)
        rgb[i] = (uint8_t)(i * 7 + i / 256);
    rgb = cog_exif_turn(rgb, &w, &h, orientation);
    REQUIRE(orientation >= 5 ? w == height && h == width : w == width && h == height);
    rgb = cog_exif_turn(rgb, &w, &h, back[orientation]);
    REQUIRE(w == width && h == height);
    for (size_t i = 0; i < n; i++)
        REQUIRE(rgb[i] == (uint8_t)(i * 7 + i / 256));
    cog_free(rgb);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_tail tail = { bytes, len };
    int width = 1 + (int)(fuzz_take(&tail) & 31), height = 1 + (int)(fuzz_take(&tail) & 31);
    int orientation = cog_exif_orientation(bytes, tail.len);

    REQUIRE_SAY(orientation >= 1 && orientation <= 8, "%d", orientation);
    check_prefix(bytes, tail.len, orientation);
    check_turn(orientation, width, height);
    return 0;
}
