#include "engine/vision.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

void cog_vision_init(cog_vision *v, cog_forward *forward, const cog_model *model, int max_images,
                     int max_features)
{
    *v = (cog_vision){
        .forward = forward, .model = model, .max_images = max_images, .max_features = max_features
    };
}

static void drop_pass(cog_vision *v)
{
    cog_forward_vision_abort(v->forward);
    while (v->n_pass > 0) {
        cog_vision_picture *p = v->pass[--v->n_pass];
        p->sched.in_pass = false;
        cog_vision_unref(v, p);
    }
}

/* Waits until the device is through; an error was reported before or no longer matters. */
static void quiesce(cog_vision *v)
{
    bool idle;
    uint64_t busy_ns;

    if (v->is_busy)
        (void)v->model->ops->vision_poll(v->model->be, true, &idle, &busy_ns);
    v->is_busy = false;
}

void cog_vision_fini(cog_vision *v)
{
    if (v->forward) {
        quiesce(v);
        drop_pass(v);
    }
    assert(!v->all);
    *v = (cog_vision){ 0 };
}

cog_vision_picture *cog_vision_take(cog_vision *v, cog_image *image, bool *is_new)
{
    cog_vision_picture *p;

    for (p = v->all; p; p = p->next) {
        if (memcmp(&p->hash, &image->hash, sizeof(p->hash)) == 0) {
            cog_image_free(image);
            v->n_shared++;
            p->refs++;
            *is_new = false;
            return p;
        }
    }
    p = cog_new(cog_vision_picture);
    p->image = image;
    p->hash = image->hash;
    p->refs = 1;
    p->next = v->all;
    v->all = p;
    *is_new = true;
    return p;
}

static void drop_features(cog_vision *v, cog_vision_picture *p)
{
    if (!p->features)
        return;
    cog_forward_features_give(v->forward, p->features);
    p->features = NULL;
    p->sched.ready = false;
    v->n_features--;
}

void cog_vision_unref(cog_vision *v, cog_vision_picture *p)
{
    cog_vision_picture **link = &v->all;

    if (!p || --p->refs > 0)
        return;
    while (*link != p)
        link = &(*link)->next;
    *link = p->next;
    drop_features(v, p);
    cog_image_free(p->image);
    cog_free(p);
}

static bool is_running(const cog_vision_picture *p, const cog_scheduler *s)
{
    for (const cog_sched_seq *q = s->running.head; q; q = q->next)
        if (q->picture == &p->sched)
            return true;
    return false;
}

/* A picture shared by a request far back in the queue may hold features that running sequences
 * need now. */
static bool reclaim(cog_vision *v, const cog_scheduler *s)
{
    for (cog_vision_picture *p = v->all; p; p = p->next) {
        if (p->features && !is_running(p, s)) {
            drop_features(v, p);
            return true;
        }
    }
    return false;
}

static int begin_pass(cog_vision *v, const cog_scheduler *s)
{
    cog_picture *wanted[COG_MAX_PASS_IMAGES];
    const uint8_t *rgb[COG_MAX_PASS_IMAGES];
    int n_running = cog_scheduler_pictures(s, wanted, v->max_images, 0), spare, n;

    while (v->max_features - v->n_features < n_running && reclaim(v, s))
        ;
    spare = v->max_features - v->n_features;
    n = cog_scheduler_pictures(s, wanted, v->max_images, spare > n_running ? spare - n_running : 0);
    assert(n <= spare); /* of any reserve with room for all running sequences and a pass */
    for (int i = 0; i < n; i++) {
        cog_vision_picture *p = (cog_vision_picture *)wanted[i];
        p->sched.in_pass = true;
        p->refs++;
        v->pass[v->n_pass++] = p;
        rgb[i] = p->image->rgb;
    }
    v->pass_ns = 0;
    v->n_left = v->model->cfg.vision.layers;
    return n > 0 ? cog_forward_vision_begin(v->forward, rgb, n) : 0;
}

static void end_pass(cog_vision *v)
{
    for (int i = 0; i < v->n_pass; i++) {
        cog_vision_picture *p = v->pass[i];
        p->features = v->made[i];
        p->sched.ready = true;
        p->encode_ns = v->pass_ns;
        v->n_features++;
        v->n_encoded++;
    }
    drop_pass(v);
}

/* What the device has done since it was last seen idle. */
static int settle(cog_vision *v)
{
    uint64_t busy_ns = 0;
    bool idle = true;
    int rc;

    if (!v->is_busy)
        return 0;
    rc = v->model->ops->vision_poll(v->model->be, false, &idle, &busy_ns);
    if (rc < 0 || !idle)
        return rc;
    v->is_busy = false;
    v->n_slices++;
    v->pass_ns += busy_ns;
    if (v->slice == 0)
        end_pass(v);
    else
        v->layer_ns = busy_ns / (uint64_t)(v->n_pass * v->slice) + 1;
    return 0;
}

static int enqueue(cog_vision *v)
{
    uint64_t layer_ns = v->layer_ns * (uint64_t)v->n_pass;
    int slice = layer_ns ? (int)(COG_VISION_SLICE_NS / layer_ns) : 1; /* nothing measured yet */
    int before = v->n_left;
    int rc;

    if (before == 0)
        rc = cog_forward_vision_end(v->forward, v->made);
    else
        rc = cog_forward_vision_layers(v->forward, slice < 1 ? 1 : slice, &v->n_left);
    if (rc < 0)
        return rc;
    v->slice = before - v->n_left;
    v->is_busy = true;
    return 0;
}

static bool is_wanted(const cog_vision *v)
{
    for (int i = 0; i < v->n_pass; i++)
        if (v->pass[i]->refs > 1)
            return true;
    return false;
}

int cog_vision_work(cog_vision *v, const cog_scheduler *s)
{
    int rc = settle(v);

    if (rc < 0 || v->is_busy)
        return rc;
    if (v->n_pass > 0 && !is_wanted(v))
        drop_pass(v);
    if (v->n_pass == 0)
        rc = begin_pass(v, s);
    if (rc == 0 && v->n_pass > 0)
        rc = enqueue(v);
    return rc < 0 ? rc : settle(v);
}
