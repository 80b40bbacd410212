#include "client/picture.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "proto/base64.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

enum { GRID = 5, NOISE = 24, QUALITY = 85, MAX_FILE = 256 << 20 };

static void add_url(cog_buf *out, const char *type, const void *bytes, size_t len)
{
    cog_buf_printf(out, "data:%s;base64,", type);
    cog_base64_encode(out, bytes, len);
}

/* ---------------------------------------------------------------- random pictures */

/* One channel at a place between the corners of its patch, 0 to 255. */
static int smooth(const uint8_t *grid, int x, int y, int width, int height)
{
    int gx = x * (GRID - 1) * 256 / width, gy = y * (GRID - 1) * 256 / height;
    const uint8_t *at = grid + (gy / 256 * GRID + gx / 256) * 3;
    int fx = gx % 256, fy = gy % 256;
    int top = at[0] * (256 - fx) + at[3] * fx;
    int bottom = at[GRID * 3] * (256 - fx) + at[GRID * 3 + 3] * fx;

    return (top * (256 - fy) + bottom * fy) >> 16;
}

static void fill_row(uint8_t *row, const uint8_t *grid, cog_rng *rng, int y, int width, int height)
{
    for (int x = 0; x < width; x++) {
        uint64_t noise = cog_rng_next(rng);

        for (int c = 0; c < 3; c++) {
            int v = smooth(grid + c, x, y, width, height) +
                    (int)((noise >> (c * 16)) % (2 * NOISE + 1)) - NOISE;
            row[x * 3 + c] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
    }
}

void cog_picture_add_random(cog_buf *out, uint64_t number, int width, int height)
{
    cog_rng rng = { .key = number };
    uint8_t grid[GRID * GRID * 3], *row = cog_array(uint8_t, (size_t)width * 3);
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long len = 0;

    for (size_t i = 0; i < sizeof(grid); i++)
        grid[i] = (uint8_t)cog_rng_below(&rng, 256);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &len);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, QUALITY, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < height; y++) {
        fill_row(row, grid, &rng, y, width, height);
        jpeg_write_scanlines(&jpeg, (JSAMPARRAY)&row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    add_url(out, "image/jpeg", bytes, len);
    free(bytes);
    cog_free(row);
}

/* ---------------------------------------------------------------- files */

static const char *type_of(const char *bytes, size_t len)
{
    if (len >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        return "image/jpeg";
    if (len >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        return "image/png";
    if (len >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        return "image/webp";
    if (len >= 6 && memcmp(bytes, "GIF8", 4) == 0)
        return "image/gif";
    return NULL;
}

int cog_picture_add_file(cog_buf *out, const char *path, cog_err *err)
{
    cog_buf bytes = { 0 };
    int rc = cog_buf_add_file(&bytes, path, MAX_FILE, err);
    const char *type = type_of(bytes.data, bytes.len);

    if (rc == 0 && !type)
        rc = cog_err_set(err, COG_EFORMAT, "%s is no JPEG, PNG, WebP or GIF file", path);
    if (rc == 0)
        add_url(out, type, bytes.data, bytes.len);
    cog_buf_fini(&bytes);
    return rc;
}
