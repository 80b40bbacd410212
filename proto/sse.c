#include "proto/sse.h"

void cog_sse_event(cog_buf *out, const char *data, size_t len)
{
    cog_buf_puts(out, "data: ");
    cog_buf_add(out, data, len);
    cog_buf_puts(out, "\n\n");
}

void cog_sse_done(cog_buf *out)
{
    cog_buf_puts(out, "data: [DONE]\n\n");
}

void cog_sse_ping(cog_buf *out)
{
    cog_buf_puts(out, ": ping\n\n");
}
