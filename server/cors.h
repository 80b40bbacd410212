/* cors.h - pages of other origins: which browsers may let ask (--cors-origin), and their
 * preflights.
 *
 * Without an origin in the configuration no answer has a field of CORS, and browsers let no page
 * in. Credentials are never allowed: a page has an API key or none. Pure, the loop thread's. */
#ifndef COG_SERVER_CORS_H
#define COG_SERVER_CORS_H

#include "base/buf.h"
#include "base/err.h"
#include "server/head.h"
#include "server/server.h"

#include <stdbool.h>

/* COG_EINVAL unless it is "*", or SCHEME://HOST or SCHEME://HOST:PORT as browsers write it. */
int cog_cors_check(const char *origin, cog_err *err);

/* The origin that a request came from, when it is one of those configured; else NULL. Borrowed from
 * the head. */
const char *cog_cors_origin(const cog_server_config *cfg, const cog_head *head);

/* Whether it is the question of a browser that comes before a request, of such an origin. */
bool cog_cors_is_preflight(const cog_server_config *cfg, const cog_head *head);

/* Adds those of the asked names of header fields (comma separated) that requests may have. */
void cog_cors_add_fields(cog_buf *out, const char *asked);

/* What a page may read of an answer's head. */
extern const char cog_cors_exposed[];

struct cog_exchange;

/* The route of preflights. */
void cog_cors_answer(struct cog_exchange *x);

#endif
