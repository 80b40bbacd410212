/* source.h - where the bytes of a request's picture come from: the request itself, a file
 * below the media root, or the web. The stage before the picture is decoded.
 *
 *     check (pool) -> [start ... fetched (loop)] -> room, read (pool) -> fini
 *
 * Errors of a place are told without what lies there: no path, no address, no word of another
 * server. */
#ifndef COG_SERVER_PICTURE_SOURCE_H
#define COG_SERVER_PICTURE_SOURCE_H

#include "proto/chat.h"
#include "server/picture/fetch.h"
#include "server/picture/media_file.h"
#include "server/server.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cog_picture_source {
    const cog_chat_picture *picture; /* NULL: there is none. Borrowed */
    struct Curl_URL *url;            /* to be fetched; owned */
    cog_fetch fetch;
    bool has_file;
    cog_media_file file;
} cog_picture_source; /* zero-initialised is none */

/* Any thread. Whether the picture, which may have none, names a place that may be read: what the
 * text alone says, before anything is opened. */
int cog_picture_source_check(cog_picture_source *s, const cog_chat_picture *picture,
                             const cog_server_config *cfg, cog_api_error *err);

/* Whether start and fetched have to come before room. */
bool cog_picture_source_is_remote(const cog_picture_source *s);

/* Loop thread. done is called there with s->fetch; then fetched says whether the bytes are there.
 */
void cog_picture_source_start(cog_picture_source *s, cog_fetcher *fetcher, uint64_t deadline_ns,
                              size_t max_bytes, void (*done)(cog_fetch *f), void *user);
int cog_picture_source_fetched(const cog_picture_source *s, size_t max_bytes, cog_api_error *err);

/* Pool. Bytes that the picture's file may have: never less than read writes. */
int cog_picture_source_room(cog_picture_source *s, size_t *room, const cog_media_root *root,
                            size_t max_bytes, cog_api_error *err);
/* Pool. Writes them to dst. */
int cog_picture_source_read(cog_picture_source *s, uint8_t *dst, size_t *len, cog_api_error *err);

/* Nothing is under way. Zero-initialised is fine, and twice. */
void cog_picture_source_fini(cog_picture_source *s);

#endif
