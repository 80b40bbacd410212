/* vision.h - the pictures of all live requests: each distinct one is encoded once, several in one
 * pass. Engine thread only.
 *
 * A picture is counted: every request that sent it holds one reference, and it goes with the last.
 * Two pictures are the same when the SHA-256 of their final pixels is.
 *
 * The device may work on a pass while the engine goes on: one slice is enqueued, and nothing more
 * of it until the backend's vision_poll has said idle. So a slice is measured by itself, and an
 * idle lane is what every decision about a pass meets. */
#ifndef COG_ENGINE_VISION_H
#define COG_ENGINE_VISION_H

#include "engine/engine.h"
#include "engine/forward.h"
#include "engine/scheduler.h"

#include <stdbool.h>

enum { COG_MAX_PASS_IMAGES = 64 };

typedef struct cog_vision_picture {
    cog_picture sched; /* what the scheduler sees; first member */
    cog_image *image;  /* owned */
    cog_sha256 hash;
    cog_act *features;  /* [image_tokens, hidden] from the reserve of forward.h; NULL before */
    uint64_t encode_ns; /* time its pass took */
    int refs;
    struct cog_vision_picture *next;
} cog_vision_picture;

typedef struct cog_vision {
    cog_forward *forward;
    const cog_model *model;
    cog_vision_picture *all;                       /* newest first */
    cog_vision_picture *pass[COG_MAX_PASS_IMAGES]; /* under way, a reference each */
    int n_pass, max_images;
    uint64_t pass_ns;  /* work so far in this pass */
    uint64_t layer_ns; /* what one tower layer of one picture took last */
    int n_left;        /* tower layers of the pass still to be enqueued */
    bool is_busy;      /* the device was given a slice and has not said idle since */
    int slice;         /* tower layers of that slice; 0: it was the adapter, the pass's last */
    uint64_t n_slices; /* that the device was through with */
    cog_act *made[COG_MAX_PASS_IMAGES]; /* what the adapter writes for each of pass */
    int n_features;                     /* pictures whose features are held */
    int max_features;                   /* reserved */
    uint64_t n_encoded, n_shared;
} cog_vision;

/* max_features: what forward has reserved, at least the running sequences and a pass's pictures. */
void cog_vision_init(cog_vision *v, cog_forward *forward, const cog_model *model, int max_images,
                     int max_features);
void cog_vision_fini(cog_vision *v); /* every reference was given back */

/* Takes the image; returns its picture with one more reference. *is_new: nobody had sent it. */
cog_vision_picture *cog_vision_take(cog_vision *v, cog_image *image, bool *is_new);
void cog_vision_unref(cog_vision *v, cog_vision_picture *p); /* NULL is fine */

/* Looks whether the device is through with the slice it was given; if so, begins a pass if pictures
 * wait and none is under way, and enqueues a slice of it: some tower layers, or, once they are
 * through, the adapter, after which the pictures are ready. A pass nobody waits for any more is
 * dropped. Never waits: running streams get their step after each call, and is_busy tells whether
 * there is a slice to ask for again. When features are wanted for a running sequence and all are
 * taken, a picture that no running sequence uses loses its own and is encoded again later. Device
 * errors are returned. */
int cog_vision_work(cog_vision *v, const cog_scheduler *s);

/* The pause that a call is meant to put between two steps of running streams. One tower layer, and
 * the adapter, are the smallest slices: a machine slower than that pauses longer. */
#define COG_VISION_SLICE_NS 50000000u

#endif
