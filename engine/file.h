/* file.h - bounded reading of a checkpoint folder's small files. Files are hostile: only regular
 * files, only up to a limit. */
#ifndef COG_ENGINE_FILE_H
#define COG_ENGINE_FILE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* The whole of dir/name into out, replacing what it held. COG_EIO when it cannot be read or is no
 * regular file, COG_ELIMIT when it is longer than limit. Messages name the path. */
int cog_file_read(cog_buf *out, const char *dir, const char *name, size_t limit, cog_err *err);

/* A descriptor of the regular file dir/name and its size, or COG_EIO. The caller closes it. */
int cog_file_open(int *out_fd, size_t *out_size, const char *dir, const char *name, cog_err *err);

/* True when something of that name exists in dir. */
bool cog_file_exists(const char *dir, const char *name);

#endif
