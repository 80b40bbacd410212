/* fuzz_picture.h - what the harnesses of the picture formats share. */
#ifndef COG_TESTS_FUZZ_PICTURE_H
#define COG_TESTS_FUZZ_PICTURE_H

#include "tests/fuzz/fuzz.h"

#include "engine/engine.h"

/* A file through cog_image_probe and cog_image_load, under small limits: both agree; what alpha and
 * Exif become does not decide whether it loads; equal bytes give equal pixels; a refusal says why.
 * A file of another format than this is passed over. */
void fuzz_check_picture(cog_image_format format, const uint8_t *bytes, size_t len);

/* A file as parts, for mutations that leave its framing sound. */
enum { FUZZ_MAX_PARTS = 128 };

typedef struct fuzz_part {
    uint8_t tag[4]; /* what names it; as many bytes as the format has */
    cog_buf data;
} fuzz_part;

typedef struct fuzz_parts {
    fuzz_part part[FUZZ_MAX_PARTS];
    int n;
    cog_buf tail; /* what follows the last part */
} fuzz_parts;

fuzz_part *fuzz_parts_add(fuzz_parts *p, const void *tag, size_t tag_len, const void *data,
                          size_t len); /* NULL when there are too many */
void fuzz_parts_fini(fuzz_parts *p);

/* One or a few random changes of parts: their bytes, number and order. */
void fuzz_parts_mutate(fuzz_parts *p, unsigned seed);

/* Copies out to bytes when it fits; else bytes are mutated as they are. Returns the length. */
size_t fuzz_parts_store(uint8_t *bytes, size_t len, size_t room, const cog_buf *out);

#endif
