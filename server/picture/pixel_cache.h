/* pixel_cache.h - pictures that were decoded lately, by the SHA-256 of their file: a chat sends its
 * picture again with every question. Bounded by the bytes of their pixels; the one that was asked
 * for least recently makes room. One thread. */
#ifndef COG_SERVER_PICTURE_PIXEL_CACHE_H
#define COG_SERVER_PICTURE_PIXEL_CACHE_H

#include "base/sha256.h"
#include "engine/engine.h"

#include <stddef.h>
#include <stdint.h>

enum { COG_PIXEL_CACHE_MAX = 1024 }; /* pictures */

typedef struct cog_pixel_cache {
    size_t max_bytes, bytes; /* max 0: none is kept */
    int n;
    uint64_t n_asked, n_found;
    struct cog_pixel_entry {
        cog_sha256 file, salt;
        cog_image *image; /* a reference */
        uint64_t asked;   /* n_asked when it last was */
    } entry[COG_PIXEL_CACHE_MAX];
} cog_pixel_cache; /* zero-initialised with max_bytes set */

void cog_pixel_cache_fini(cog_pixel_cache *c);

/* The picture of side x side that the file became for a request of the same salt, with one more
 * reference; NULL when it is not there. */
cog_image *cog_pixel_cache_find(cog_pixel_cache *c, const cog_sha256 *file, const cog_sha256 *salt,
                                int side);

/* Takes a reference of its own. The file is not there yet, or was of another side. */
void cog_pixel_cache_add(cog_pixel_cache *c, const cog_sha256 *file, const cog_sha256 *salt,
                         cog_image *image);

#endif
