/* decoder.h - pictures from files to pixels, a few at a time, in order of arrival.
 *
 *     cog_decode_init, cog_decode_ready   the file is written into the decode's memory (pool)
 *     cog_decoder_submit                  -> queue -> a worker reads the header
 *                                         -> waits until there is memory for the picture
 *                                         -> the worker decodes -> done
 *
 * The workers are helper processes in a sandbox, or threads of the pool where there is none. A file
 * that makes a helper fail costs its own request only, and is refused when it comes again; when the
 * helper had not begun on it, another one tries, once. What was decoded lately for the same salt is
 * not decoded again.
 *
 * Every submitted decode gets exactly one done, from the loop and never from inside a call of this
 * header. The loop thread only, unless a comment says otherwise. */
#ifndef COG_SERVER_PICTURE_DECODER_H
#define COG_SERVER_PICTURE_DECODER_H

#include "base/err.h"
#include "engine/engine.h"
#include "server/picture/memory.h"
#include "server/server.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

typedef struct cog_decoder cog_decoder;
struct cog_decode_worker;

typedef enum cog_decode_status {
    COG_DECODE_DONE,        /* image is there */
    COG_DECODE_REFUSED,     /* the file is at fault: fault and err say why */
    COG_DECODE_NO_MEMORY,   /* takes more memory than a helper may have */
    COG_DECODE_FAILED,      /* the helper died, was too slow or is not to be trusted */
    COG_DECODE_QUARANTINED, /* the same file made a helper fail before */
    COG_DECODE_UNAVAILABLE, /* no helper can be started at present */
    COG_DECODE_CANCELED,    /* as asked, or the deadline passed */
} cog_decode_status;

/* One picture under way. The caller's storage, zero-initialised; stays where it is until done. */
typedef struct cog_decode {
    /* the caller's */
    void (*done)(struct cog_decode *d);
    void *user;
    uint64_t deadline_ns; /* of waiting in the queue */
    uint64_t *began_ns;   /* gets the time when the pixels' turn comes; NULL is fine */
    cog_picture_memory memory;
    size_t file_len; /* bytes at memory.base */
    int side;
    const cog_sha256
        *salt; /* who may share what the file becomes; NULL: nobody. Valid until done */

    /* the answer, valid in done */
    cog_decode_status status;
    cog_image *image; /* the decode's until taken; set it to NULL then */
    cog_image_fault fault;
    cog_err err;

    /* the decoder's */
    const cog_image_options *options;
    cog_decoder *decoder;
    struct cog_decode *next;
    struct cog_decode_worker *worker; /* NULL: queued, being copied, or done */
    bool is_submitted, is_returned;   /* returned: by a helper that died before it began */
    cog_sha256 file;                  /* what quarantine and the cache know it by */
    cog_image_source source;
    atomic_bool is_abandoned; /* read by the pool: do not start what nobody waits for */
    uv_work_t work;
    int rc, width, height; /* what the pool found */
} cog_decode;

/* Starts the workers; cfg outlives the decoder, and so does the calling thread (helpers die with
 * it). COG_EUNSUPPORTED: no sandbox, and it is required; *out is then to be
 * closed and freed as well. */
int cog_decoder_open(cog_decoder **out, uv_loop_t *loop, const cog_server_config *cfg,
                     cog_err *err);
/* Nothing is under way. Ends the helpers; closes what it has on the loop; free it when the loop has
 * run that. */
void cog_decoder_close(cog_decoder *dec); /* NULL is fine */
void cog_decoder_free(cog_decoder *dec);  /* NULL is fine */

typedef struct cog_decoder_stats {
    int n_workers, n_up;       /* up: idle or busy, not being started again */
    int n_queued;              /* pictures that no worker has */
    uint64_t n_died;           /* helpers lost since the start */
    uint64_t n_asked, n_found; /* pictures looked up, and found decoded */
} cog_decoder_stats;

void cog_decoder_get_stats(const cog_decoder *dec, cog_decoder_stats *out);

/* Any thread. Makes d->memory for a file of up to file_room bytes and a picture of side x side.
 * COG_ENOMEM when memory or descriptors are out. */
int cog_decode_init(cog_decode *d, const cog_decoder *dec, size_t file_room, int side,
                    cog_err *err);
void cog_decode_fini(cog_decode *d); /* any thread; zero-initialised is fine */

/* Any thread. The file is there: d->file_len bytes. */
void cog_decode_ready(cog_decode *d, const cog_decoder *dec);

/* d->done, user, deadline_ns and file_len are set. */
void cog_decoder_submit(cog_decoder *dec, cog_decode *d);
/* done follows, soon; does nothing for a decode that was not submitted. */
void cog_decoder_cancel(cog_decoder *dec, cog_decode *d);

#endif
