#include "engine/forward.h"

#include "base/alloc.h"

#include <assert.h>

struct cog_forward {
    cog_model *model;
    cog_act *x;         /* [max_rows, hidden] */
    cog_act *vit_x;     /* [max_images * vision.tokens, vision.hidden] */
    cog_act **features; /* [max_features] of [image_tokens, hidden]; the first n_free are free */
    cog_act **made;     /* [max_features] all of them, for close */
    int max_features, n_free;
    int rows; /* of the step under way */
    int max_images;
    int n_images;   /* of the pass under way, 0: none */
    int next_layer; /* of that pass */
    cog_trace_fn *trace;
    void *trace_arg;
};

static int reserve_features(cog_forward *f, int max_features)
{
    const cog_model *m = f->model;

    f->features = cog_array(cog_act *, (size_t)max_features);
    f->made = cog_array(cog_act *, (size_t)max_features);
    f->max_features = max_features;
    for (int i = 0; i < max_features; i++) {
        int rc = m->ops->act_new(m->be, &f->made[i], m->cfg.image_tokens, m->cfg.hidden);
        if (rc < 0)
            return rc;
        f->features[f->n_free++] = f->made[i];
    }
    return 0;
}

int cog_forward_open(cog_forward **out, cog_model *model, int max_rows, int max_images,
                     int max_features, cog_err *err)
{
    const cog_model_config *cfg = &model->cfg;
    cog_forward *f = cog_new(cog_forward);
    int rc;

    f->model = model;
    f->max_images = max_images;
    rc = model->ops->act_new(model->be, &f->x, max_rows, cfg->hidden);
    if (rc == 0)
        rc = model->ops->act_new(model->be, &f->vit_x, max_images * cfg->vision.tokens,
                                 cfg->vision.hidden);
    if (rc == 0)
        rc = reserve_features(f, max_features);
    if (rc < 0) {
        cog_err_set(err, rc,
                    "no memory for activations of %d rows, a pass of %d pictures and the features "
                    "of %d",
                    max_rows, max_images, max_features);
        cog_forward_close(f);
        return rc;
    }
    *out = f;
    return 0;
}

void cog_forward_close(cog_forward *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->max_features; i++)
        f->model->ops->act_free(f->model->be, f->made[i]);
    f->model->ops->act_free(f->model->be, f->x);
    f->model->ops->act_free(f->model->be, f->vit_x);
    cog_free(f->features);
    cog_free(f->made);
    cog_free(f);
}

void cog_forward_trace(cog_forward *f, cog_trace_fn *fn, void *arg)
{
    f->trace = fn;
    f->trace_arg = arg;
}

static void trace(cog_forward *f, cog_trace_point point, int layer, const cog_act *a, int rows)
{
    if (f->trace)
        f->trace(f->trace_arg, point, layer, a, rows);
}

/* The calls of a step between its beginning and its end. */
static int issue(void *arg)
{
    cog_forward *f = arg;
    cog_model *m = f->model;
    const cog_backend_ops *op = m->ops;
    int rc = op->embed(m->be, f->x, m->embed);

    if (rc == 0)
        trace(f, COG_TRACE_EMBED, 0, f->x, f->rows);
    for (int l = 0; rc == 0 && l < m->cfg.layers; l++) {
        rc = op->attention(m->be, f->x, &m->layer[l], l);
        if (rc == 0)
            rc = op->ffn(m->be, f->x, &m->layer[l]);
        if (rc == 0)
            trace(f, COG_TRACE_LAYER, l, f->x, f->rows);
    }
    return rc ? rc : op->logits(m->be, f->x, &m->head);
}

int cog_forward_begin(cog_forward *f, const cog_batch *b)
{
    cog_model *m = f->model;
    const cog_backend_ops *op = m->ops;
    int rc = op->step_begin(m->be, b);

    if (rc < 0)
        return rc;
    f->rows = b->rows;
    return op->replay && !f->trace ? op->replay(m->be, issue, f) : issue(f);
}

int cog_forward_draw(cog_forward *f, int32_t *token)
{
    return f->model->ops->sample(f->model->be, token);
}

int cog_forward_step(cog_forward *f, const cog_batch *b, int32_t *token)
{
    int rc = cog_forward_begin(f, b);

    return rc ? rc : cog_forward_draw(f, token);
}

int cog_forward_vision_begin(cog_forward *f, const uint8_t *const *rgb, int n)
{
    cog_model *m = f->model;
    int rc;

    assert(f->n_images == 0 && n > 0 && n <= f->max_images);
    rc = m->ops->vit_embed(m->be, f->vit_x, rgb, n, &m->vit_embed);
    if (rc < 0)
        return rc;
    f->n_images = n;
    f->next_layer = 0;
    trace(f, COG_TRACE_VIT_EMBED, 0, f->vit_x, n * m->cfg.vision.tokens);
    return 0;
}

int cog_forward_vision_layers(cog_forward *f, int max_layers, int *n_left)
{
    cog_model *m = f->model;
    int n_layers = m->cfg.vision.layers;

    assert(f->n_images > 0);
    for (int i = 0; i < max_layers && f->next_layer < n_layers; i++) {
        int rc = m->ops->vit_block(m->be, f->vit_x, f->n_images, &m->vit[f->next_layer]);
        if (rc < 0)
            return rc;
        trace(f, COG_TRACE_VIT_BLOCK, f->next_layer, f->vit_x, f->n_images * m->cfg.vision.tokens);
        f->next_layer++;
    }
    *n_left = n_layers - f->next_layer;
    return 0;
}

int cog_forward_vision_end(cog_forward *f, cog_act **features)
{
    cog_model *m = f->model;
    int n = f->n_images;
    int rc;

    assert(n > 0 && f->next_layer == m->cfg.vision.layers);
    assert(n <= f->n_free);
    rc = m->ops->vit_project(m->be, &f->features[f->n_free - n], f->vit_x, n, &m->adapter);
    f->n_images = 0;
    if (rc < 0)
        return rc;
    f->n_free -= n;
    for (int i = 0; i < n; i++) {
        features[i] = f->features[f->n_free + i];
        trace(f, COG_TRACE_FEATURES, i, features[i], m->cfg.image_tokens);
    }
    return 0;
}

void cog_forward_features_give(cog_forward *f, cog_act *features)
{
    if (!features)
        return;
    assert(f->n_free < f->max_features);
    f->features[f->n_free++] = features;
}

void cog_forward_vision_abort(cog_forward *f)
{
    f->n_images = 0;
}
