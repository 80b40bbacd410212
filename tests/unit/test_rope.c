#include "tests/unit/unit.h"

#include "engine/rope.h"

#include <math.h>

/* bf16 bit patterns of inv_freq = bf16(theta^(-2i/128)) at the indices used below, and of the
 * tables the reference computes from them. */
static void bf16_tables_follow_the_reference(void **state)
{
    static const struct {
        double theta;
        int pos, i;
        uint16_t cos, sin;
    } row[] = {
        { 10000, 3, 1, 0xBF5B, 0x3F05 },      { 10000, 100, 1, 0x3DD9, 0xBF7F },
        { 10000, 257, 0, 0xBD23, 0xBF80 },    { 10000, 300, 5, 0x3DAC, 0x3F7F },
        { 10000, 1000, 40, 0xBF80, 0xBC70 },  { 500000, 3, 1, 0xBF46, 0x3F23 },
        { 500000, 100, 1, 0x3F7C, 0xBE39 },   { 500000, 300, 5, 0x3EC0, 0x3F6D },
        { 500000, 1000, 40, 0x3F76, 0x3E8B },
    };
    static float cos[1001 * 64], sin[1001 * 64];
    float inv_freq[64];

    for (size_t k = 0; k < sizeof(row) / sizeof(row[0]); k++) {
        for (int i = 0; i < 64; i++)
            inv_freq[i] = cog_round_bf16((float)pow(row[k].theta, -2.0 * i / 128));
        cog_rope_tables(cos, sin, inv_freq, 64, 1001, COG_BF16);
        assert_int_equal(cog_f32_to_bf16(cos[row[k].pos * 64 + row[k].i]), row[k].cos);
        assert_int_equal(cog_f32_to_bf16(sin[row[k].pos * 64 + row[k].i]), row[k].sin);
    }
}

static void bf16_positions_above_256_share_values(void **state)
{
    static const int rounded[] = {
        255, 256, 256, 258, 260, 260, 260, 262, 264, 264, 264, 266, 268
    };
    static float cos[268], sin[268];
    float one = 1;

    cog_rope_tables(cos, sin, &one, 1, 268, COG_BF16);
    for (int p = 255; p < 268; p++)
        assert_true(cos[p] == cog_round_bf16(cosf((float)rounded[p - 255])));
}

static void f32_tables_are_exact(void **state)
{
    static float cos[2000], sin[2000];
    float f = 0.8659643f;

    cog_rope_tables(cos, sin, &f, 1, 2000, COG_F32);
    for (int p = 0; p < 2000; p++) {
        assert_true(fabs(cos[p] - cosf((float)p * f)) == 0);
        assert_true(fabs(sin[p] - sinf((float)p * f)) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_tables_follow_the_reference),
        cmocka_unit_test(bf16_positions_above_256_share_values),
        cmocka_unit_test(f32_tables_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
