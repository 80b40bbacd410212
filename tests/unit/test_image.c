#include "tests/unit/unit.h"

#include "tests/unit/image_files.h"

static cog_image_options plain_options(void)
{
    return cog_image_defaults;
}

static void assert_frame(const char *name, const cog_image_frame *frame, const cog_buf *ppm)
{
    int width, height, at = 0;
    size_t size;

    assert_int_equal(sscanf(ppm->data, "P6 %d %d 255%n", &width, &height, &at), 2);
    size = (size_t)width * (size_t)height * 3;
    assert_int_equal(ppm->len, (size_t)at + 1 + size);
    if (frame->width != width || frame->height != height)
        fail_msg("%s: %d x %d instead of %d x %d", name, frame->width, frame->height, width,
                 height);
    for (size_t i = 0; i < size; i++) {
        uint8_t want = (uint8_t)ppm->data[(size_t)at + 1 + i];

        if (frame->rgb[i] != want)
            fail_msg("%s: pixel (%zu, %zu) channel %zu is %d instead of %d", name,
                     i / 3 % (size_t)width, i / 3 / (size_t)width, i % 3, frame->rgb[i], want);
    }
}

static void decode_and_compare(const char *name, const cog_buf *file, const char *variant,
                               const cog_image_options *opt, int *compared)
{
    cog_image_fault fault = COG_IMAGE_BROKEN;
    cog_image_frame frame;
    char path[300];
    cog_err err;
    cog_buf ppm;

    snprintf(path, sizeof(path), "images/%s%s.ppm", name, variant);
    if (!test_file_read(&ppm, path))
        return;
    if (cog_image_decode(&frame, &fault, file->data, file->len, opt, &err) != 0)
        fail_msg("%s: %s", name, err.text);
    assert_int_equal(fault, COG_IMAGE_FINE);
    assert_frame(name, &frame, &ppm);
    cog_free(frame.rgb);
    cog_buf_fini(&ppm);
    ++*compared;
}

static void compare_variants(const char *name, const cog_buf *file, void *arg)
{
    cog_image_options opt = plain_options();
    int *compared = arg;

    decode_and_compare(name, file, "", &opt, &compared[0]);
    opt.drop_alpha = true;
    decode_and_compare(name, file, ".drop", &opt, &compared[1]);
    opt = plain_options();
    opt.ignore_exif = true;
    decode_and_compare(name, file, ".stored", &opt, &compared[2]);
}

static void every_kind_of_file_gives_the_reference_pixels(void **state)
{
    int compared[3] = { 0 };

    assert_int_equal(test_each_picture(compare_variants, compared), 89);
    assert_int_equal(compared[0], 83);
    assert_int_equal(compared[1], 24);
    assert_int_equal(compared[2], 9);
}

static void probe_one(const char *name, const cog_buf *file, void *arg)
{
    cog_image_options opt = plain_options();
    int width = -1, height = -1;
    cog_image_format format;
    cog_image_fault fault;
    cog_image_frame frame;
    const char *ending = strrchr(name, '.') + 1;

    opt.ignore_exif = true;
    assert_int_equal(
        cog_image_probe(&format, &width, &height, &fault, file->data, file->len, &opt, NULL), 0);
    assert_int_equal(fault, COG_IMAGE_FINE);
    assert_int_equal(cog_image_decode(&frame, &fault, file->data, file->len, &opt, NULL), 0);
    assert_int_equal(width, frame.width);
    assert_int_equal(height, frame.height);
    assert_int_equal(format, frame.format);
    assert_int_equal(format, *ending == 'j'   ? COG_JPEG
                             : *ending == 'p' ? COG_PNG
                             : *ending == 'w' ? COG_WEBP
                                              : COG_GIF);
    cog_free(frame.rgb);
}

static void probing_agrees_with_decoding(void **state)
{
    assert_int_equal(test_each_picture(probe_one, NULL), 89);
}

static void loading_resizes_what_decoding_gives(void **state)
{
    cog_buf file = test_picture("exif_6.jpg");
    cog_image_options opt = plain_options();
    cog_image_fault fault = COG_IMAGE_BROKEN;
    cog_image *im = NULL, *stored = NULL;

    assert_int_equal(cog_image_load(&im, &fault, file.data, file.len, 28, &opt, NULL), 0);
    assert_int_equal(fault, COG_IMAGE_FINE);
    assert_int_equal(im->side, 28);
    assert_int_equal(im->format, COG_JPEG);
    assert_int_equal(im->source_width, 6); /* stored as 11 x 6 */
    assert_int_equal(im->source_height, 11);
    opt.ignore_exif = true;
    assert_int_equal(cog_image_load(&stored, &fault, file.data, file.len, 28, &opt, NULL), 0);
    assert_int_equal(stored->source_width, 11);
    assert_memory_not_equal(im->rgb, stored->rgb, 28 * 28 * 3);
    cog_image_free(im);
    cog_image_free(stored);
    cog_image_free(NULL);
    cog_buf_fini(&file);
}

static void one_pixel_fills_the_square(void **state)
{
    static const char *const names[] = { "pixel.jpg", "pixel.png", "pixel.webp", "pixel.gif" };

    for (int k = 0; k < 4; k++) {
        cog_buf file = test_picture(names[k]);
        cog_image_fault fault;
        cog_image *im = NULL;

        assert_int_equal(
            cog_image_load(&im, &fault, file.data, file.len, 14, &cog_image_defaults, NULL), 0);
        assert_int_equal(im->source_width, 1);
        assert_int_equal(im->source_height, 1);
        for (int i = 3; i < 14 * 14 * 3; i++)
            assert_int_equal(im->rgb[i], im->rgb[i - 3]);
        cog_image_free(im);
        cog_buf_fini(&file);
    }
}

static cog_sha256 hash_of(const char *name, int side, const cog_image_options *opt)
{
    cog_buf file = test_picture(name);
    cog_image_fault fault;
    cog_image *im = NULL;
    cog_sha256 hash;

    assert_int_equal(cog_image_load(&im, &fault, file.data, file.len, side, opt, NULL), 0);
    hash = im->hash;
    cog_image_free(im);
    cog_buf_fini(&file);
    return hash;
}

static void the_hash_names_what_the_model_sees(void **state)
{
    const cog_image_options *opt = &cog_image_defaults;
    cog_image_options drop = plain_options();
    cog_sha256 a, b;

    /* The same bytes in another shape. */
    a = hash_of("twin_30x150.png", 28, opt);
    b = hash_of("twin_150x30.png", 28, opt);
    assert_memory_not_equal(&a, &b, sizeof(a));
    /* The same pixels for another model. */
    b = hash_of("twin_30x150.png", 42, opt);
    assert_memory_not_equal(&a, &b, sizeof(a));
    b = hash_of("twin_30x150.png", 28, opt);
    assert_memory_equal(&a, &b, sizeof(a));
    /* Other pixels because of an option. */
    drop.drop_alpha = true;
    a = hash_of("rgba8.png", 28, opt);
    b = hash_of("rgba8.png", 28, &drop);
    assert_memory_not_equal(&a, &b, sizeof(a));
    /* The same picture in two files: one pixel of a colour in PNG and in lossless WebP. */
    a = hash_of("pixel.png", 28, opt);
    b = hash_of("pixel.webp", 28, opt);
    assert_memory_equal(&a, &b, sizeof(a));
}

static void alpha_is_rounded_to_nearest(void **state)
{
    for (int c = 0; c < 256; c++)
        for (int a = 0; a < 256; a++) {
            const uint8_t rgba[4] = { (uint8_t)c, 0, 255, (uint8_t)a };
            double exact = (c * a + 255.0 * (255 - a)) / 255;
            uint8_t rgb[3];

            cog_image_flatten(rgb, rgba, 1, false);
            assert_int_equal(rgb[0], (int)(exact + 0.5));
            assert_int_equal(rgb[1], 255 - a);
            assert_int_equal(rgb[2], 255);
            cog_image_flatten(rgb, rgba, 1, true);
            assert_memory_equal(rgb, rgba, 3);
        }
}

static void defaults_are_the_documented_ones(void **state)
{
    const cog_image_options *d = &cog_image_defaults;

    assert_int_equal(d->max_bytes, 20 * 1024 * 1024);
    assert_int_equal(d->max_pixels, 89478485);
    assert_int_equal(d->max_side, 32767);
    assert_int_equal(d->max_scans, 100);
    assert_int_equal(d->max_metadata, 1024 * 1024);
    assert_int_equal(d->max_ms, 5000);
    assert_false(d->drop_alpha);
    assert_false(d->ignore_exif);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_file_gives_the_reference_pixels),
        cmocka_unit_test(probing_agrees_with_decoding),
        cmocka_unit_test(loading_resizes_what_decoding_gives),
        cmocka_unit_test(one_pixel_fills_the_square),
        cmocka_unit_test(the_hash_names_what_the_model_sees),
        cmocka_unit_test(alpha_is_rounded_to_nearest),
        cmocka_unit_test(defaults_are_the_documented_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
