#include "engine/image/image_decode.h"

#include "base/alloc.h"
#include "engine/image/exif.h"
#include "engine/image/resize.h"

#include <assert.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const cog_image_options cog_image_defaults = {
    .max_bytes = 20u << 20,
    .max_pixels = 89478485,
    .max_side = 32767,
    .max_scans = 100,
    .max_metadata = 1u << 20,
    .max_ms = 5000,
};

static const cog_image_decoder *const decoders[] = { &cog_image_jpeg, &cog_image_png,
                                                     &cog_image_webp, &cog_image_gif };

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int code_of(cog_image_fault fault)
{
    switch (fault) {
    case COG_IMAGE_FINE:
        return 0;
    case COG_IMAGE_FILE_SIZE:
    case COG_IMAGE_TOO_LARGE:
        return COG_ELIMIT;
    case COG_IMAGE_UNKNOWN:
        return COG_EUNSUPPORTED;
    case COG_IMAGE_BROKEN:
        return COG_EFORMAT;
    case COG_IMAGE_EMPTY:
    case COG_IMAGE_TOO_SMALL:
        break;
    }
    return COG_EINVAL;
}

int cog_image_refuse(cog_image_file *file, cog_image_fault fault, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    if (file->fault == COG_IMAGE_FINE) {
        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        file->fault = fault;
        cog_err_set(file->err, code_of(fault), "%s", text);
    }
    return code_of(file->fault);
}

int cog_image_clock(cog_image_file *file, size_t pixels)
{
    enum { INTERVAL = 1 << 16 };

    file->unclocked += pixels;
    if (file->unclocked < INTERVAL)
        return 0;
    file->unclocked = 0;
    if (thread_cpu_ns() < file->cpu_end_ns)
        return 0;
    return cog_image_refuse(file, COG_IMAGE_BROKEN, "the picture takes longer than %u ms to decode",
                            (unsigned)file->opt->max_ms);
}

int cog_image_metadata(cog_image_file *file, size_t *total, size_t bytes)
{
    size_t max = file->opt->max_metadata;

    if (*total > max || bytes > max - *total)
        return cog_image_refuse(file, COG_IMAGE_BROKEN,
                                "the picture carries more than %zu bytes of metadata", max);
    *total += bytes;
    return 0;
}

void cog_image_flatten(uint8_t *rgb, const uint8_t *rgba, size_t n, bool drop_alpha)
{
    for (size_t i = 0; i < n; i++, rgb += 3, rgba += 4) {
        unsigned a = rgba[3];

        if (drop_alpha || a == 255) {
            memcpy(rgb, rgba, 3);
            continue;
        }
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)((rgba[c] * a + 255 * (255 - a) + 127) / 255);
    }
}

static int check_size(cog_image_file *file, const cog_image_header *h)
{
    const cog_image_options *opt = file->opt;
    uint64_t max_side = opt->max_side > 0 ? (uint64_t)opt->max_side : 0;

    if (h->width == 0 || h->height == 0)
        return cog_image_refuse(file, COG_IMAGE_TOO_SMALL, "the picture has a side of zero pixels");
    if (h->width > max_side || h->height > max_side)
        return cog_image_refuse(file, COG_IMAGE_TOO_LARGE,
                                "the picture is %llu x %llu pixels; a side may have at most %d",
                                (unsigned long long)h->width, (unsigned long long)h->height,
                                opt->max_side);
    if (h->width * h->height > opt->max_pixels)
        return cog_image_refuse(file, COG_IMAGE_TOO_LARGE,
                                "the picture is %llu x %llu pixels; at most %llu are allowed",
                                (unsigned long long)h->width, (unsigned long long)h->height,
                                (unsigned long long)opt->max_pixels);
    return 0;
}

/* On success the decoder is open, and the size is checked. On failure *state is still to be closed
 * when it is not NULL. */
static int open_file(const cog_image_decoder **decoder, void **state, cog_image_header *h,
                     cog_image_file *file)
{
    int rc;

    if (file->len == 0)
        return cog_image_refuse(file, COG_IMAGE_EMPTY, "the picture has no bytes");
    if (file->len > file->opt->max_bytes)
        return cog_image_refuse(file, COG_IMAGE_FILE_SIZE,
                                "the picture has %zu bytes; at most %zu are allowed", file->len,
                                file->opt->max_bytes);
    for (size_t i = 0; i < sizeof(decoders) / sizeof(decoders[0]); i++) {
        if (!decoders[i]->matches(file->bytes, file->len))
            continue;
        *decoder = decoders[i];
        rc = (*decoder)->open(state, h, file);
        return rc ? rc : check_size(file, h);
    }
    return cog_image_refuse(file, COG_IMAGE_UNKNOWN, "the picture is none of JPEG, PNG, WebP, GIF");
}

static cog_image_file file_of(const void *bytes, size_t len, const cog_image_options *opt,
                              cog_err *err)
{
    return (cog_image_file){ .bytes = bytes,
                             .len = len,
                             .opt = opt,
                             .cpu_end_ns = thread_cpu_ns() + opt->max_ms * UINT64_C(1000000),
                             .err = err };
}

int cog_image_probe(cog_image_format *format, int *width, int *height, cog_image_fault *fault,
                    const void *bytes, size_t len, const cog_image_options *opt, cog_err *err)
{
    cog_image_file file = file_of(bytes, len, opt, err);
    const cog_image_decoder *decoder = NULL;
    cog_image_header h;
    void *state = NULL;
    int rc = open_file(&decoder, &state, &h, &file);

    *fault = file.fault;
    if (rc == 0) {
        *format = decoder->format;
        *width = (int)h.width;
        *height = (int)h.height;
    }
    if (state)
        decoder->close(state);
    return rc;
}

int cog_image_decode(cog_image_frame *out, cog_image_fault *fault, const void *bytes, size_t len,
                     const cog_image_options *opt, cog_err *err)
{
    cog_image_file file = file_of(bytes, len, opt, err);
    const cog_image_decoder *decoder = NULL;
    cog_image_header h;
    cog_image_frame frame = { 0 };
    void *state = NULL;
    int rc;

    rc = open_file(&decoder, &state, &h, &file);
    if (rc < 0)
        goto done;
    frame.format = decoder->format;
    frame.width = (int)h.width;
    frame.height = (int)h.height;
    frame.rgb = cog_alloc((size_t)h.width * h.height, 3);
    rc = decoder->decode(state, frame.rgb);

done:
    if (state)
        decoder->close(state); /* before turning: both need memory */
    *fault = file.fault;
    if (rc < 0) {
        cog_free(frame.rgb);
        return rc;
    }
    if (!opt->ignore_exif)
        frame.rgb = cog_exif_turn(frame.rgb, &frame.width, &frame.height, h.orientation);
    *out = frame;
    return 0;
}

static cog_sha256 hash_of(const uint8_t *rgb, int side)
{
    static const char tag[] = "cogwheel picture 1";
    const uint8_t size[4] = { (uint8_t)side, (uint8_t)(side >> 8), (uint8_t)(side >> 16),
                              (uint8_t)(side >> 24) };
    const cog_span spans[] = { { tag, sizeof(tag) },
                               { size, sizeof(size) },
                               { rgb, (size_t)side * side * 3 } };

    return cog_sha256_of(spans, 3);
}

int cog_image_read(uint8_t *rgb, cog_image_source *out, cog_image_fault *fault, const void *bytes,
                   size_t len, int side, const cog_image_options *opt, cog_err *err)
{
    cog_image_frame frame;
    int rc;

    assert(side > 0 && side <= SHRT_MAX);
    rc = cog_image_decode(&frame, fault, bytes, len, opt, err);
    if (rc < 0)
        return rc;
    cog_resize_bicubic(rgb, side, side, frame.rgb, frame.width, frame.height);
    *out = (cog_image_source){ frame.format, frame.width, frame.height };
    cog_free(frame.rgb);
    return 0;
}

/* Takes rgb. */
static cog_image *image_of(uint8_t *rgb, int side, const cog_image_source *source)
{
    cog_image *im = cog_new(cog_image);

    atomic_init(&im->refs, 1);
    im->side = side;
    im->rgb = rgb;
    im->format = source->format;
    im->source_width = source->width;
    im->source_height = source->height;
    im->hash = hash_of(rgb, side);
    return im;
}

cog_image *cog_image_new(const uint8_t *rgb, int side, const cog_image_source *source)
{
    size_t size = (size_t)side * (size_t)side * 3;
    uint8_t *copy = cog_realloc(NULL, size, 1);

    memcpy(copy, rgb, size);
    return image_of(copy, side, source);
}

int cog_image_load(cog_image **out, cog_image_fault *fault, const void *bytes, size_t len, int side,
                   const cog_image_options *opt, cog_err *err)
{
    uint8_t *rgb = cog_alloc((size_t)side * (size_t)side, 3);
    cog_image_source source;
    int rc = cog_image_read(rgb, &source, fault, bytes, len, side, opt, err);

    if (rc < 0)
        cog_free(rgb);
    else
        *out = image_of(rgb, side, &source);
    return rc;
}

cog_image *cog_image_ref(cog_image *im)
{
    atomic_fetch_add(&im->refs, 1);
    return im;
}

void cog_image_free(cog_image *im)
{
    if (!im || atomic_fetch_sub(&im->refs, 1) > 1)
        return;
    cog_free(im->rgb);
    cog_free(im);
}
