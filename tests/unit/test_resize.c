#include "tests/unit/unit.h"

#include "base/rng.h"
#include "engine/cpu/cpuflags.h"
#include "engine/image/resize.h"
#include "tests/unit/image_files.h"

#include <jansson.h>

static void assert_taps(int n_in, int n_out, int j, int n, const int32_t *want)
{
    cog_resize_taps t;

    cog_resize_taps_init(&t, n_in, n_out);
    assert_int_equal(t.first[j], 0);
    assert_int_equal(t.n[j], n);
    for (int i = 0; i < n; i++)
        assert_int_equal(t.weight[j * t.max + i], want[i]);
    cog_resize_taps_fini(&t);
}

/* From an independent program for the same definition. */
static void taps_are_the_known_ones(void **state)
{
    assert_taps(3, 7, 0, 2, (int32_t[]){ 4597602, -403298 });
    assert_taps(3, 7, 2, 3, (int32_t[]){ 1847353, 2625797, -278846 });
    assert_taps(7, 3, 0, 6, (int32_t[]){ 1606689, 1843464, 896363, 0, -135300, -16913 });
    assert_taps(7, 3, 1, 7,
                (int32_t[]){ -128031, 189486, 1157403, 1756589, 1157403, 189486, -128031 });
    assert_taps(5, 2, 0, 5, (int32_t[]){ 1455822, 1743238, 1004169, 122286, -131211 });
}

static void taps_stay_inside_and_add_up(void **state)
{
    static const int sizes[] = { 1, 2, 3, 13, 14, 15, 224, 490, 1344, 4000, 32767 };
    enum { N = sizeof(sizes) / sizeof(sizes[0]) };

    for (int a = 0; a < N; a++)
        for (int b = 0; b < N - 1; b++) {
            cog_resize_taps t;

            cog_resize_taps_init(&t, sizes[a], sizes[b]);
            for (int j = 0; j < t.n_out; j++) {
                int64_t sum = 0, magnitude = 0;

                assert_true(t.first[j] >= 0 && t.n[j] >= 1 && t.n[j] <= t.max);
                assert_true(t.first[j] + t.n[j] <= sizes[a]);
                for (int i = 0; i < t.n[j]; i++) {
                    sum += t.weight[(size_t)j * t.max + i];
                    magnitude += labs(t.weight[(size_t)j * t.max + i]);
                }
                assert_true(llabs(sum - (1 << 22)) <= t.n[j]);
                assert_true(magnitude * 255 + (1 << 21) <= INT32_MAX);
            }
            cog_resize_taps_fini(&t);
        }
}

/* grey [height, width] is resized as three equal channels. */
static void assert_resized(const uint8_t *want, int to_width, int to_height, const uint8_t *grey,
                           int width, int height)
{
    uint8_t *src = cog_alloc((size_t)width * height, 3);
    uint8_t *dst = cog_alloc((size_t)to_width * to_height, 3);

    for (int i = 0; i < width * height * 3; i++)
        src[i] = grey[i / 3];
    cog_resize_bicubic(dst, to_width, to_height, src, width, height);
    for (int i = 0; i < to_width * to_height * 3; i++)
        assert_int_equal(dst[i], want[i / 3]);
    cog_free(src);
    cog_free(dst);
}

static void small_pictures_are_the_known_ones(void **state)
{
    static const uint8_t square[4 * 5] = { 0,  31,  62,  93,  124, 17,  55,  93, 131, 169,
                                           68, 113, 158, 203, 248, 153, 205, 1,  53,  105 };

    assert_resized((uint8_t[]){ 0, 26, 160, 255, 160, 26, 0 }, 7, 1, (uint8_t[]){ 0, 255, 0 }, 3,
                   1);
    assert_resized((uint8_t[]){ 65, 89, 99 }, 3, 1, (uint8_t[]){ 10, 20, 250, 30, 40, 50, 200 }, 7,
                   1);
    assert_resized((uint8_t[]){ 10, 60, 110, 17, 73, 129, 37, 104, 169, 72, 156, 232, 137, 107, 155,
                                185, 48, 69 },
                   3, 6, square, 5, 4);
    assert_resized((uint8_t[]){ 1,   17,  43,  66,  89,  115, 133, 38, 60,  96, 132,
                                162, 195, 218, 132, 173, 154, 44,  74, 120, 148 },
                   7, 3, square, 5, 4);
}

static void channels_do_not_mix(void **state)
{
    uint8_t src[9 * 5 * 3], dst[4 * 7 * 3];

    for (int i = 0; i < 9 * 5 * 3; i++)
        src[i] = i % 3 == 0 ? 200 : i % 3 == 1 ? 7 : 91;
    cog_resize_bicubic(dst, 4, 7, src, 9, 5);
    for (int i = 0; i < 4 * 7 * 3; i++)
        assert_int_equal(dst[i], src[i % 3]);
}

static cog_image_frame read_png(const char *name)
{
    cog_image_frame frame;
    cog_image_fault fault;
    char path[300];
    cog_buf file;

    snprintf(path, sizeof(path), "golden/fixtures/resize/%s", name);
    assert_true(test_file_read(&file, path));
    assert_int_equal(
        cog_image_decode(&frame, &fault, file.data, file.len, &cog_image_defaults, NULL), 0);
    cog_buf_fini(&file);
    return frame;
}

/* Each case is a picture, a size, and what Pillow made of it. */
static void pictures_are_those_of_pillow(void **state)
{
    size_t k;
    json_t *cases, *one;
    cog_buf file;

    assert_true(test_file_read(&file, "golden/fixtures/resize/index.json"));
    cases = json_loadb(file.data, file.len, 0, NULL);
    assert_true(json_array_size(cases) > 0);
    json_array_foreach(cases, k, one)
    {
        const char *name = json_string_value(json_object_get(one, "output"));
        cog_image_frame in = read_png(json_string_value(json_object_get(one, "input")));
        cog_image_frame want = read_png(name);
        uint8_t *got = cog_alloc((size_t)want.width * want.height, 3);

        assert_int_equal(want.width, json_integer_value(json_object_get(one, "width")));
        assert_int_equal(want.height, json_integer_value(json_object_get(one, "height")));
        cog_resize_bicubic(got, want.width, want.height, in.rgb, in.width, in.height);
        if (memcmp(got, want.rgb, (size_t)want.width * want.height * 3) != 0)
            fail_msg("%s differs", name);
        cog_free(got);
        cog_free(in.rgb);
        cog_free(want.rgb);
    }
    json_decref(cases);
    cog_buf_fini(&file);
}

/* Shapes around the sizes that the fast version works in; src ends where its memory ends. */
static void fast_and_plain_versions_agree(void **state)
{
    cog_rng r = { .key = 9 };

    for (int k = 0; k < 600; k++) {
        int max = k % 20 == 0 ? 700 : 40;
        int width = 1 + (int)cog_rng_below(&r, max), height = 1 + (int)cog_rng_below(&r, max);
        int to_width = 1 + (int)cog_rng_below(&r, max), to_height = 1 + (int)cog_rng_below(&r, max);
        size_t size = (size_t)to_width * to_height * 3;
        uint8_t *src = cog_alloc((size_t)width * height, 3);
        uint8_t *plain = cog_alloc(size, 1), *fast = cog_alloc(size, 1);

        for (int i = 0; i < width * height * 3; i++) /* every other time black and white only */
            src[i] = (uint8_t)(k % 2 ? cog_rng_next(&r) : cog_rng_below(&r, 2) * 255);
        cog_cpu_set_mask(0);
        cog_resize_bicubic(plain, to_width, to_height, src, width, height);
        cog_cpu_set_mask(~0u);
        cog_resize_bicubic(fast, to_width, to_height, src, width, height);
        if (memcmp(plain, fast, size) != 0)
            fail_msg("%d x %d to %d x %d differs", width, height, to_width, to_height);
        cog_free(src);
        cog_free(plain);
        cog_free(fast);
    }
}

static int use_plain(void **state)
{
    cog_cpu_set_mask(0);
    return 0;
}

static int use_fast(void **state)
{
    cog_cpu_set_mask(~0u);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taps_are_the_known_ones),
        cmocka_unit_test(taps_stay_inside_and_add_up),
        cmocka_unit_test_setup(small_pictures_are_the_known_ones, use_plain),
        cmocka_unit_test_setup(small_pictures_are_the_known_ones, use_fast),
        cmocka_unit_test_setup(channels_do_not_mix, use_plain),
        cmocka_unit_test_setup(channels_do_not_mix, use_fast),
        cmocka_unit_test_setup(pictures_are_those_of_pillow, use_plain),
        cmocka_unit_test_setup(pictures_are_those_of_pillow, use_fast),
        cmocka_unit_test(fast_and_plain_versions_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
