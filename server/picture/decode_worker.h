/* decode_worker.h - between the decoder and what decodes for it. Private to decode*.c; the loop
 * thread. */
#ifndef COG_SERVER_PICTURE_DECODE_WORKER_H
#define COG_SERVER_PICTURE_DECODE_WORKER_H

#include "server/picture/decoder.h"

typedef enum cog_worker_phase {
    COG_WORKER_DOWN, /* being started */
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
    size_t cost;      /* bytes that the picture may take; counted while in phase PIXELS */
    bool is_hopeless; /* down, and could not be started several times */
    struct cog_decode_worker *next; /* of those that wait for memory */
} cog_decode_worker;

struct cog_worker_ops {
    void (*header)(cog_decode_worker *w);  /* of w->d: cog_worker_header or _end follows */
    void (*pixels)(cog_decode_worker *w);  /* cog_worker_end follows */
    void (*abandon)(cog_decode_worker *w); /* nobody waits for w->d any more; _end follows, or
                                              cog_worker_detach was called */
    void (*tick)(cog_decode_worker *w, uint64_t now_ns); /* from time to time unless it is idle */
    void (*close)(cog_decode_worker *w);                 /* closes its handles; nothing follows */
    void (*free)(cog_decode_worker *w);
};

/* The header was read, and the size is within the limits. */
void cog_worker_header(cog_decode_worker *w, int width, int height);
/* The picture of w ended, if it has one; w is in the phase after, idle or down. DONE without an
 * image: the pixels are in the picture's memory, source is set. */
void cog_worker_end(cog_decode_worker *w, cog_decode_status status, cog_worker_phase after);
/* w is down, and its picture is not to blame: somebody else gets that, before all others. A
 * picture that is given back a second time fails. */
void cog_worker_return(cog_decode_worker *w);
/* w is idle and was down. */
void cog_worker_up(cog_decode_worker *w);
/* The picture of w ends as cancelled; w works on without it, to cog_worker_end. */
void cog_worker_detach(cog_decode_worker *w);
void cog_worker_quarantine(cog_decode_worker *w, const cog_sha256 *file);

/* A worker that decodes in the loop's pool. */
cog_decode_worker *cog_decode_thread_new(cog_decoder *dec);

/* A worker that has a process of its own, started: down until cog_decode_helper_wait. */
cog_decode_worker *cog_decode_helper_new(cog_decoder *dec, cog_err *err); /* NULL: not started */
/* Waits for its first words. is_guarded: it has a filter; else why says why not. COG_EIO when the
 * process does not do what a helper does. */
int cog_decode_helper_wait(cog_decode_worker *w, bool *is_guarded, cog_err *why);
/* From now on it may not be without a filter when it is started again. */
void cog_decode_helper_guard(cog_decode_worker *w);

uv_loop_t *cog_decoder_loop(cog_decoder *dec);
const cog_server_config *cog_decoder_config(const cog_decoder *dec);

#endif
