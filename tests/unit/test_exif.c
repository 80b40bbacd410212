#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/image/exif.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t little[] = { 'I', 'I', '*', 0, 8, 0,   0,   0, 2, 0,    0x0f, 0x01, 2,
                                  0,   4,   0,   0, 0, 'a', 'b', 0, 0, 0x12, 0x01, 3,    0,
                                  1,   0,   0,   0, 6, 0,   0,   0, 0, 0,    0,    0 };
static const uint8_t big[] = { 'M', 'M', 0, '*', 0, 0, 0, 10, 9, 9, 0, 1, 0x01, 0x12,
                               0,   3,   0, 0,   0, 1, 0, 8,  0, 0, 0, 0, 0,    0 };

/* From a block of exactly this size, so that a read beyond it is caught. */
static int orientation(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    int value;

    memcpy(copy, bytes, len);
    value = cog_exif_orientation(copy, len);
    free(copy);
    return value;
}

static void both_byte_orders_are_read(void **state)
{
    uint8_t prefixed[6 + sizeof(little)] = "Exif\0";

    assert_int_equal(orientation(little, sizeof(little)), 6);
    assert_int_equal(orientation(big, sizeof(big)), 8);
    memcpy(prefixed + 6, little, sizeof(little));
    assert_int_equal(orientation(prefixed, sizeof(prefixed)), 6);
}

static void a_long_value_is_read(void **state)
{
    uint8_t b[sizeof(big)];

    memcpy(b, big, sizeof(big));
    b[15] = 4;
    b[20] = b[21] = b[22] = 0;
    b[23] = 5;
    assert_int_equal(orientation(b, sizeof(b)), 5);
}

static void nonsense_is_upright(void **state)
{
    uint8_t b[sizeof(little)];

    memcpy(b, little, sizeof(b));
    for (int value = 0; value < 256; value++) {
        b[30] = (uint8_t)value;
        assert_int_equal(orientation(b, sizeof(b)), value >= 1 && value <= 8 ? value : 1);
    }
    b[30] = 6;
    b[24] = 2; /* text */
    assert_int_equal(orientation(b, sizeof(b)), 1);
    b[24] = 3;
    b[26] = 2; /* two values */
    assert_int_equal(orientation(b, sizeof(b)), 1);
    b[26] = 1;
    memset(b + 4, 0xff, 4); /* directory far away */
    assert_int_equal(orientation(b, sizeof(b)), 1);
    assert_int_equal(orientation((const uint8_t *)"II*\0\xff\xff\xff\xff", 8), 1);
    assert_int_equal(orientation((const uint8_t *)"IM*\0\x08\0\0\0\0\0", 10), 1);
}

static void cut_blocks_are_upright_or_whole(void **state)
{
    for (size_t len = 0; len <= sizeof(little); len++)
        assert_int_equal(orientation(little, len), len >= 34 ? 6 : 1);
    for (size_t len = 0; len <= sizeof(big); len++)
        assert_int_equal(orientation(big, len), len >= 24 ? 8 : 1);
}

static void random_blocks_stay_in_bounds(void **state)
{
    cog_rng r = { .key = 11 };

    for (int k = 0; k < 20000; k++) {
        uint8_t b[64];
        size_t len = cog_rng_below(&r, sizeof(b) + 1);
        int value;

        for (size_t i = 0; i < sizeof(b); i++)
            b[i] = (uint8_t)cog_rng_below(&r, k % 2 ? 256 : 4);
        memcpy(b, k & 2 ? "II*\0" : "MM\0*", 4);
        value = orientation(b, len);
        assert_true(value >= 1 && value <= 8);
    }
}

/* Where the corner pixel that was stored first, and its neighbour in the first row, are after. */
static void turning_puts_the_first_row_and_column_where_the_standard_says(void **state)
{
    enum { W = 5, H = 3 };
    static const struct {
        int x, y, dx, dy; /* of the first pixel, and of a step along the stored row */
    } want[9] = { { 0, 0, 0, 0 },          { 0, 0, 1, 0 },          { W - 1, 0, -1, 0 },
                  { W - 1, H - 1, -1, 0 }, { 0, H - 1, 1, 0 },      { 0, 0, 0, 1 },
                  { H - 1, 0, 0, 1 },      { H - 1, W - 1, 0, -1 }, { 0, W - 1, 0, -1 } };

    for (int k = 1; k <= 8; k++) {
        int width = W, height = H;
        uint8_t *rgb = cog_alloc(W * H, 3);

        for (int i = 0; i < W * H * 3; i++)
            rgb[i] = (uint8_t)i;
        rgb = cog_exif_turn(rgb, &width, &height, k);
        assert_int_equal(width, k < 5 ? W : H);
        assert_int_equal(height, k < 5 ? H : W);
        for (int i = 0; i < W; i++) {
            const uint8_t *p =
                rgb + ((want[k].y + i * want[k].dy) * width + want[k].x + i * want[k].dx) * 3;

            for (int c = 0; c < 3; c++)
                assert_int_equal(p[c], i * 3 + c);
        }
        cog_free(rgb);
    }
}

/* Larger than the squares that transposing works in. */
static void turning_there_and_back_changes_nothing(void **state)
{
    static const int back[9] = { 0, 1, 2, 3, 4, 5, 8, 7, 6 };
    enum { W = 101, H = 67 };

    for (int k = 1; k <= 8; k++) {
        int width = W, height = H;
        uint8_t *rgb = cog_alloc(W * H, 3);

        for (int i = 0; i < W * H * 3; i++)
            rgb[i] = (uint8_t)cog_rng_at(3, (uint64_t)i);
        rgb = cog_exif_turn(rgb, &width, &height, k);
        rgb = cog_exif_turn(rgb, &width, &height, back[k]);
        assert_int_equal(width, W);
        assert_int_equal(height, H);
        for (int i = 0; i < W * H * 3; i++)
            assert_int_equal(rgb[i], (uint8_t)cog_rng_at(3, (uint64_t)i));
        cog_free(rgb);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_byte_orders_are_read),
        cmocka_unit_test(a_long_value_is_read),
        cmocka_unit_test(nonsense_is_upright),
        cmocka_unit_test(cut_blocks_are_upright_or_whole),
        cmocka_unit_test(random_blocks_stay_in_bounds),
        cmocka_unit_test(turning_puts_the_first_row_and_column_where_the_standard_says),
        cmocka_unit_test(turning_there_and_back_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
