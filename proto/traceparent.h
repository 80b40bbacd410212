/* traceparent.h - the W3C trace context header that names the trace a request belongs to. Pure. */
#ifndef COG_PROTO_TRACEPARENT_H
#define COG_PROTO_TRACEPARENT_H

#include <stdbool.h>

typedef struct cog_traceparent {
    char trace_id[33];  /* lower-case hexadecimal, not all zero */
    char parent_id[17]; /* likewise: the caller's span */
    bool is_sampled;
} cog_traceparent;

/* Reads "00-<32 hex>-<16 hex>-<2 hex>", or a later version that begins so. False for anything else,
 * which a server must treat as no header; *out is untouched then. */
bool cog_traceparent_read(cog_traceparent *out, const char *text);

#endif
