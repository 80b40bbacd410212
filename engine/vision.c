#include "engine/vision.h"

#include "base/alloc.h"
#include "base/clock.h"

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

void cog_vision_fini(cog_vision *v)
{
    if (v->forward)
        drop_pass(v);
    assert(!v->all);
    *v = (cog_vision){ 0 };
}

cog_vision_picture *cog_vision_take(cog_vision *v, cog_image *image)
{
    cog_vision_picture *p;

    for (p = v->all; p; p = p->next) {
        if (memcmp(&p->hash, &image->hash, sizeof(p->hash)) == 0) {
            cog_image_free(image);
            v->n_shared++;
            p->refs++;
            return p;
        }
    }
    p = cog_new(cog_vision_picture);
    p->image = image;
    p->hash = image->hash;
    p->refs = 1;
    p->next = v->all;
    v->all = p;
    return p;
}

void cog_vision_unref(cog_vision *v, cog_vision_picture *p)
{
    cog_vision_picture **link = &v->all;

    if (!p || --p->refs > 0)
        return;
    while (*link != p)
        link = &(*link)->next;
    *link = p->next;
    if (p->features) {
        v->model->ops->act_free(v->model->be, p->features);
        v->n_features--;
    }
    cog_image_free(p->image);
    cog_free(p);
}

static int begin_pass(cog_vision *v, const cog_scheduler *s)
{
    cog_picture *wanted[COG_MAX_PASS_IMAGES];
    const uint8_t *rgb[COG_MAX_PASS_IMAGES];
    int spare = v->max_features - v->n_features;
    int n = cog_scheduler_pictures(s, wanted, v->max_images, spare > 0 ? spare : 0);

    for (int i = 0; i < n; i++) {
        cog_vision_picture *p = (cog_vision_picture *)wanted[i];
        p->sched.in_pass = true;
        p->refs++;
        v->pass[v->n_pass++] = p;
        rgb[i] = p->image->rgb;
    }
    v->pass_ns = 0;
    return n > 0 ? cog_forward_vision_begin(v->forward, rgb, n) : 0;
}

static int end_pass(cog_vision *v)
{
    cog_act *features[COG_MAX_PASS_IMAGES];
    int rc = cog_forward_vision_end(v->forward, features);

    for (int i = 0; rc == 0 && i < v->n_pass; i++) {
        cog_vision_picture *p = v->pass[i];
        p->features = features[i];
        p->sched.ready = true;
        p->encode_ns = v->pass_ns;
        cog_image_free(p->image);
        p->image = NULL;
        v->n_features++;
        v->n_encoded++;
    }
    drop_pass(v);
    return rc;
}

int cog_vision_work(cog_vision *v, const cog_scheduler *s)
{
    uint64_t begin = cog_now_ns();
    int slice = 1; /* nothing measured yet */
    bool done = false;
    int rc = 0;

    if (v->n_pass == 0)
        rc = begin_pass(v, s);
    if (rc < 0 || v->n_pass == 0)
        return rc;
    if (v->layer_ns > 0)
        slice = (int)(COG_VISION_SLICE_NS / v->layer_ns) + 1;
    if (slice > v->model->cfg.vision.layers)
        slice = v->model->cfg.vision.layers;
    rc = cog_forward_vision_layers(v->forward, slice, &done);
    if (rc < 0)
        return rc;
    v->layer_ns = (cog_now_ns() - begin) / (uint64_t)slice;
    v->pass_ns += cog_now_ns() - begin;
    return done ? end_pass(v) : 0;
}
