/* image_png.c - PNG through libspng, all colour types and depths, interlaced or not; of an APNG the
 * still picture. Of 16 bits a sample shows the high 8.
 *
 * libspng is shown only the chunks that make pixels (IHDR, PLTE, tRNS, IDAT, IEND). Everything else
 * is counted and skipped here, so that nothing that does not show is inflated or kept. */
#include "engine/image/image_decode.h"

#include "base/alloc.h"
#include "engine/image/exif.h"

#include <string.h>

#include <spng.h>

enum { SIGNATURE = 8, CHUNK_EXTRA = 12 /* length, type, checksum */ };

struct png {
    spng_ctx *lib;
    cog_image_file *file;
    const uint8_t *at; /* what the library reads next */
    size_t left;       /* of the chunk it is in */
    struct spng_ihdr ihdr;
    uint8_t *row; /* RGBA of one line, owned */
};

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool is(const uint8_t *chunk, const char *type)
{
    return memcmp(chunk + 4, type, 4) == 0;
}

static bool makes_pixels(const uint8_t *chunk)
{
    return is(chunk, "IHDR") || is(chunk, "PLTE") || is(chunk, "tRNS") || is(chunk, "IDAT") ||
           is(chunk, "IEND");
}

static int broken(cog_image_file *file)
{
    return cog_image_refuse(file, COG_IMAGE_BROKEN, "the PNG is damaged");
}

/* Walks over all chunks up to IEND: every length is in range after, and the first is IHDR. */
static int walk(cog_image_file *file, int *orientation)
{
    const uint8_t *p = file->bytes + SIGNATURE, *end = file->bytes + file->len;
    size_t metadata = 0;

    *orientation = 1;
    for (bool first = true;; first = false) {
        size_t len;

        if (end - p < CHUNK_EXTRA || get32(p) > (size_t)(end - p) - CHUNK_EXTRA)
            return cog_image_refuse(file, COG_IMAGE_BROKEN, "the PNG ends too early");
        len = get32(p);
        if (first != is(p, "IHDR") || (first && len != 13))
            return broken(file);
        if (is(p, "IEND"))
            return 0;
        if (is(p, "eXIf"))
            *orientation = cog_exif_orientation(p + 8, len);
        if (!makes_pixels(p)) {
            if (!(p[4] & 0x20)) /* a critical chunk that the standard does not have */
                return broken(file);
            if (!is(p, "fdAT") && cog_image_metadata(file, &metadata, len) < 0)
                return COG_EFORMAT;
        }
        p += len + CHUNK_EXTRA;
    }
}

/* After walk, so chunks need no checks; a library that reads on after IEND gets the end. */
static int feed(spng_ctx *lib, void *user, void *dst, size_t n)
{
    struct png *g = user;
    uint8_t *to = dst;

    while (n > 0) {
        const uint8_t *end = g->file->bytes + g->file->len;
        size_t part;

        while (g->left == 0) {
            if (end - g->at < CHUNK_EXTRA || get32(g->at) > (size_t)(end - g->at) - CHUNK_EXTRA)
                return SPNG_IO_EOF;
            if (makes_pixels(g->at))
                g->left = get32(g->at) + CHUNK_EXTRA;
            else
                g->at += get32(g->at) + CHUNK_EXTRA;
        }
        part = n < g->left ? n : g->left;
        memcpy(to, g->at, part);
        to += part;
        n -= part;
        g->at += part;
        g->left -= part;
    }
    return 0;
}

static bool png_matches(const uint8_t *bytes, size_t len)
{
    return len >= SIGNATURE && memcmp(bytes, "\x89PNG\r\n\x1a\n", SIGNATURE) == 0;
}

static void png_close(void *state)
{
    struct png *g = state;

    if (!g)
        return;
    spng_ctx_free(g->lib);
    cog_free(g->row);
    cog_free(g);
}

static int png_open(void **state, cog_image_header *out, cog_image_file *file)
{
    struct png *g = cog_new(struct png);
    cog_image_header h;
    int rc;

    g->file = file;
    g->at = file->bytes;
    g->left = SIGNATURE;
    rc = walk(file, &h.orientation);
    if (rc < 0)
        goto fail;
    h.width = get32(file->bytes + SIGNATURE + 8);
    h.height = get32(file->bytes + SIGNATURE + 12);
    *out = h;
    *state = g;
    return 0;

fail:
    png_close(g);
    return rc;
}

/* Adam7 as in the standard; the last row is that of a picture that is not interlaced. */
static const struct {
    uint8_t first, step;
} columns[8] = { { 0, 8 }, { 4, 8 }, { 0, 4 }, { 2, 4 }, { 0, 2 }, { 1, 2 }, { 0, 1 }, { 0, 1 } };

static void place_line(struct png *g, uint8_t *rgb, const struct spng_row_info *at)
{
    size_t width = g->ihdr.width;
    uint8_t *row = rgb + at->row_num * width * 3;
    int pass = g->ihdr.interlace_method ? at->pass : 7;
    const uint8_t *p = g->row;

    if (columns[pass].step == 1) {
        cog_image_flatten(row, p, width, g->file->opt->drop_alpha);
        return;
    }
    for (size_t x = columns[pass].first; x < width; x += columns[pass].step, p += 4)
        cog_image_flatten(row + x * 3, p, 1, g->file->opt->drop_alpha);
}

static size_t line_pixels(const struct png *g, int pass)
{
    if (!g->ihdr.interlace_method)
        pass = 7;
    return (g->ihdr.width - columns[pass].first + columns[pass].step - 1u) / columns[pass].step;
}

static int png_decode(void *state, uint8_t *rgb)
{
    struct png *g = state;
    struct spng_row_info at;
    int rc;

    g->lib = spng_ctx_new(0);
    if (!g->lib || spng_set_crc_action(g->lib, SPNG_CRC_ERROR, SPNG_CRC_ERROR) ||
        spng_set_image_limits(g->lib, (uint32_t)g->file->opt->max_side,
                              (uint32_t)g->file->opt->max_side) ||
        spng_set_png_stream(g->lib, feed, g) || spng_get_ihdr(g->lib, &g->ihdr) ||
        spng_decode_image(g->lib, NULL, 0, SPNG_FMT_RGBA8,
                          SPNG_DECODE_TRNS | SPNG_DECODE_PROGRESSIVE))
        return broken(g->file);
    g->row = cog_array(uint8_t, (size_t)g->ihdr.width * 4);
    do {
        if (spng_get_row_info(g->lib, &at))
            return broken(g->file);
        rc = spng_decode_scanline(g->lib, g->row, line_pixels(g, at.pass) * 4);
        if (rc && rc != SPNG_EOI)
            return broken(g->file);
        place_line(g, rgb, &at);
        if (cog_image_clock(g->file, line_pixels(g, at.pass)) < 0)
            return COG_EFORMAT;
    } while (rc != SPNG_EOI);
    return 0;
}

const cog_image_decoder cog_image_png = { "PNG",    COG_PNG,    png_matches,
                                          png_open, png_decode, png_close };
