/* json_body.h - a request's body as a JSON object, within the limits of every request. Pure. */
#ifndef COG_PROTO_JSON_BODY_H
#define COG_PROTO_JSON_BODY_H

#include "proto/api_error.h"
#include "proto/json_scan.h"

#include <stddef.h>

struct json_t;

/* Scans and parses body, which must outlive scan, and puts long texts back where no picture stands.
 * Fails with COG_EINVAL and invalid_json; *root (owned) and *scan are valid for json_decref and
 * cog_json_scan_fini either way. */
int cog_json_body_parse(struct json_t **root, cog_json_scan *scan, const char *body, size_t len,
                        const char *nonce, cog_api_error *err);

#endif
