/* image_gif.c - the first frame of a GIF through giflib, record by record: what follows the frame
 * is not read.
 *
 * The picture is the logical screen, grown where the frame reaches beyond it. What the frame does
 * not cover is transparent. */
#include "engine/image/image_decode.h"

#include "base/alloc.h"

#include <string.h>

#include <gif_lib.h>

struct gif {
    GifFileType *lib;
    cog_image_file *file;
    size_t pos;
    int transparent; /* colour index or -1 */
    size_t width, height;
    uint8_t *line; /* colour indexes, owned */
};

static int broken(cog_image_file *file)
{
    return cog_image_refuse(file, COG_IMAGE_BROKEN, "the GIF is damaged or ends too early");
}

static int feed(GifFileType *lib, GifByteType *dst, int n)
{
    struct gif *g = lib->UserData;
    size_t left = g->file->len - g->pos;
    size_t part = (size_t)n < left ? (size_t)n : left;

    memcpy(dst, g->file->bytes + g->pos, part);
    g->pos += part;
    return (int)part;
}

static int read_extension(struct gif *g, size_t *metadata)
{
    GifByteType *block; /* length, then so many bytes */
    int code;

    if (DGifGetExtension(g->lib, &code, &block) != GIF_OK)
        return broken(g->file);
    while (block) {
        if (code == GRAPHICS_EXT_FUNC_CODE && block[0] >= 4)
            g->transparent = block[1] & 1 ? block[4] : -1;
        if (cog_image_metadata(g->file, metadata, block[0] + 1u) < 0)
            return COG_EFORMAT;
        if (DGifGetExtensionNext(g->lib, &block) != GIF_OK)
            return broken(g->file);
    }
    return 0;
}

/* Reads on to the first frame's descriptor. */
static int find_frame(struct gif *g)
{
    size_t metadata = 0;

    for (;;) {
        GifRecordType record;

        if (DGifGetRecordType(g->lib, &record) != GIF_OK)
            return broken(g->file);
        if (record == IMAGE_DESC_RECORD_TYPE)
            return DGifGetImageDesc(g->lib) == GIF_OK ? 0 : broken(g->file);
        if (record != EXTENSION_RECORD_TYPE)
            return broken(g->file);
        if (read_extension(g, &metadata) < 0)
            return COG_EFORMAT;
    }
}

static bool gif_matches(const uint8_t *bytes, size_t len)
{
    return len >= 6 && (memcmp(bytes, "GIF87a", 6) == 0 || memcmp(bytes, "GIF89a", 6) == 0);
}

static void gif_close(void *state)
{
    struct gif *g = state;

    if (!g)
        return;
    if (g->lib)
        DGifCloseFile(g->lib, NULL);
    cog_free(g->line);
    cog_free(g);
}

static size_t larger(int a, int b)
{
    return (size_t)(a > b ? a : b);
}

static int gif_open(void **state, cog_image_header *out, cog_image_file *file)
{
    struct gif *g = cog_new(struct gif);
    const GifImageDesc *d;
    int rc;

    g->file = file;
    g->transparent = -1;
    g->lib = DGifOpen(g, feed, NULL);
    if (!g->lib) {
        rc = broken(file);
        goto fail;
    }
    rc = find_frame(g);
    if (rc < 0)
        goto fail;
    d = &g->lib->Image;
    if (d->Width < 1 || d->Height < 1) {
        rc = cog_image_refuse(file, COG_IMAGE_TOO_SMALL, "the GIF has a side of zero pixels");
        goto fail;
    }
    g->width = larger(g->lib->SWidth, d->Left + d->Width);
    g->height = larger(g->lib->SHeight, d->Top + d->Height);
    *out = (cog_image_header){ .width = g->width, .height = g->height, .orientation = 1 };
    *state = g;
    return 0;

fail:
    gif_close(g);
    return rc;
}

/* What each colour index shows: the frame's colours, else the screen's, else grey. */
static void fill_palette(const struct gif *g, uint8_t (*palette)[3])
{
    const ColorMapObject *map = g->lib->Image.ColorMap ? g->lib->Image.ColorMap : g->lib->SColorMap;

    for (int i = 0; i < 256; i++) {
        GifColorType c = { (GifByteType)i, (GifByteType)i, (GifByteType)i };

        if (map && i < map->ColorCount)
            c = map->Colors[i];
        if (i == g->transparent && !g->file->opt->drop_alpha)
            c = (GifColorType){ 255, 255, 255 };
        memcpy(palette[i], (uint8_t[3]){ c.Red, c.Green, c.Blue }, 3);
    }
}

/* Where the frame does not reach: white, or without alpha what the reference shows there, the
 * transparent colour or else the first one. */
static void fill_background(const struct gif *g, uint8_t *rgb, uint8_t (*palette)[3])
{
    static const uint8_t white[3] = { 255, 255, 255 };
    const uint8_t *colour = white;

    if (g->file->opt->drop_alpha)
        colour = palette[g->transparent > 0 ? g->transparent : 0];
    for (size_t i = 0; i < g->width * g->height; i++)
        memcpy(rgb + i * 3, colour, 3);
}

static int read_line(struct gif *g, uint8_t *rgb, int y, uint8_t (*palette)[3])
{
    const GifImageDesc *d = &g->lib->Image;
    uint8_t *row = rgb + (((size_t)d->Top + (size_t)y) * g->width + (size_t)d->Left) * 3;

    if (DGifGetLine(g->lib, g->line, d->Width) != GIF_OK)
        return broken(g->file);
    for (int x = 0; x < d->Width; x++)
        memcpy(row + (size_t)x * 3, palette[g->line[x]], 3);
    return cog_image_clock(g->file, (size_t)d->Width);
}

static int gif_decode(void *state, uint8_t *rgb)
{
    static const struct {
        int first, step;
    } passes[] = { { 0, 8 }, { 4, 8 }, { 2, 4 }, { 1, 2 }, { 0, 1 } };
    struct gif *g = state;
    const GifImageDesc *d = &g->lib->Image;
    uint8_t palette[256][3];

    fill_palette(g, palette);
    if ((size_t)d->Width < g->width || (size_t)d->Height < g->height)
        fill_background(g, rgb, palette);
    g->line = cog_array(uint8_t, d->Width);
    for (int pass = d->Interlace ? 0 : 4; pass < (d->Interlace ? 4 : 5); pass++)
        for (int y = passes[pass].first; y < d->Height; y += passes[pass].step)
            if (read_line(g, rgb, y, palette) < 0)
                return COG_EFORMAT;
    /* The frame is whole; a file that stops right here was cut, though. */
    return g->pos < g->file->len ? 0 : broken(g->file);
}

const cog_image_decoder cog_image_gif = { "GIF",    COG_GIF,    gif_matches,
                                          gif_open, gif_decode, gif_close };
