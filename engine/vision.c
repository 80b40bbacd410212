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
    v->n_left = v->model->cfg.vision.layers;
    return n > 0 ? cog_forward_vision_begin(v->forward, rgb, n) : 0;
}

static int end_pass(cog_vision *v)
{
    uint64_t begin = cog_now_ns();
    cog_act *features[COG_MAX_PASS_IMAGES];
    int rc = cog_forward_vision_end(v->forward, features);

    v->pass_ns += cog_now_ns() - begin;
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

static int run_layers(cog_vision *v)
{
    uint64_t begin = cog_now_ns(), took;
    uint64_t layer_ns = v->layer_ns * (uint64_t)v->n_pass;
    int before = v->n_left;
    int slice = layer_ns ? (int)(COG_VISION_SLICE_NS / layer_ns) : 1; /* nothing measured yet */
    int rc = cog_forward_vision_layers(v->forward, slice < 1 ? 1 : slice, &v->n_left);

    took = cog_now_ns() - begin;
    v->pass_ns += took;
    v->layer_ns =
        took / (uint64_t)(v->n_pass * (before - v->n_left > 0 ? before - v->n_left : 1)) + 1;
    return rc;
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
    if (v->n_pass > 0 && !is_wanted(v))
        drop_pass(v);
    if (v->n_pass == 0) {
        int rc = begin_pass(v, s);
        if (rc < 0)
            return rc;
    }
    if (v->n_pass == 0)
        return 0;
    return v->n_left > 0 ? run_layers(v) : end_pass(v);
}
