/* quarantine.h - files that made a worker fail, by the SHA-256 of their bytes, so that the same
 * file cannot do it again. Bounded: the one that was asked for least recently makes room. One
 * thread. */
#ifndef COG_SERVER_PICTURE_QUARANTINE_H
#define COG_SERVER_PICTURE_QUARANTINE_H

#include "base/sha256.h"

#include <stdbool.h>
#include <stdint.h>

enum { COG_QUARANTINE_MAX = 512 };

typedef struct cog_quarantine {
    uint64_t keep_ns; /* how long a file stays in; 0: none is kept */
    int n;
    struct {
        cog_sha256 file;
        uint64_t added_ns, asked_ns;
    } entry[COG_QUARANTINE_MAX];
} cog_quarantine; /* zero-initialised with keep_ns set */

void cog_quarantine_add(cog_quarantine *q, const cog_sha256 *file, uint64_t now_ns);
bool cog_quarantine_has(cog_quarantine *q, const cog_sha256 *file, uint64_t now_ns);

#endif
