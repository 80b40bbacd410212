/* picture.h - pictures as requests carry them: data URLs. Pure but for reading files. */
#ifndef COG_CLIENT_PICTURE_H
#define COG_CLIENT_PICTURE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

/* Adds the data URL of a JPEG file that is a function of its number: patches of colour under noise,
 * about as large as a photograph of that size. Sides are at most 65500. */
void cog_picture_add_random(cog_buf *out, uint64_t number, int width, int height);

/* Adds a file's data URL; its type is what its first bytes say. COG_EIO: it cannot be read;
 * COG_ELIMIT: it is absurdly large; COG_EFORMAT: it is no JPEG, PNG, WebP or GIF. Nothing is added
 * then. */
int cog_picture_add_file(cog_buf *out, const char *path, cog_err *err);

#endif
