/* media_file.h - pictures from one folder of this machine, by file: URLs. Any thread.
 *
 * A path that leaves the folder, a link that leads out, what is no regular file, what cannot be
 * read and what does not exist are one and the same failure: the answer tells nobody what lies
 * there. */
#ifndef COG_SERVER_PICTURE_MEDIA_FILE_H
#define COG_SERVER_PICTURE_MEDIA_FILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cog_media_root {
    int fd;     /* of the folder; -1: none */
    char *path; /* owned: absolute, without links and final slash */
} cog_media_root;

/* COG_EINVAL or COG_EIO name the folder. */
int cog_media_open(cog_media_root *out, const char *dir, cog_err *err);
void cog_media_close(cog_media_root *r); /* one that was never opened, with fd -1, is fine */

typedef struct cog_media_file {
    int fd;
    size_t size; /* bytes, when it was opened */
} cog_media_file;

/* Opens the file that a file: URL names. COG_ELIMIT: larger than max_bytes; COG_EINVAL: everything
 * else. */
int cog_media_open_file(cog_media_file *out, const cog_media_root *r, const char *url,
                        size_t max_bytes);
/* Reads up to size bytes from its beginning: less when it was cut since. COG_EINVAL. */
int cog_media_read_file(uint8_t *dst, size_t *len, const cog_media_file *f);
void cog_media_close_file(cog_media_file *f);

/* The absolute path of file:///PATH or file://localhost/PATH, % undone; NULL when it has none.
 * Owned by the caller. */
char *cog_media_path(const char *url);

/* Opens a file below a folder: its descriptor, or -1. path is relative; none of its parts, nor any
 * link on the way, may lead out. Without openat2 no link is followed at all. */
int cog_media_open_beneath(int dir, const char *path, bool has_openat2);

#endif
