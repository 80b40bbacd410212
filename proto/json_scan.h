/* json_scan.h - one pass over a request body before a JSON parser sees it.
 *
 * A parser may blow a small body up to many times its size and takes long over a picture in a
 * string. So the pass counts values and nesting against limits, and lifts long "data:" strings out:
 * the skeleton that goes to the parser holds "<nonce>:<index>" in their place, and the piece is a
 * view of the body. It checks no grammar; the parser does that to the skeleton.
 *
 * Linear in the body's length. Pure, any thread. */
#ifndef COG_PROTO_JSON_SCAN_H
#define COG_PROTO_JSON_SCAN_H

#include "base/buf.h"
#include "proto/api_error.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    COG_JSON_MAX_VALUES = 200000,
    COG_JSON_MAX_DEPTH = 64,
    COG_JSON_LIFT = 4096, /* bytes from which a "data:" string is lifted */
};

struct json_t;

typedef struct cog_json_piece {
    const char *data; /* borrowed from the body: between the quotes, as written */
    size_t len;
    bool is_escaped; /* has "\/", and no other escape */
} cog_json_piece;

typedef struct cog_json_scan {
    cog_buf skeleton;
    cog_json_piece *pieces; /* owned */
    int n_pieces;
    const char *nonce; /* borrowed */
} cog_json_scan;

/* Once, before threads start: seeds the parser's hash tables. */
void cog_json_init(void);

/* nonce is text that no client can know, without characters that JSON escapes. Fails with
 * COG_EINVAL and invalid_json. */
int cog_json_scan_init(cog_json_scan *out, const char *body, size_t len, const char *nonce,
                       cog_api_error *err);
void cog_json_scan_fini(cog_json_scan *s);

/* The piece that a parsed string stands for, or NULL when it is the client's own text. */
const cog_json_piece *cog_json_scan_find(const cog_json_scan *s, const char *text);

/* Puts the text of lifted strings back wherever no picture may stand: all that are no value of a
 * key "url" or "image_url". COG_EINVAL and invalid_json for one that is no valid string. */
int cog_json_scan_restore(const cog_json_scan *s, struct json_t *root, cog_api_error *err);

/* What a piece says as text, for a long "data:" string that is no picture. Owned by the caller;
 * NULL when it is no valid JSON string. */
char *cog_json_piece_text(const cog_json_piece *p, size_t *out_len);

/* Its bytes with the escapes of "/" undone. Owned by the caller. */
char *cog_json_piece_unescape(const cog_json_piece *p, size_t *out_len);

#endif
