/* sse_read.h - server-sent events as a client gets them (WHATWG HTML, 9.2.6): bytes in pieces that
 * are cut anywhere, out come the events' data. Pure. */
#ifndef COG_PROTO_SSE_READ_H
#define COG_PROTO_SSE_READ_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/* Zero-initialised is the beginning of a stream. */
typedef struct cog_sse_reader {
    cog_buf line;  /* the line being read, without its end */
    cog_buf data;  /* of the event being read; lines are joined by LF */
    bool has_data; /* a data field was seen, perhaps an empty one */
    bool after_cr; /* an LF now belongs to the CR before it */
} cog_sse_reader;

/* Reads the next bytes and calls event with the data of each event that they complete; valid during
 * the call. Lines end in LF, CR or CRLF. Comments, event names, ids and retry times are skipped.
 * What is never completed by an empty line is no event. */
void cog_sse_read(cog_sse_reader *r, const char *bytes, size_t len,
                  void (*event)(void *arg, const char *data, size_t len), void *arg);

void cog_sse_reader_fini(cog_sse_reader *r); /* frees; r is at the beginning again */

#endif
