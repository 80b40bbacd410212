/* key_file.h - the file of API keys: one on a line, with limits of its own behind it if it has any.
 *
 *     # a comment, as are empty lines
 *     sk-one
 *     sk-two rpm=60 tpm=100000 concurrent=4    # 0: none, whatever the server's options say
 *
 * Keys are kept as digests only. No message holds a key, or a line's text. Any thread. */
#ifndef COG_SERVER_KEY_FILE_H
#define COG_SERVER_KEY_FILE_H

#include "base/err.h"
#include "base/sha256.h"

#include <stddef.h>

typedef struct cog_key_entry {
    cog_sha256 digest;
    int requests, tokens, concurrent; /* see cog_limits; -1: as the server's options say */
} cog_key_entry;

/* *out is the caller's. COG_EFORMAT names the line; a text without a key is refused as well. */
int cog_key_file_parse(cog_key_entry **out, int *n_out, const char *text, size_t len, cog_err *err);

/* Errors begin with the path; COG_EIO when it cannot be read. */
int cog_key_file_read(cog_key_entry **out, int *n_out, const char *path, cog_err *err);

#endif
