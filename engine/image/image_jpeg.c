/* image_jpeg.c - JPEG through libjpeg-turbo: baseline and progressive, Huffman and arithmetic,
 * grey, YCbCr, RGB, CMYK and YCCK.
 *
 * libjpeg leaves its functions by longjmp. All that survives the jump lives in struct jpeg, never
 * in a local variable of the function that called setjmp. The transform and the chroma filter are
 * the library's defaults, which are also Pillow's. */
#include "engine/image/image_decode.h"

#include "base/alloc.h"
#include "engine/image/exif.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

struct jpeg {
    struct jpeg_decompress_struct lib;
    struct jpeg_error_mgr error;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    cog_image_file *file;
    int orientation;
    uint8_t *rgb; /* the frame, borrowed */
    uint8_t *row; /* one row of CMYK, owned */
};

static void leave(struct jpeg *j, cog_image_fault fault, const char *text)
{
    cog_image_refuse(j->file, fault, "%s", text);
    longjmp(j->escape, 1);
}

static void on_error(j_common_ptr lib)
{
    struct jpeg *j = lib->client_data;

    switch (lib->err->msg_code) {
    case JERR_EMPTY_IMAGE:
        leave(j, COG_IMAGE_TOO_SMALL, "the JPEG has a side of zero pixels");
        break;
    case JERR_IMAGE_TOO_BIG:
        leave(j, COG_IMAGE_TOO_LARGE, "the JPEG has a side of more than 65500 pixels");
        break;
    case JERR_NO_BACKING_STORE:
        leave(j, COG_IMAGE_TOO_LARGE, "the JPEG is too large for its kind (progressive)");
        break;
    default:
        leave(j, COG_IMAGE_BROKEN, "the JPEG is damaged or of a kind that is not supported");
    }
}

/* For the library a warning means that it made pixels up. Stray bytes between markers and odd
 * version numbers are common and harm nothing; lost picture data is refused. */
static void on_message(j_common_ptr lib, int level)
{
    struct jpeg *j = lib->client_data;

    if (level >= 0)
        return;
    switch (lib->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
        leave(j, COG_IMAGE_BROKEN, "the JPEG ends too early");
        break;
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
        leave(j, COG_IMAGE_BROKEN, "the JPEG's picture data is damaged");
        break;
    default:
        break;
    }
}

static void on_output(j_common_ptr lib)
{
}

/* Runs for every row of blocks that is read and for every row of pixels that is written. */
static void on_progress(j_common_ptr lib)
{
    struct jpeg *j = lib->client_data;

    if (j->lib.input_scan_number > j->file->opt->max_scans)
        leave(j, COG_IMAGE_BROKEN, "the JPEG has too many scans");
    if (cog_image_clock(j->file, (size_t)j->lib.image_width * DCTSIZE) < 0)
        longjmp(j->escape, 1);
}

/* Looks at an APP1 segment where it lies, instead of having the library keep a copy of each. So no
 * metadata takes memory, and max_metadata does not apply: cameras put megabytes of depth there. */
static boolean on_app1(j_decompress_ptr lib)
{
    struct jpeg *j = lib->client_data;
    struct jpeg_source_mgr *src = lib->src;
    size_t len;

    if (src->bytes_in_buffer < 2)
        leave(j, COG_IMAGE_BROKEN, "the JPEG ends too early");
    len = (size_t)src->next_input_byte[0] << 8 | src->next_input_byte[1];
    if (len < 2)
        leave(j, COG_IMAGE_BROKEN, "the JPEG is damaged or of a kind that is not supported");
    if (len > src->bytes_in_buffer)
        leave(j, COG_IMAGE_BROKEN, "the JPEG ends too early");
    if (j->orientation == 0 && len >= 8 && memcmp(src->next_input_byte + 2, "Exif\0\0", 6) == 0)
        j->orientation = cog_exif_orientation(src->next_input_byte + 2, len - 2);
    src->next_input_byte += len;
    src->bytes_in_buffer -= len;
    return TRUE;
}

/* Runs one stage; false when the library left it. */
static bool run(struct jpeg *j, void (*stage)(struct jpeg *))
{
    if (setjmp(j->escape))
        return false;
    stage(j);
    return true;
}

static void read_header(struct jpeg *j)
{
    jpeg_create_decompress(&j->lib);
    j->lib.progress = &j->progress;
    jpeg_set_marker_processor(&j->lib, JPEG_APP0 + 1, on_app1);
    jpeg_mem_src(&j->lib, j->file->bytes, j->file->len);
    jpeg_read_header(&j->lib, TRUE);
}

/* As Pillow: CMYK files hold inverted ink, whoever wrote them. With ink = 255 - stored,
 * channel = K' - ink * K' / 255 rounded to nearest, where K' = 255 - black ink = stored black. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t n)
{
    for (size_t i = 0; i < n; i++, rgb += 3, cmyk += 4)
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(cmyk[3] - ((255 - cmyk[c]) * cmyk[3] + 127) / 255);
}

static void read_pixels(struct jpeg *j)
{
    struct jpeg_decompress_struct *lib = &j->lib;
    bool inks = lib->jpeg_color_space == JCS_CMYK || lib->jpeg_color_space == JCS_YCCK;
    uint64_t limit = j->file->opt->max_pixels, most = UINT64_C(65500) * 65500;
    size_t stride;

    lib->out_color_space = inks ? JCS_CMYK : JCS_RGB;
    /* A progressive file is kept whole, as 16-bit coefficients, beside the frame. It may take as
     * much again as the largest frame: all of max_pixels at 4:2:0, half of that at 4:4:4. The
     * library has nowhere to spill to and refuses what is above. The rest is for its rows. */
    lib->mem->max_memory_to_use = (long)(3 * (limit < most ? limit : most) + (16u << 20));
    jpeg_start_decompress(lib);
    stride = (size_t)lib->output_width * 3;
    if (inks)
        j->row = cog_array(uint8_t, (size_t)lib->output_width * 4);
    while (lib->output_scanline < lib->output_height) {
        uint8_t *dst = j->rgb + lib->output_scanline * stride;
        JSAMPROW to = inks ? j->row : dst;

        jpeg_read_scanlines(lib, &to, 1);
        if (inks)
            cmyk_to_rgb(dst, j->row, lib->output_width);
    }
    jpeg_finish_decompress(lib);
}

static void jpeg_close(void *state)
{
    struct jpeg *j = state;

    if (!j)
        return;
    jpeg_destroy_decompress(&j->lib);
    cog_free(j->row);
    cog_free(j);
}

static bool jpeg_matches(const uint8_t *bytes, size_t len)
{
    return len >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0;
}

static int jpeg_open(void **state, cog_image_header *out, cog_image_file *file)
{
    struct jpeg *j = cog_new(struct jpeg);

    j->file = file;
    j->lib.err = jpeg_std_error(&j->error);
    j->lib.client_data = j;
    j->error.error_exit = on_error;
    j->error.emit_message = on_message;
    j->error.output_message = on_output;
    j->progress.progress_monitor = on_progress;
    if (!run(j, read_header)) {
        jpeg_close(j);
        return cog_image_refuse(file, COG_IMAGE_BROKEN, "the JPEG is damaged");
    }
    *out = (cog_image_header){ .width = j->lib.image_width,
                               .height = j->lib.image_height,
                               .orientation = j->orientation ? j->orientation : 1 };
    *state = j;
    return 0;
}

static int jpeg_decode(void *state, uint8_t *rgb)
{
    struct jpeg *j = state;

    j->rgb = rgb;
    if (!run(j, read_pixels))
        return cog_image_refuse(j->file, COG_IMAGE_BROKEN, "the JPEG is damaged");
    return 0;
}

const cog_image_decoder cog_image_jpeg = { "JPEG",    COG_JPEG,    jpeg_matches,
                                           jpeg_open, jpeg_decode, jpeg_close };
