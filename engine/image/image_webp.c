/* image_webp.c - WebP through libwebp: lossy, lossless, alpha; of an animation the first frame on
 * its canvas.
 *
 * libwebp itself takes no animation. So the RIFF container is read here, and the library is shown
 * one frame: the chunks "VP8 " (with the ALPH before it) or VP8L as they lie in the file. Container
 * as in RFC 9649, section 2. */
#include "engine/image/image_decode.h"

#include "base/alloc.h"
#include "engine/image/exif.h"

#include <string.h>

#include <webp/decode.h>

enum { RIFF_HEADER = 12, CHUNK_HEADER = 8, ANMF_HEADER = 16, VP8X_SIZE = 10 };

struct webp {
    cog_image_file *file;
    const uint8_t *frame; /* the first frame's chunks; NULL until found */
    size_t frame_len;
    bool has_canvas, is_animated; /* a still picture fills its canvas */
    uint64_t width, height;
    uint64_t left, top; /* of the frame on the canvas */
    WebPBitstreamFeatures features;
    uint8_t *rgba; /* of the frame, owned */
};

static uint32_t get24(const uint8_t *p)
{
    return (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | get24(p);
}

static bool is(const uint8_t *chunk, const char *type)
{
    return memcmp(chunk, type, 4) == 0;
}

static int broken(cog_image_file *file)
{
    return cog_image_refuse(file, COG_IMAGE_BROKEN, "the WebP is damaged");
}

/* The size of the chunk at p with its header, without the byte that pads it; 0 when it is cut. */
static size_t chunk_size(const uint8_t *p, const uint8_t *end)
{
    if (end - p < CHUNK_HEADER || get32(p + 4) > (size_t)(end - p) - CHUNK_HEADER)
        return 0;
    return get32(p + 4) + (size_t)CHUNK_HEADER;
}

static const uint8_t *chunk_next(const uint8_t *p, size_t size, const uint8_t *end)
{
    size += size & 1;
    return size < (size_t)(end - p) ? p + size : end;
}

/* Finds the picture among the chunks of an animation's frame. */
static int find_in_frame(struct webp *w, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *alpha = NULL;
    size_t size;

    for (; p < end; p = chunk_next(p, size, end)) {
        size = chunk_size(p, end);
        if (size == 0)
            return broken(w->file);
        if (is(p, "ALPH"))
            alpha = p;
        if (is(p, "VP8 ") || is(p, "VP8L")) {
            w->frame = alpha ? alpha : p;
            w->frame_len = (size_t)(p + size - w->frame);
            return 0;
        }
    }
    return broken(w->file);
}

static int read_animation_frame(struct webp *w, const uint8_t *chunk, size_t size)
{
    const uint8_t *p = chunk + CHUNK_HEADER;

    if (!w->has_canvas || size < CHUNK_HEADER + ANMF_HEADER)
        return broken(w->file);
    w->is_animated = true;
    w->left = get24(p) * UINT64_C(2);
    w->top = get24(p + 3) * UINT64_C(2);
    return find_in_frame(w, p + ANMF_HEADER, chunk + size);
}

static int read_canvas(struct webp *w, const uint8_t *chunk, size_t size)
{
    if (size < CHUNK_HEADER + VP8X_SIZE)
        return broken(w->file);
    w->has_canvas = true;
    w->width = get24(chunk + CHUNK_HEADER + 4) + UINT64_C(1);
    w->height = get24(chunk + CHUNK_HEADER + 7) + UINT64_C(1);
    return 0;
}

static int read_chunks(struct webp *w, int *orientation)
{
    const uint8_t *p = w->file->bytes + RIFF_HEADER, *end, *alpha = NULL;
    size_t size, metadata = 0, riff = get32(w->file->bytes + 4);
    int rc = 0;

    if (riff < 4 || riff > w->file->len - 8)
        return cog_image_refuse(w->file, COG_IMAGE_BROKEN, "the WebP ends too early");
    end = w->file->bytes + 8 + riff;
    for (; p < end && rc == 0; p = chunk_next(p, size, end)) {
        size = chunk_size(p, end);
        if (size == 0)
            return broken(w->file);
        if (is(p, "VP8X") && p == w->file->bytes + RIFF_HEADER) {
            rc = read_canvas(w, p, size);
        } else if (is(p, "ALPH")) {
            alpha = p;
        } else if (is(p, "VP8 ") || is(p, "VP8L")) {
            if (!w->frame) {
                w->frame = alpha ? alpha : p;
                w->frame_len = (size_t)(p + size - w->frame);
            }
        } else if (is(p, "ANMF")) {
            if (!w->frame)
                rc = read_animation_frame(w, p, size);
        } else {
            if (is(p, "EXIF"))
                *orientation = cog_exif_orientation(p + CHUNK_HEADER, size - CHUNK_HEADER);
            rc = cog_image_metadata(w->file, &metadata, size);
        }
    }
    return rc;
}

static bool webp_matches(const uint8_t *bytes, size_t len)
{
    return len >= RIFF_HEADER && is(bytes, "RIFF") && is(bytes + 8, "WEBP");
}

static void webp_close(void *state)
{
    struct webp *w = state;

    if (!w)
        return;
    cog_free(w->rgba);
    cog_free(w);
}

static int webp_open(void **state, cog_image_header *out, cog_image_file *file)
{
    struct webp *w = cog_new(struct webp);
    uint64_t width, height;
    int orientation = 1, rc;

    w->file = file;
    rc = read_chunks(w, &orientation);
    if (rc < 0)
        goto fail;
    if (!w->frame || WebPGetFeatures(w->frame, w->frame_len, &w->features) != VP8_STATUS_OK) {
        rc = broken(file);
        goto fail;
    }
    width = (uint64_t)w->features.width;
    height = (uint64_t)w->features.height;
    if (!w->has_canvas) {
        w->width = width;
        w->height = height;
    }
    if (w->left + width > w->width || w->top + height > w->height ||
        (!w->is_animated && (width != w->width || height != w->height))) {
        rc = broken(file);
        goto fail;
    }
    *out = (cog_image_header){ .width = w->width, .height = w->height, .orientation = orientation };
    *state = w;
    return 0;

fail:
    webp_close(w);
    return rc;
}

/* In pieces, to look at the clock between them. */
static int decode_frame(struct webp *w, WEBP_CSP_MODE mode, uint8_t *dst, size_t channels)
{
    enum { PIECES = 32, PIECE_MIN = 1 << 16 };
    size_t stride = (size_t)w->features.width * channels;
    size_t piece = w->frame_len / PIECES > PIECE_MIN ? w->frame_len / PIECES : PIECE_MIN;
    WebPIDecoder *lib = WebPINewRGB(mode, dst, stride * (size_t)w->features.height, (int)stride);
    VP8StatusCode status = lib ? VP8_STATUS_SUSPENDED : VP8_STATUS_OUT_OF_MEMORY;
    int rc = 0;

    for (size_t have = 0; rc == 0 && status == VP8_STATUS_SUSPENDED && have < w->frame_len;) {
        have = w->frame_len - have > piece ? have + piece : w->frame_len;
        status = WebPIUpdate(lib, w->frame, have);
        rc = cog_image_clock(w->file, (size_t)1 << 16);
    }
    if (lib)
        WebPIDelete(lib);
    if (rc == 0 && status != VP8_STATUS_OK)
        rc = cog_image_refuse(w->file, COG_IMAGE_BROKEN, "the WebP is damaged or ends too early");
    return rc;
}

static int webp_decode(void *state, uint8_t *rgb)
{
    struct webp *w = state;
    size_t width = (size_t)w->features.width, height = (size_t)w->features.height;
    bool drop = w->file->opt->drop_alpha, covers = width == w->width && height == w->height;
    int rc;

    if (covers && (drop || !w->features.has_alpha))
        return decode_frame(w, MODE_RGB, rgb, 3);
    w->rgba = cog_array(uint8_t, width * height * 4);
    rc = decode_frame(w, MODE_RGBA, w->rgba, 4);
    if (rc < 0)
        return rc;
    if (!drop && !covers)
        memset(rgb, 255, w->width * w->height * 3);
    for (size_t y = 0; y < height; y++)
        cog_image_flatten(rgb + ((w->top + y) * w->width + w->left) * 3, w->rgba + y * width * 4,
                          width, drop);
    return 0;
}

const cog_image_decoder cog_image_webp = { "WebP",    COG_WEBP,    webp_matches,
                                           webp_open, webp_decode, webp_close };
