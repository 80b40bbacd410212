/* image_decode.h - between cog_image_load and the four decoders. Private to engine/image*.c and
 * their tests.
 *
 * A decoder sees one file in memory. Opening reads the header and allocates nothing that the
 * picture's size decides; only after image.c has checked that size does it decode, into a frame
 * that it was given. Everything is pure and runs on the calling thread. */
#ifndef COG_ENGINE_IMAGE_DECODE_H
#define COG_ENGINE_IMAGE_DECODE_H

#include "base/err.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cog_image_file {
    const uint8_t *bytes; /* borrowed */
    size_t len;
    const cog_image_options *opt; /* borrowed */
    uint64_t cpu_end_ns;          /* of CLOCK_THREAD_CPUTIME_ID */
    size_t unclocked;             /* pixels since the clock was read */
    cog_image_fault fault;        /* FINE until cog_image_refuse */
    cog_err *err;
} cog_image_file;

typedef struct cog_image_header {
    uint64_t width, height; /* as stored, unchecked: any 32-bit value */
    int orientation;        /* 1 .. 8, from Exif */
} cog_image_header;

typedef struct cog_image_decoder {
    const char *name;
    cog_image_format format;
    bool (*matches)(const uint8_t *bytes, size_t len); /* by the first bytes */
    /* Both return 0 or what cog_image_refuse returned. open writes state and out on success only;
     * file stays where it is until close. */
    int (*open)(void **state, cog_image_header *out, cog_image_file *file);
    /* Once. rgb is [height, width, 3], zeroed. On failure its contents are undefined. */
    int (*decode)(void *state, uint8_t *rgb);
    void (*close)(void *state); /* NULL is fine */
} cog_image_decoder;

extern const cog_image_decoder cog_image_jpeg, cog_image_png, cog_image_webp, cog_image_gif;

/* Says why the file is refused; the text is shown to clients and never a library's. Returns the
 * COG_E... code of the fault. The first refusal of a file stands. */
int cog_image_refuse(cog_image_file *file, cog_image_fault fault, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Accounts for work worth so many pixels and refuses when the file has used up its CPU time. The
 * clock is read about every 64 Ki pixels. */
int cog_image_clock(cog_image_file *file, size_t pixels);

/* Adds bytes of metadata to *total and refuses beyond max_metadata. */
int cog_image_metadata(cog_image_file *file, size_t *total, size_t bytes);

/* rgb [n, 3] from rgba [n, 4]: on white, (c * a + 255 * (255 - a) + 127) / 255 (the nearest
 * integer), or c alone when alpha is dropped. */
void cog_image_flatten(uint8_t *rgb, const uint8_t *rgba, size_t n, bool drop_alpha);

/* A file's pixels, upright unless ignore_exif. */
typedef struct cog_image_frame {
    uint8_t *rgb; /* [height, width, 3], owned: cog_free */
    int width, height;
    cog_image_format format;
} cog_image_frame;

int cog_image_decode(cog_image_frame *out, cog_image_fault *fault, const void *bytes, size_t len,
                     const cog_image_options *opt, cog_err *err);

#endif
