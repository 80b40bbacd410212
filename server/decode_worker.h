/* decode_worker.h - between the decoder and what decodes for it. Private to decode*.c; the loop
 * thread. */
#ifndef COG_SERVER_DECODE_WORKER_H
#define COG_SERVER_DECODE_WORKER_H

#include "server/decoder.h"

typedef enum cog_worker_phase {
    COG_WORKER_IDLE,
    COG_WORKER_HEADER,  /* reads the header */
    COG_WORKER_WAITING, /* for memory: the decoder's turn */
    COG_WORKER_PIXELS,  /* decodes */
} cog_worker_phase;

typedef struct cog_decode_worker {
    const struct cog_worker_ops *ops;
    cog_decoder *decoder;
    cog_decode *d; /* NULL: idle, or its picture was given up */
    cog_worker_phase phase;
    size_t cost; /* bytes that the picture may take; counted while in phase PIXELS */
    struct cog_decode_worker *next; /* of those that wait for memory */
} cog_decode_worker;

struct cog_worker_ops {
    void (*header)(cog_decode_worker *w);  /* of w->d: cog_worker_header or _end follows */
    void (*pixels)(cog_decode_worker *w);  /* cog_worker_end follows */
    void (*abandon)(cog_decode_worker *w); /* nobody waits for w->d any more; end follows */
    void (*close)(cog_decode_worker *w);   /* closes its handles; it is idle */
    void (*free)(cog_decode_worker *w);
};

/* The header was read, and the size is within the limits. */
void cog_worker_header(cog_decode_worker *w, int width, int height);
/* The picture of w ended; w is idle after. */
void cog_worker_end(cog_decode_worker *w, cog_decode_status status);

/* A worker that decodes in the loop's pool. */
cog_decode_worker *cog_decode_thread_new(cog_decoder *dec);

uv_loop_t *cog_decoder_loop(cog_decoder *dec);
const cog_server_config *cog_decoder_config(const cog_decoder *dec);

#endif
