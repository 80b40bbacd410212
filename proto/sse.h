/* sse.h - server-sent-event framing (WHATWG HTML, 9.2): "data: " + one line + LF LF. Pure. */
#ifndef COG_PROTO_SSE_H
#define COG_PROTO_SSE_H

#include "base/buf.h"

void cog_sse_event(cog_buf *out, const char *data, size_t len); /* data has no line breaks */
void cog_sse_done(cog_buf *out);                                /* data: [DONE] */
void cog_sse_ping(cog_buf *out);                                /* a comment that clients skip */

#endif
