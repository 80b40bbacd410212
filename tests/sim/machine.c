/* machine.c - how long things take, and a device behind the real vision.c that does nothing for
 * that long. */
#include "tests/sim/sim.h"

#include "base/alloc.h"

#include <assert.h>

/* cpu-demo: the demo model on two cores, of the order that `cogwheel serve` logs for it. gpu-17b:
 * CogVLM-17B in bf16 on a device of 4.3 TB/s and 700 TFLOP/s, by counting bytes and operations.
 * Neither is a measurement; what is asked is how the server divides what time there is. */
const sim_machine sim_machines[] = {
    {
        .name = "cpu-demo",
        .step_us = 150,
        .decode_row_us = 60,
        .text_row_us = 25,
        .visual_row_us = 25,
        .visual_us = 60,
        .layer_us = 1300,
        .adapter_us = 300,
        .layers = 6,
        .image_tokens = 66,
        .max_images = 1,
        .max_features = 40,
        .max_cached = 64,
        .n_blocks = 600,
        .block = 32,
        .max_seqs = 32,
        .step_tokens = 256,
        .stretch = 2,
    },
    {
        .name = "gpu-17b",
        .step_us = 3100,
        .decode_row_us = 165,
        .text_row_us = 19,
        .visual_row_us = 17,
        .visual_us = 3000,
        .layer_us = 235,
        .adapter_us = 500,
        .lane = 1.25,
        .layers = 63,
        .image_tokens = 1226,
        .max_images = 8,
        .max_features = 160,
        .max_cached = 64,
        .n_blocks = 6200,
        .block = 32,
        .max_seqs = 128,
        .step_tokens = 2048,
        .stretch = 2,
    },
};
const int sim_n_machines = sizeof(sim_machines) / sizeof(sim_machines[0]);

double sim_step_us(const sim_machine *m, int n_decode, int n_text, int n_visual)
{
    return m->step_us + m->decode_row_us * n_decode + m->text_row_us * n_text +
           m->visual_row_us * n_visual + (n_visual ? m->visual_us : 0);
}

/* The token that ends a picture counts as text, and so does BOS. */
int sim_visual_rows(const cog_sched_seq *q)
{
    int first = q->n_computed > 1 ? q->n_computed : 1, end = q->n_computed + q->n_rows;

    if (!q->picture)
        return 0;
    end = end < q->n_visual - 1 ? end : q->n_visual - 1;
    return end > first ? end - first : 0;
}

/* ------------------------------------------------------------------ the device of vision.c */

static void work(sim_world *w, double us)
{
    w->busy_ns = (uint64_t)(us * 1000);
    if (w->m->lane == 0)
        w->now += w->busy_ns;
    w->idle_at = w->now + (w->m->lane == 0 ? 0 : w->busy_ns);
}

uint64_t sim_lane_ns(const sim_world *w)
{
    return w->vision.is_busy ? w->idle_at : UINT64_MAX;
}

int cog_forward_vision_begin(cog_forward *f, const uint8_t *const *rgb, int n)
{
    sim_world *w = (sim_world *)f;

    (void)rgb;
    w->n_images = n;
    w->layers_left = w->m->layers;
    return 0;
}

int cog_forward_vision_layers(cog_forward *f, int max_layers, int *n_left)
{
    sim_world *w = (sim_world *)f;
    int n = max_layers < w->layers_left ? max_layers : w->layers_left;

    w->layers_left -= n;
    *n_left = w->layers_left;
    work(w, w->m->layer_us * n * w->n_images);
    return 0;
}

int cog_forward_vision_end(cog_forward *f, cog_act **features)
{
    sim_world *w = (sim_world *)f;

    for (int i = 0; i < w->n_images; i++) {
        assert(w->n_given < w->m->max_features);
        features[i] = (cog_act *)w->reserve[w->n_given++];
    }
    w->result.passes++;
    work(w, w->m->adapter_us * w->n_images);
    return 0;
}

void cog_forward_vision_abort(cog_forward *f)
{
    (void)f;
}

void cog_forward_features_give(cog_forward *f, cog_act *features)
{
    sim_world *w = (sim_world *)f;

    w->reserve[--w->n_given] = (uint8_t *)features;
}

static int poll(cog_backend *be, bool wait, bool *idle, uint64_t *busy_ns)
{
    sim_world *w = (sim_world *)be;

    if (wait && w->now < w->idle_at)
        w->now = w->idle_at;
    *idle = w->now >= w->idle_at;
    *busy_ns = w->busy_ns;
    return 0;
}

void sim_device_init(sim_world *w)
{
    w->reserve = cog_array(uint8_t *, (size_t)w->m->max_features);
    w->reserve_bytes = cog_array(uint8_t, (size_t)w->m->max_features);
    for (int i = 0; i < w->m->max_features; i++)
        w->reserve[i] = w->reserve_bytes + i;
    w->ops.vision_poll = poll;
    w->model.ops = &w->ops;
    w->model.be = (cog_backend *)w;
    w->model.cfg.vision.layers = w->m->layers;
    cog_vision_init(&w->vision, (cog_forward *)w, &w->model, w->m->max_images, w->m->max_features,
                    w->policy == SIM_SERVER ? w->m->max_cached : 0);
}

void sim_device_fini(sim_world *w)
{
    cog_vision_fini(&w->vision);
    cog_free(w->reserve);
    cog_free(w->reserve_bytes);
}
