#include "tests/unit/unit.h"

#include "base/rng.h"
#include "tests/unit/image_files.h"

static int load(cog_image_fault *fault, const void *bytes, size_t len, const cog_image_options *opt,
                cog_err *err)
{
    cog_image *im = NULL;
    int rc;

    *fault = (cog_image_fault)-1;
    *err = (cog_err){ 0 };
    rc = cog_image_load(&im, fault, bytes, len, 14, opt, err);
    assert_true((rc == 0) == (*fault == COG_IMAGE_FINE));
    assert_true((rc == 0) == (im != NULL));
    if (rc < 0) {
        assert_int_equal(err->code, rc);
        assert_true(strlen(err->text) > 0);
    }
    cog_image_free(im);
    return rc;
}

static void assert_refused(cog_image_fault want, const char *words, const void *bytes, size_t len,
                           const cog_image_options *opt)
{
    cog_image_fault fault;
    cog_err err;

    assert_true(load(&fault, bytes, len, opt, &err) < 0);
    if (fault != want || !strstr(err.text, words))
        fail_msg("fault %d (%s) instead of %d (%s)", fault, err.text, want, words);
}

static void put_be(char *p, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (char)(v >> 8 * (bytes - 1 - i));
}

static void put_le(char *p, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (char)(v >> 8 * i);
}

static char *find(const cog_buf *file, const void *bytes, size_t len)
{
    char *p = memmem(file->data, file->len, bytes, len);

    assert_non_null(p);
    return p;
}

static uint32_t crc32_of(const uint8_t *p, size_t len)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* So that damage gets past the checksums. */
static void repair_png(uint8_t *p, size_t len)
{
    for (size_t at = 8; len - at >= 12 && at < len;) {
        size_t n =
            (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];

        if (n > len - at - 12)
            return;
        put_be((char *)p + at + 8 + n, crc32_of(p + at + 4, n + 4), 4);
        at += n + 12;
    }
}

/* ------------------------------------------------------------------ one test per fault */

static void no_bytes_are_empty(void **state)
{
    assert_refused(COG_IMAGE_EMPTY, "no bytes", "", 0, &cog_image_defaults);
}

static void the_file_size_is_limited(void **state)
{
    cog_buf file = test_picture("grey8.png");
    cog_image_options opt = cog_image_defaults;
    cog_image_fault fault;
    cog_err err;

    opt.max_bytes = file.len;
    assert_int_equal(load(&fault, file.data, file.len, &opt, &err), 0);
    opt.max_bytes = file.len - 1;
    assert_refused(COG_IMAGE_FILE_SIZE, "bytes", file.data, file.len, &opt);
    cog_buf_fini(&file);
}

static void other_formats_are_unknown(void **state)
{
    static const char *const starts[] = {
        "BM\x1e\0\0\0\0\0\0\0\x1a\0",
        "II*\0\x08\0\0\0\0\0\0\0\0",
        "%PDF-1.7\n%aaaa",
        "<svg xmlns='http://www.w3.org/2000/svg'/>",
        "\0\0\0 ftypavif",
        "RIFF\x10\0\0\0WAVEfmt ",
        "GIF88a\1\0\1\0\0\0\0",
        "\xff\xd8\xfe\xe0 not quite",
        "\x89PNG\n\x1a\n\0\0\0\rIHDR",
    };

    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
        assert_refused(COG_IMAGE_UNKNOWN, "JPEG, PNG, WebP, GIF", starts[i], 12,
                       &cog_image_defaults);
}

static void pixels_and_sides_are_limited(void **state)
{
    static const char *const names[] = { "plain.jpg", "plain.png", "plain.webp", "plain.gif" };
    cog_image_options opt;
    cog_image_fault fault;
    cog_err err;

    for (int k = 0; k < 4; k++) {
        cog_buf file = test_picture(names[k]); /* 400 x 300 */

        opt = cog_image_defaults;
        opt.max_pixels = 400 * 300;
        opt.max_side = 400;
        assert_int_equal(load(&fault, file.data, file.len, &opt, &err), 0);
        opt.max_pixels--;
        assert_refused(COG_IMAGE_TOO_LARGE, "400 x 300", file.data, file.len, &opt);
        opt.max_pixels++;
        opt.max_side--;
        assert_refused(COG_IMAGE_TOO_LARGE, "at most 399", file.data, file.len, &opt);
        cog_buf_fini(&file);
    }
}

static void decoding_time_is_limited(void **state)
{
    static const char *const names[] = { "plain.jpg", "plain.png", "plain.webp", "plain.gif" };
    cog_image_options opt = cog_image_defaults;

    opt.max_ms = 0;
    for (int k = 0; k < 4; k++) {
        cog_buf file = test_picture(names[k]);

        assert_refused(COG_IMAGE_BROKEN, "0 ms", file.data, file.len, &opt);
        cog_buf_fini(&file);
    }
}

static void metadata_is_limited(void **state)
{
    static const struct {
        const char *name;
        size_t max;
        bool refused;
    } rows[] = { { "chunks.png", 16, true },   { "chunks.png", 4096, false },
                 { "exif_8.webp", 16, true },  { "exif_8.webp", 4096, false },
                 { "animated.gif", 3, true },  { "animated.gif", 6, false },
                 { "animated.png", 16, true }, { "icc.jpg", 0, false /* nothing is kept */ } };

    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        cog_buf file = test_picture(rows[k].name);
        cog_image_options opt = cog_image_defaults;
        cog_image_fault fault;
        cog_err err;

        opt.max_metadata = rows[k].max;
        if (rows[k].refused)
            assert_refused(COG_IMAGE_BROKEN, "metadata", file.data, file.len, &opt);
        else
            assert_int_equal(load(&fault, file.data, file.len, &opt, &err), 0);
        cog_buf_fini(&file);
    }
}

/* ------------------------------------------------------------------ bombs */

static void assert_probe(cog_image_fault want, const cog_buf *file)
{
    cog_image_fault fault = COG_IMAGE_FINE;
    int width = -1, height = -1;
    cog_image_format format;

    assert_true(cog_image_probe(&format, &width, &height, &fault, file->data, file->len,
                                &cog_image_defaults, NULL) < 0);
    assert_int_equal(fault, want);
    assert_int_equal(width, -1);
    assert_refused(want, "", file->data, file->len, &cog_image_defaults);
}

static void huge_and_empty_png_headers(void **state)
{
    static const struct {
        uint32_t width, height;
        cog_image_fault fault;
    } rows[] = {
        { 30000, 30000, COG_IMAGE_TOO_LARGE },  { 0x7fffffff, 0x7fffffff, COG_IMAGE_TOO_LARGE },
        { 0xffffffff, 1, COG_IMAGE_TOO_LARGE }, { 32768, 1, COG_IMAGE_TOO_LARGE },
        { 1, 32768, COG_IMAGE_TOO_LARGE },      { 0, 5, COG_IMAGE_TOO_SMALL },
        { 5, 0, COG_IMAGE_TOO_SMALL }
    };
    cog_buf file = test_picture("rgb8.png");

    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        put_be(file.data + 16, rows[k].width, 4);
        put_be(file.data + 20, rows[k].height, 4);
        assert_probe(rows[k].fault, &file);
    }
    cog_buf_fini(&file);
}

static void huge_and_empty_jpeg_headers(void **state)
{
    static const struct {
        uint32_t width, height;
        cog_image_fault fault;
    } rows[] = { { 65500, 65500, COG_IMAGE_TOO_LARGE }, { 65535, 65535, COG_IMAGE_TOO_LARGE },
                 { 32768, 1, COG_IMAGE_TOO_LARGE },     { 16000, 16000, COG_IMAGE_TOO_LARGE },
                 { 0, 5, COG_IMAGE_TOO_SMALL },         { 5, 0, COG_IMAGE_TOO_SMALL } };
    static const char *const names[] = { "baseline_420.jpg", "progressive_420.jpg" };

    for (int i = 0; i < 2; i++) {
        cog_buf file = test_picture(names[i]);
        char *sof = find(&file, i ? "\xff\xc2" : "\xff\xc0", 2);

        for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
            put_be(sof + 5, rows[k].height, 2);
            put_be(sof + 7, rows[k].width, 2);
            assert_probe(rows[k].fault, &file);
        }
        cog_buf_fini(&file);
    }
}

static void huge_and_empty_gif_headers(void **state)
{
    cog_buf file = test_picture("local.gif"); /* 21 x 19, one frame of that size first */
    char *frame = find(&file, "\x2c\0\0\0\0\x15\0\x13\0", 9);
    cog_image_fault fault;
    cog_err err;

    put_le(file.data + 6, 65535, 2);
    put_le(file.data + 8, 65535, 2);
    assert_probe(COG_IMAGE_TOO_LARGE, &file);
    put_le(file.data + 6, 0, 2);
    put_le(file.data + 8, 0, 2);
    assert_int_equal(load(&fault, file.data, file.len, &cog_image_defaults, &err), 0);
    put_le(frame + 1, 65535, 2); /* far to the right */
    assert_probe(COG_IMAGE_TOO_LARGE, &file);
    put_le(frame + 1, 0, 2);
    put_le(frame + 7, 0, 2);
    assert_probe(COG_IMAGE_TOO_SMALL, &file);
    cog_buf_fini(&file);
}

static void huge_webp_headers(void **state)
{
    cog_buf file = test_picture("lossy.webp");
    cog_buf canvas = test_picture("animated_offset.webp");
    char *vp8x = find(&canvas, "VP8X", 4), *anmf = find(&canvas, "ANMF", 4);

    put_le(file.data + 26, 0x3fff | 0x3fffu << 16, 4);
    assert_probe(COG_IMAGE_TOO_LARGE, &file);
    put_le(vp8x + 12, 0xffffff, 3);
    put_le(vp8x + 15, 0xffffff, 3);
    assert_probe(COG_IMAGE_TOO_LARGE, &canvas);
    put_le(vp8x + 12, 8 - 1, 3); /* smaller than the frame that lies on it */
    put_le(vp8x + 15, 8 - 1, 3);
    assert_probe(COG_IMAGE_BROKEN, &canvas);
    put_le(vp8x + 12, 100, 3);
    put_le(vp8x + 15, 100, 3);
    put_le(anmf + 8, 0xffffff, 3); /* the frame far to the right */
    assert_probe(COG_IMAGE_BROKEN, &canvas);
    cog_buf_fini(&file);
    cog_buf_fini(&canvas);
}

/* With the headers of large pictures but hardly any data: what is refused for its memory is refused
 * before the data is missed. */
static void memory_for_progressive_jpegs_is_limited(void **state)
{
    static const struct {
        const char *name, *words;
        cog_image_fault fault;
    } rows[] = { { "progressive_444.jpg", "progressive", COG_IMAGE_TOO_LARGE },
                 { "progressive_420.jpg", "too early", COG_IMAGE_BROKEN },
                 { "baseline_444.jpg", "too early", COG_IMAGE_BROKEN } };
    cog_image_options opt = cog_image_defaults;

    opt.max_pixels = 6000 * 6000;
    for (int k = 0; k < 3; k++) {
        cog_buf file = test_picture(rows[k].name);
        char *sof = find(&file, k < 2 ? "\xff\xc2" : "\xff\xc0", 2);

        put_be(sof + 5, 6000, 2);
        put_be(sof + 7, 6000, 2);
        assert_refused(rows[k].fault, rows[k].words, file.data, file.len, &opt);
        cog_buf_fini(&file);
    }
}

/* The first scan of a progressive file over and over. */
static void scans_are_limited(void **state)
{
    cog_buf file = test_picture("progressive_444.jpg"), bomb = { 0 };
    char *scan = find(&file, "\xff\xda", 2), *next = scan + 2;
    cog_image_options opt = cog_image_defaults;
    cog_image_fault fault;
    cog_err err;

    while ((uint8_t)next[0] != 0xff || next[1] == 0) /* past the scan's data */
        next++;
    cog_buf_add(&bomb, file.data, (size_t)(scan - file.data));
    for (int i = 0; i < 99; i++)
        cog_buf_add(&bomb, scan, (size_t)(next - scan));
    cog_buf_add(&bomb, scan, (size_t)(file.data + file.len - scan));
    assert_refused(COG_IMAGE_BROKEN, "too many scans", bomb.data, bomb.len, &opt);
    opt.max_scans = 200;
    assert_int_equal(load(&fault, bomb.data, bomb.len, &opt, &err), 0);
    opt.max_scans = 3;
    assert_refused(COG_IMAGE_BROKEN, "too many scans", file.data, file.len, &opt);
    cog_buf_fini(&file);
    cog_buf_fini(&bomb);
}

/* ------------------------------------------------------------------ damage */

/* A prefix is refused. Only a GIF may end in its second frame: the first is all that is shown. */
static void refuse_prefixes(const char *name, const cog_buf *file, void *arg)
{
    bool is_gif = strstr(name, ".gif") != NULL;
    size_t step = 1 + file->len / 300;
    cog_image_fault fault;
    cog_image_frame whole, part;

    assert_int_equal(
        cog_image_decode(&whole, &fault, file->data, file->len, &cog_image_defaults, NULL), 0);
    for (size_t len = 0; len < file->len; len += len + step < file->len ? step : 1) {
        char *bytes = malloc(len ? len : 1); /* of this size, so that reading beyond it shows */
        int rc;

        memcpy(bytes, file->data, len);
        rc = cog_image_decode(&part, &fault, bytes, len, &cog_image_defaults, NULL);
        free(bytes);
        if (rc == 0) {
            if (!is_gif)
                fail_msg("%s: the first %zu of %zu bytes decode", name, len, file->len);
            assert_memory_equal(part.rgb, whole.rgb, (size_t)whole.width * whole.height * 3);
            cog_free(part.rgb);
        } else if (len == 0) {
            assert_int_equal(fault, COG_IMAGE_EMPTY);
        } else if (len >= 12) {
            assert_int_equal(fault, COG_IMAGE_BROKEN);
        }
    }
    cog_free(whole.rgb);
}

static void cut_files_are_broken(void **state)
{
    assert_int_equal(test_each_picture(refuse_prefixes, NULL), 89);
}

static void lost_data_inside_a_whole_file_is_noticed(void **state)
{
    cog_buf jpeg = test_picture("baseline_444.jpg"), png = test_picture("rgb8.png");
    char *idat = find(&png, "IDAT", 4) - 4, *iend = find(&png, "IEND", 4) - 4;
    uint32_t first = (uint8_t)idat[3] | (uint32_t)(uint8_t)idat[2] << 8;
    cog_buf cut = { 0 };

    cog_buf_add(&cut, jpeg.data, jpeg.len * 3 / 4);
    cog_buf_add(&cut, "\xff\xd9", 2);
    assert_refused(COG_IMAGE_BROKEN, "too early", cut.data, cut.len, &cog_image_defaults);

    cog_buf_clear(&cut); /* without the second IDAT */
    cog_buf_add(&cut, png.data, (size_t)(idat - png.data) + first + 12);
    cog_buf_add(&cut, iend, 12);
    assert_refused(COG_IMAGE_BROKEN, "damaged", cut.data, cut.len, &cog_image_defaults);

    idat[10] ^= 1; /* against the checksum */
    assert_refused(COG_IMAGE_BROKEN, "damaged", png.data, png.len, &cog_image_defaults);
    idat[10] ^= 1;
    cog_buf_fini(&jpeg);
    cog_buf_fini(&png);
    cog_buf_fini(&cut);
}

/* A lower-case first letter says that a decoder may skip the chunk. */
static void unknown_png_chunks_are_skipped_unless_critical(void **state)
{
    static const struct {
        const char *type;
        bool critical;
    } rows[] = { { "ABCD", true }, { "CgBI", true }, { "abCD", false }, { "tEXt", false } };

    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        cog_buf file = test_picture("rgb8.png"), longer = { 0 };
        size_t idat = (size_t)(find(&file, "IDAT", 4) - 4 - file.data);
        cog_image_fault fault;
        cog_err err;

        cog_buf_add(&longer, file.data, idat);
        cog_buf_add(&longer, "\0\0\0\0", 4);
        cog_buf_add(&longer, rows[k].type, 4);
        cog_buf_add(&longer, "\0\0\0\0", 4);
        cog_buf_add(&longer, file.data + idat, file.len - idat);
        repair_png((uint8_t *)longer.data, longer.len);
        if (rows[k].critical)
            assert_refused(COG_IMAGE_BROKEN, "damaged", longer.data, longer.len,
                           &cog_image_defaults);
        else
            assert_int_equal(load(&fault, longer.data, longer.len, &cog_image_defaults, &err), 0);
        cog_buf_fini(&file);
        cog_buf_fini(&longer);
    }
}

static void a_gif_without_its_end_is_broken(void **state)
{
    cog_buf file = test_picture("plain.gif"); /* one frame */

    assert_int_equal(file.data[file.len - 1], ';');
    assert_refused(COG_IMAGE_BROKEN, "too early", file.data, file.len - 1, &cog_image_defaults);
    cog_buf_fini(&file);
}

static void bytes_behind_the_picture_are_ignored(void **state)
{
    static const char *const names[] = { "rgb8.png", "baseline_420.jpg", "lossy.webp",
                                         "animated.gif" };

    for (int k = 0; k < 4; k++) {
        cog_buf file = test_picture(names[k]);
        cog_image_fault fault;
        cog_err err;

        for (int i = 0; i < 200; i++)
            cog_buf_add(&file, "\xff\xd8\xff\xe1 and more", 13);
        assert_int_equal(load(&fault, file.data, file.len, &cog_image_defaults, &err), 0);
        cog_buf_fini(&file);
    }
}

static void mutate(cog_rng *r, uint8_t *p, size_t len)
{
    int n = 1 + (int)cog_rng_below(r, 8);

    for (int i = 0; i < n; i++) {
        size_t at = cog_rng_below(r, len), other = cog_rng_below(r, len);

        switch (cog_rng_below(r, 4)) {
        case 0:
            p[at] ^= (uint8_t)(1u << cog_rng_below(r, 8));
            break;
        case 1:
            p[at] = (uint8_t)cog_rng_next(r);
            break;
        case 2:
            p[at] = cog_rng_below(r, 2) ? 0xff : 0;
            break;
        default: /* a run of bytes from elsewhere */
            memmove(p + at, p + other,
                    cog_rng_below(r, 1 + (len - (at > other ? at : other)) % 40));
        }
    }
}

typedef struct counts {
    cog_rng rng;
    int good, bad;
} counts;

static void survive_mutations(const char *name, const cog_buf *file, void *arg)
{
    cog_image_options opt = cog_image_defaults;
    counts *c = arg;

    opt.max_pixels = 1 << 18;
    opt.max_side = 4096;
    for (int k = 0; k < 120; k++) {
        size_t len = k % 8 == 7 ? 1 + cog_rng_below(&c->rng, file->len) : file->len;
        uint8_t *bytes = malloc(len);
        cog_image_fault fault;
        cog_err err;

        memcpy(bytes, file->data, len);
        mutate(&c->rng, bytes, len);
        if (k % 2 && len > 8)
            repair_png(bytes, strstr(name, ".png") ? len : 0);
        opt.drop_alpha = k % 3 == 0;
        if (load(&fault, bytes, len, &opt, &err) == 0)
            c->good++;
        else
            c->bad++;
        free(bytes);
    }
}

static void damaged_files_do_no_harm(void **state)
{
    counts c = { .rng = { .key = 5 } };

    test_each_picture(survive_mutations, &c);
    assert_int_equal(c.good + c.bad, 89 * 120);
    assert_true(c.good > 0 && c.bad > 0);
}

static void random_bytes_do_no_harm(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } starts[] = { { "\xff\xd8\xff", 3 },
                   { "\xff\xd8\xff\xc0\0\x11\x08\0\x10\0\x10\x03\1\x11\0\2\x11\1\3\x11\1", 21 },
                   { "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10", 24 },
                   { "RIFF\x80\0\0\0WEBPVP8X\x0a\0\0\0\x12\0\0\0\x0f\0\0\x0f\0\0", 30 },
                   { "RIFF\x80\0\0\0WEBPVP8L\x40\0\0\0\x2f\x0f\xc0\x03\0", 25 },
                   { "GIF89a\x10\0\x10\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x10\0\x10\0\0\x02",
                     30 },
                   { "", 0 } };
    cog_rng r = { .key = 6 };

    for (int k = 0; k < 7000; k++) {
        size_t start = (size_t)k % (sizeof(starts) / sizeof(starts[0]));
        size_t len = starts[start].len + cog_rng_below(&r, 300);
        uint8_t *bytes = malloc(len + 1);
        cog_image_options opt = cog_image_defaults;
        cog_image_fault fault;
        cog_err err;

        opt.max_pixels = 1 << 18;
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)cog_rng_next(&r);
        memcpy(bytes, starts[start].bytes, starts[start].len);
        load(&fault, bytes, len, &opt, &err);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_bytes_are_empty),
        cmocka_unit_test(the_file_size_is_limited),
        cmocka_unit_test(other_formats_are_unknown),
        cmocka_unit_test(pixels_and_sides_are_limited),
        cmocka_unit_test(decoding_time_is_limited),
        cmocka_unit_test(metadata_is_limited),
        cmocka_unit_test(huge_and_empty_png_headers),
        cmocka_unit_test(huge_and_empty_jpeg_headers),
        cmocka_unit_test(huge_and_empty_gif_headers),
        cmocka_unit_test(huge_webp_headers),
        cmocka_unit_test(memory_for_progressive_jpegs_is_limited),
        cmocka_unit_test(scans_are_limited),
        cmocka_unit_test(cut_files_are_broken),
        cmocka_unit_test(lost_data_inside_a_whole_file_is_noticed),
        cmocka_unit_test(unknown_png_chunks_are_skipped_unless_critical),
        cmocka_unit_test(a_gif_without_its_end_is_broken),
        cmocka_unit_test(bytes_behind_the_picture_are_ignored),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(random_bytes_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
