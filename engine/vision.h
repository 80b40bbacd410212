/* vision.h - pictures: each distinct one is encoded once, several in one pass, and its features are
 * kept for whoever comes later. Engine thread only.
 *
 * Two pictures are the same when the SHA-256 of their final pixels is, and the salt of the requests
 * that sent them. A picture is counted: every request that sent it holds one reference. With the
 * last one its pixels go; its features, if it has any, stay for a while, and those let go first
 * make room first. Features that requests hold but none needs any more (their visual rows are
 * computed) make room, too; and those needed later than a picture that is to be encoded.
 *
 * The device may work on a pass while the engine goes on: one slice is enqueued, and nothing more
 * of it until the backend's vision_poll has said idle. So a slice is measured by itself, and an
 * idle lane is what every decision about a pass meets. */
#ifndef COG_ENGINE_VISION_H
#define COG_ENGINE_VISION_H

#include "base/histogram.h"
#include "engine/engine.h"
#include "engine/forward.h"
#include "engine/scheduler.h"

#include <stdbool.h>

enum { COG_MAX_PASS_IMAGES = 64, COG_VISION_BUCKETS = 256 };

typedef struct cog_vision_picture {
    cog_picture sched; /* what the scheduler sees; first member */
    cog_image *image;  /* owned; NULL without references */
    cog_sha256 hash, salt;
    bool is_private;    /* of one request that shares nothing */
    cog_act *features;  /* [image_tokens, hidden] from the reserve of forward.h; NULL before */
    uint64_t encode_ns; /* time its pass took */
    uint64_t began_ns;  /* when that pass began */
    int refs;
    struct cog_vision_picture *next;          /* in its bucket */
    struct cog_vision_picture *older, *newer; /* without references: by when that began */
} cog_vision_picture;

typedef struct cog_vision {
    cog_forward *forward;
    const cog_model *model;
    cog_vision_picture *bucket[COG_VISION_BUCKETS]; /* all, by hash */
    cog_vision_picture *oldest, *newest;            /* those without references */
    cog_vision_picture *pass[COG_MAX_PASS_IMAGES];  /* under way, a reference each */
    int n_pass, max_images;
    uint64_t pass_ns;  /* work so far in this pass */
    uint64_t layer_ns; /* what one tower layer of one picture took last */
    uint64_t slice_ns; /* that the last call's slice took, or will take; 0: there was none */
    int n_left;        /* tower layers of the pass still to be enqueued */
    bool is_busy;      /* the device was given a slice and has not said idle since */
    int slice;         /* tower layers of that slice; 0: it was the adapter, the pass's last */
    uint64_t n_slices; /* that the device was through with */
    cog_act *made[COG_MAX_PASS_IMAGES]; /* what the adapter writes for each of pass */
    int n_features;                     /* pictures whose features are held */
    int max_features;                   /* reserved */
    int n_cached, max_cached;           /* of n_features, without references */
    uint64_t n_encoded, n_shared;
    uint64_t n_changes;   /* how often a picture's ready or in_pass changed */
    cog_histogram *batch; /* gets the pictures of each pass that is finished; NULL is fine */
} cog_vision;

/* max_features: what forward has reserved, at least the running sequences and a pass's pictures.
 * max_cached: pictures kept without references. */
void cog_vision_init(cog_vision *v, cog_forward *forward, const cog_model *model, int max_images,
                     int max_features, int max_cached);
void cog_vision_fini(cog_vision *v); /* every reference was given back */

/* Takes the image; returns its picture with one more reference. *is_new: nobody had sent it, or it
 * was forgotten since. is_private: it is neither shared nor kept. */
cog_vision_picture *cog_vision_take(cog_vision *v, cog_image *image, const cog_sha256 *salt,
                                    bool is_private, bool *is_new);
void cog_vision_unref(cog_vision *v, cog_vision_picture *p); /* NULL is fine */

/* Looks whether the device is through with the slice it was given; if so, and slice_ns is not 0,
 * begins a pass if pictures wait and none is under way, and enqueues a slice of it: as many tower
 * layers as take slice_ns, but at least one, or, once they are through, the adapter, after which
 * the pictures are ready. A pass nobody waits for any more is dropped. Never waits: running streams
 * get their step after each call, and is_busy tells whether there is a slice to ask for again.
 * Device errors are returned. */
int cog_vision_work(cog_vision *v, cog_scheduler *s, uint64_t now_ns, uint64_t slice_ns);

#endif
