/* memory.h - where a picture's file and its pixels lie while it is decoded.
 *
 *     [0, file_room)     the file, written by the server
 *     [pixels_at, size)  rgb [side, side, 3], written by whoever decodes it
 *
 * Shared memory can be given to another process as a descriptor. Its size is sealed, so that nobody
 * who has it can make this process fault; its contents may change at any time while another process
 * has it. Any thread, one at a time. */
#ifndef COG_SERVER_PICTURE_MEMORY_H
#define COG_SERVER_PICTURE_MEMORY_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cog_picture_memory {
    uint8_t *base; /* zeroed; NULL: there is none */
    size_t size, pixels_at;
    int fd; /* of shared memory; else -1 */
} cog_picture_memory;

/* COG_ENOMEM when memory or descriptors are out. */
int cog_picture_memory_init(cog_picture_memory *m, size_t file_room, int side, bool is_shared,
                            cog_err *err);
void cog_picture_memory_fini(cog_picture_memory *m); /* zero-initialised is fine */

#endif
