/* sha256.h - SHA-256 (FIPS 180-4) through libcrypto. For keys that must resist deliberate
 * collisions. */
#ifndef COG_BASE_SHA256_H
#define COG_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct cog_sha256 {
    uint8_t byte[32];
} cog_sha256;

typedef struct cog_span {
    const void *data;
    size_t len;
} cog_span;

/* The digest of the spans' bytes one after another. Callers separate fields themselves (tags,
 * lengths). Any thread. */
cog_sha256 cog_sha256_of(const cog_span *spans, int n);

#endif
