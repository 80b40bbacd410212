/* bench_device.c - the time of a model's stages on a device, through the backend's table, with
 * random weights made there. One JSON object a line on stdout; tools/bench_report.py makes the
 * table.
 *
 * A time is taken by the host's clock around calls that end when the device has finished, as a
 * server sees it; median of the repeats after a warm-up, and the tenth and ninetieth percentile.
 * "work" lists [bytes, operations] of the parts that follow each other: what each must move and
 * compute at least. */
#include "tools/bench_ceiling.h"
#include "tools/bench_model.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/forward.h"
#include "engine/rope.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REPEATS = 60, MAX_WORK = 4, CHECK_STEPS = 4 };

typedef struct work {
    double bytes, flop;
} work;

typedef struct bench {
    const bench_shape *shape;
    const cog_backend_ops *ops;
    cog_backend *be;
    cog_model *model;
    cog_forward *forward;
    cog_dtype dtype;
    double budget_ns; /* of one metric */
    int block, n_blocks, max_batch;
    float *cos, *sin;
    uint8_t **rgb;     /* [shape->max_images] */
    cog_act *features; /* of picture 0, or random: [image_tokens, hidden] */
    cog_act *x;        /* [max_batch, hidden] for the head alone */
    cog_act *probe;    /* [1, hidden] read to wait for the device */
    float *probe_row;
    int32_t *drawn; /* [max_batch] */

    /* the step being built or repeated */
    cog_batch batch;
    int32_t *token, *feature, *position, *slot, *seq; /* [max_rows] */
    int32_t *block_table;                             /* [max_batch, max_blocks] */
    const cog_act **feature_of;                       /* [max_batch] */
    int32_t *logits_row;
    cog_draw *draw;
    cog_sampling sampling;
    int n_images; /* of a vision pass */
} bench;

typedef int run_fn(bench *b);

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_device: %s: %s\n", what, why);
    exit(1);
}

static void must(int rc, const char *what)
{
    if (rc < 0)
        die(what, cog_err_name(rc));
}

/* ---- what a stage must do ---- */

static double elements_of_expert(const cog_model_config *m)
{
    double mixed = (double)m->heads * m->head_dim, kv = 2.0 * m->kv_heads * m->head_dim;

    return m->layers * ((mixed + kv + mixed) * m->hidden + 3.0 * m->hidden * m->inter);
}

static double elements_of_head(const cog_model_config *m)
{
    return (double)m->vocab * m->hidden;
}

/* rows of the decoder whose slots see pairs slots in all, by one expert, without the head */
static work decoder_work(const bench *b, double rows, double pairs, double kv_bytes)
{
    const cog_model_config *m = &b->shape->cfg;
    double elements = elements_of_expert(m);

    return (work){ elements * (double)cog_dtype_size(b->dtype) + kv_bytes,
                   2 * rows * elements + 4 * pairs * m->heads * m->head_dim * m->layers };
}

static work head_work(const bench *b, double rows)
{
    double elements = elements_of_head(&b->shape->cfg);

    return (work){ elements * (double)cog_dtype_size(b->dtype), 2 * rows * elements };
}

static work tower_work(const bench *b, double n)
{
    const cog_model_config *m = &b->shape->cfg;
    double h = m->vision.hidden, tokens = m->vision.tokens, layers = m->vision.layers;
    double block = layers * (4 * h * h + 2 * h * m->vision.inter);
    double patch = 3.0 * m->vision.patch * m->vision.patch * h;

    return (work){ (block + patch) * (double)cog_dtype_size(b->dtype),
                   2 * n * tokens * (block + patch) + 4 * n * tokens * tokens * h * layers };
}

static work adapter_work(const bench *b, double n)
{
    const cog_model_config *m = &b->shape->cfg;
    double elements = (double)m->vision.hidden * m->hidden + 3.0 * m->hidden * m->inter;

    return (work){ elements * (double)cog_dtype_size(b->dtype), 2 * n * m->patches * elements };
}

/* ---- measuring ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Runs fn until its share of time is used up and prints the result. */
static void measure(bench *b, const char *metric, int size, run_fn *fn, const work *w, int n_work)
{
    double ms[MAX_REPEATS], used = 0;
    int n = 0;

    for (int i = 0; i < 2; i++)
        must(fn(b), metric);
    while (n < MAX_REPEATS && (n < 3 || used < b->budget_ns)) {
        uint64_t begin = cog_now_ns();
        double ns;
        must(fn(b), metric);
        ns = (double)(cog_now_ns() - begin);
        used += ns;
        ms[n++] = ns * 1e-6;
    }
    qsort(ms, (size_t)n, sizeof(*ms), by_value);
    printf("{\"who\": \"cogwheel\", \"shape\": \"%s\", \"metric\": \"%s\", \"size\": %d, "
           "\"ms\": %.6g, \"low\": %.6g, \"high\": %.6g, \"repeats\": %d, \"work\": [",
           b->shape->name, metric, size, ms[n / 2], ms[n / 10], ms[n - 1 - n / 10], n);
    for (int i = 0; i < n_work; i++)
        printf("%s[%.6g, %.6g]", i ? ", " : "", w[i].bytes, w[i].flop);
    printf("]}\n");
    fflush(stdout);
}

static int wait_for_device(bench *b)
{
    return b->ops->act_read(b->be, b->probe_row, b->probe, 0, 1);
}

/* ---- steps ---- */

static int n_prompt(const bench *b)
{
    return 1 + b->shape->cfg.image_tokens + b->shape->text;
}

static void begin_batch(bench *b, int seqs, int slots)
{
    int max_blocks = (slots + b->block - 1) / b->block;

    if (seqs > b->max_batch || (long)seqs * max_blocks > b->n_blocks)
        die("a batch", "more sequences or pages than there are");
    b->batch = (cog_batch){ .token = b->token,
                            .feature = b->feature,
                            .position = b->position,
                            .slot = b->slot,
                            .seq = b->seq,
                            .seqs = seqs,
                            .block_table = b->block_table,
                            .max_blocks = max_blocks,
                            .features = b->feature_of,
                            .logits_row = b->logits_row,
                            .draw = b->draw };
    for (int s = 0; s < seqs; s++) {
        b->feature_of[s] = b->features;
        for (int i = 0; i < max_blocks; i++)
            b->block_table[s * max_blocks + i] = i * seqs + s;
    }
}

/* Slot `slot` of a prompt that has the picture after BOS when with_picture. */
static void add_row(bench *b, int s, int slot, bool with_picture)
{
    int at = b->batch.rows++, n_image = b->shape->cfg.image_tokens;
    bool is_picture = with_picture && slot >= 1 && slot <= n_image;
    int position = slot;

    /* all patches stand at one position; eoi at the next */
    if (with_picture && slot > 1)
        position = slot < n_image ? 2 : slot - n_image + 3;
    if (at >= b->shape->max_rows)
        die("a batch", "too many rows");
    b->token[at] = is_picture  ? 0
                   : slot == 0 ? b->shape->cfg.bos
                               : bench_token(&b->shape->cfg, slot);
    b->feature[at] = is_picture ? slot - 1 : -1;
    b->position[at] = position;
    b->slot[at] = slot;
    b->seq[at] = s;
}

/* Rows first .. first + n - 1 of each sequence, language rows first. */
static void add_rows(bench *b, int first, int n, bool with_picture)
{
    int last_vision = with_picture ? b->shape->cfg.image_tokens - 1 : 0;

    for (int s = 0; s < b->batch.seqs; s++)
        for (int i = first; i < first + n; i++)
            if (i < 1 || i > last_vision)
                add_row(b, s, i, with_picture);
    b->batch.language_rows = b->batch.rows;
    for (int s = 0; s < b->batch.seqs; s++)
        for (int i = first; i < first + n; i++)
            if (i >= 1 && i <= last_vision)
                add_row(b, s, i, with_picture);
}

/* The row of each sequence with this slot draws a token. */
static void add_draws(bench *b, int slot)
{
    for (int r = 0; r < b->batch.rows; r++)
        if (b->slot[r] == slot) {
            int i = b->batch.n_logits++;
            b->logits_row[i] = r;
            b->draw[i] = (cog_draw){ .row = i, .params = &b->sampling };
        }
    b->batch.n_draws = b->batch.n_logits;
}

static int run_step(bench *b)
{
    int rc = cog_forward_step(b->forward, &b->batch, b->drawn);

    return rc == 0 && b->batch.n_draws == 0 ? wait_for_device(b) : rc;
}

static int run_head(bench *b)
{
    int rc = b->ops->step_begin(b->be, &b->batch);

    if (rc == 0)
        rc = b->ops->embed(b->be, b->x, b->model->embed);
    if (rc == 0)
        rc = b->ops->logits(b->be, b->x, &b->model->head);
    if (rc == 0)
        rc = b->ops->sample(b->be, b->drawn);
    return rc == 0 && b->batch.n_draws == 0 ? wait_for_device(b) : rc;
}

/* ---- vision ---- */

static int vision_wait(bench *b)
{
    bool idle;
    uint64_t busy;

    return b->ops->vision_poll(b->be, true, &idle, &busy);
}

static int begin_tower(bench *b)
{
    int n_left = 0;
    int rc = cog_forward_vision_begin(b->forward, (const uint8_t *const *)b->rgb, b->n_images);

    return rc ? rc : cog_forward_vision_layers(b->forward, b->shape->cfg.vision.layers, &n_left);
}

static int run_tower(bench *b)
{
    int rc = begin_tower(b);

    cog_forward_vision_abort(b->forward);
    return rc ? rc : vision_wait(b);
}

static int run_vision(bench *b)
{
    cog_act *made[64];
    int rc = begin_tower(b);

    if (rc == 0)
        rc = cog_forward_vision_end(b->forward, made);
    if (rc == 0)
        rc = vision_wait(b);
    for (int i = 0; rc == 0 && i < b->n_images; i++)
        cog_forward_features_give(b->forward, made[i]);
    return rc;
}

static int run_first_token(bench *b)
{
    int rc = run_vision(b);

    return rc ? rc : run_step(b);
}

/* ---- the stages ---- */

static void bench_vision(bench *b)
{
    for (int n = 1; n <= b->shape->max_images; n *= 2) {
        work w[] = { tower_work(b, n), adapter_work(b, n) };
        b->n_images = n;
        measure(b, "vit", n, run_tower, w, 1);
        if (b->shape->has_adapter)
            measure(b, "vit and adapter", n, run_vision, w, 2);
    }
}

/* boi and the patches of n sequences, whose BOS is there */
static void bench_vision_prefill(bench *b)
{
    int rows = b->shape->cfg.image_tokens - 1;

    for (int n = 1; n <= 4 && n * rows <= b->shape->max_rows && n <= b->max_batch; n *= 2) {
        work w = decoder_work(b, (double)n * rows, n * 0.5 * rows * (rows + 3.0), 0);
        begin_batch(b, n, n_prompt(b));
        add_rows(b, 0, 1, true);
        must(run_step(b), "vision prefill");
        begin_batch(b, n, n_prompt(b));
        add_rows(b, 1, rows, true);
        measure(b, "vision prefill", n, run_step, &w, 1);
    }
}

static void bench_text_prefill(bench *b)
{
    for (int i = 0; i < 3; i++) {
        int n = b->shape->prefill[i];
        work w[] = { decoder_work(b, n, 0.5 * n * (n + 1.0), 0), head_work(b, 1) };
        begin_batch(b, 1, n);
        add_rows(b, 0, n, false);
        add_draws(b, n - 1);
        measure(b, "text prefill", n, run_step, w, 2);
    }
}

/* Every sequence gets its own pages with the values of the first. */
static void fill_context(bench *b, int seqs)
{
    int context = b->shape->context;

    begin_batch(b, 1, context);
    for (int i = 0; i < b->batch.max_blocks; i++)
        b->block_table[i] = i * seqs;
    add_rows(b, 0, context, true);
    must(run_step(b), "filling the context");
    for (int i = 0; i < b->batch.max_blocks; i++) {
        int left = context - i * b->block, n = left < b->block ? left : b->block;
        for (int s = 1; s < seqs; s++)
            must(b->ops->kv_copy(b->be, i * seqs + s, i * seqs, n), "copying a page");
    }
}

static void bench_decode(bench *b)
{
    const cog_model_config *m = &b->shape->cfg;
    int context = b->shape->context;
    double slot_bytes =
        2.0 * m->layers * m->kv_heads * m->head_dim * (double)cog_dtype_size(b->dtype);

    for (int n = 1; n <= b->max_batch; n *= 2) {
        double pairs = (double)n * context;
        work w[] = { decoder_work(b, n, pairs, pairs * slot_bytes), head_work(b, n) };
        fill_context(b, n);
        begin_batch(b, n, context);
        add_rows(b, context - 1, 1, true);
        add_draws(b, context - 1);
        measure(b, "decode", n, run_step, w, 2);
    }
}

/* The head with nobody drawing, with greedy draws, and with draws from a distribution. */
static void bench_head(bench *b)
{
    static const cog_sampling modes[] = {
        { .temperature = 0, .top_p = 1, .repetition_penalty = 1 },
        { .temperature = 1, .top_p = 0.9f, .repetition_penalty = 1, .seed = 7 },
    };

    for (int n = 1; n <= b->max_batch; n *= 8) {
        work w = head_work(b, n);
        begin_batch(b, n, b->block);
        add_rows(b, 0, 1, false);
        add_draws(b, 0);
        b->batch.n_draws = 0;
        measure(b, "head", n, run_head, &w, 1);
        b->batch.n_draws = n;
        for (int i = 0; i < 2; i++) {
            b->sampling = modes[i];
            measure(b, i ? "head and top-p draw" : "head and greedy draw", n, run_head, &w, 1);
        }
        b->sampling = modes[0];
    }
}

static void bench_first_token(bench *b)
{
    const cog_model_config *m = &b->shape->cfg;
    int n = n_prompt(b), vision = m->image_tokens - 1;
    work w[] = { tower_work(b, 1), adapter_work(b, 1),
                 decoder_work(b, vision, 0.5 * n * (n + 1.0), 0),
                 decoder_work(b, n - vision, 0, 0) };

    if (!b->shape->has_adapter)
        return;
    w[3].bytes += head_work(b, 1).bytes;
    w[3].flop += head_work(b, 1).flop;
    b->n_images = 1;
    begin_batch(b, 1, n);
    add_rows(b, 0, n, true);
    add_draws(b, n - 1);
    measure(b, "picture to first token", 1, run_first_token, w, 4);
}

/* ---- comparison: [CHECK_STEPS, vocab] floats ---- */

/* A prompt with a picture, then given tokens one by one: bench_torch.py does the same. */
static void write_logits(bench *b, const char *path)
{
    int vocab = b->shape->cfg.vocab, n = n_prompt(b);
    float *row = cog_array(float, (size_t)vocab);
    FILE *f = fopen(path, "wb");

    if (!f)
        die(path, "cannot be written");
    for (int i = 0; i < CHECK_STEPS; i++) {
        begin_batch(b, 1, n + CHECK_STEPS);
        add_rows(b, i == 0 ? 0 : n + i - 1, i == 0 ? n : 1, true);
        add_draws(b, n + i - 1);
        must(run_step(b), "a step");
        must(b->ops->logits_read(b->be, row), "reading logits");
        if (fwrite(row, sizeof(*row), (size_t)vocab, f) != (size_t)vocab)
            die(path, "cannot be written");
    }
    if (fclose(f) != 0)
        die(path, "cannot be written");
    cog_free(row);
}

/* ---- set up ---- */

static int pages_of(int slots, int block)
{
    return (slots + block - 1) / block;
}

/* As many sequences as the device's memory holds, a power of two. */
static void choose_batch(bench *b, cog_device_config *cfg)
{
    const bench_shape *s = b->shape;
    cog_memory_plan plan;
    cog_err err = { 0 };
    double left, pages, needed = pages_of(s->prefill[2], s->block);
    double images = 4.0 * pages_of(n_prompt(b) + CHECK_STEPS, s->block);

    if (b->ops->memory(&plan, cfg, &err) < 0)
        die("the device", err.text);
    left = 0.95 * (double)plan.total - (double)(plan.is_shared ? 0 : plan.used) -
           (double)(plan.weights + plan.activations + plan.workspace);
    pages = floor(left / (double)plan.page);
    if (images > needed)
        needed = images;
    for (b->max_batch = s->max_batch; b->max_batch > 1; b->max_batch /= 2)
        if ((double)b->max_batch * pages_of(s->context, s->block) <= pages)
            break;
    if (needed < (double)b->max_batch * pages_of(s->context, s->block))
        needed = (double)b->max_batch * pages_of(s->context, s->block);
    if (needed > pages)
        die("the device", "too little memory for this shape");
    b->n_blocks = cfg->n_blocks = (int)needed;
    fprintf(stderr, "bench_device: %d pages of %d slots, up to %d sequences\n", b->n_blocks,
            s->block, b->max_batch);
}

static void make_tables(bench *b)
{
    const cog_model_config *m = &b->shape->cfg;
    int half = m->head_dim / 2;
    size_t n = (size_t)m->max_positions * (size_t)half;
    float *freq = cog_array(float, (size_t)half);

    b->cos = cog_array(float, n);
    b->sin = cog_array(float, n);
    for (int i = 0; i < half; i++)
        freq[i] = (float)(1 / pow(m->rope_theta, 2.0 * i / m->head_dim));
    cog_rope_tables(b->cos, b->sin, freq, half, m->max_positions, b->dtype);
    cog_free(freq);
}

static void make_arrays(bench *b)
{
    size_t rows = (size_t)b->shape->max_rows, seqs = (size_t)b->shape->max_batch;

    b->token = cog_array(int32_t, rows);
    b->feature = cog_array(int32_t, rows);
    b->position = cog_array(int32_t, rows);
    b->slot = cog_array(int32_t, rows);
    b->seq = cog_array(int32_t, rows);
    b->block_table = cog_array(int32_t, (size_t)b->n_blocks);
    b->feature_of = cog_array(const cog_act *, seqs);
    b->logits_row = cog_array(int32_t, seqs);
    b->draw = cog_array(cog_draw, seqs);
    b->drawn = cog_array(int32_t, seqs);
    b->sampling = (cog_sampling){ .temperature = 0, .top_p = 1, .repetition_penalty = 1 };
}

static void open_device(bench *b, int threads)
{
    const bench_shape *s = b->shape;
    const cog_model_config *m = &s->cfg;
    cog_device_config cfg = { .model = m,
                              .dtype = b->dtype,
                              .threads = threads,
                              .max_rows = s->max_rows,
                              .max_seqs = s->max_batch,
                              .max_images = s->max_images,
                              .block = s->block,
                              .n_blocks = 1,
                              .n_positions = m->max_positions };
    cog_err err = { 0 };

    make_tables(b);
    cfg.rope_cos = b->cos;
    cfg.rope_sin = b->sin;
    b->block = s->block;
    choose_batch(b, &cfg);
    make_arrays(b);
    if (b->ops->open(&b->be, &cfg, &err) < 0)
        die("the device", err.text);
    if (bench_model_new(&b->model, s, b->ops, b->be, &err) < 0)
        die("weights", err.text);
    if (cog_forward_open(&b->forward, b->model, s->max_rows, s->max_images, s->max_images, &err) <
        0)
        die("activations", err.text);
    must(b->ops->act_new(b->be, &b->features, m->image_tokens, m->hidden), "features");
    must(b->ops->act_new(b->be, &b->x, s->max_batch, m->hidden), "rows of the head");
    must(b->ops->act_new(b->be, &b->probe, 1, m->hidden), "the probe");
    b->probe_row = cog_array(float, (size_t)m->hidden);
    must(b->ops->act_write(b->be, b->probe, b->probe_row, 0, 1), "the probe");
    b->rgb = cog_array(uint8_t *, (size_t)s->max_images);
    for (int i = 0; i < s->max_images; i++) {
        b->rgb[i] =
            cog_array(uint8_t, (size_t)m->vision.image_side * (size_t)m->vision.image_side * 3);
        bench_picture(b->rgb[i], m, i);
    }
}

/* b->features: of picture 0 where the engine can make them. */
static void make_features(bench *b)
{
    const cog_model_config *m = &b->shape->cfg;
    float *value = cog_array(float, (size_t)m->image_tokens *(size_t)m->hidden);

    if (b->shape->has_adapter) {
        cog_act *made[1];
        b->n_images = 1;
        must(begin_tower(b), "the tower");
        must(cog_forward_vision_end(b->forward, made), "the adapter");
        must(vision_wait(b), "vision");
        must(b->ops->act_read(b->be, value, made[0], 0, m->image_tokens), "features");
        cog_forward_features_give(b->forward, made[0]);
    } else {
        bench_features(value, m);
    }
    must(b->ops->act_write(b->be, b->features, value, 0, m->image_tokens), "features");
    cog_free(value);
}

static void close_device(bench *b)
{
    b->ops->act_free(b->be, b->features);
    b->ops->act_free(b->be, b->x);
    b->ops->act_free(b->be, b->probe);
    cog_forward_close(b->forward);
    bench_model_free(b->model);
    b->ops->close(b->be);
    for (int i = 0; i < b->shape->max_images; i++)
        cog_free(b->rgb[i]);
    cog_free(b->rgb);
    cog_free(b->probe_row);
    cog_free(b->cos);
    cog_free(b->sin);
    cog_free(b->token);
    cog_free(b->feature);
    cog_free(b->position);
    cog_free(b->slot);
    cog_free(b->seq);
    cog_free(b->block_table);
    cog_free(b->feature_of);
    cog_free(b->logits_row);
    cog_free(b->draw);
    cog_free(b->drawn);
}

static void print_ceilings(const char *backend, int scale)
{
    bench_ceiling c;
    cog_err err = { 0 };

    if (bench_ceiling_measure(&c, backend, scale, &err) < 0) {
        fprintf(stderr, "bench_device: no ceilings: %s\n", err.text);
        return;
    }
    printf("{\"who\": \"ceiling\", \"read\": %.6g, \"copy\": %.6g, \"gemm\": %.6g, "
           "\"node\": %.6g, \"h2d\": %.6g}\n",
           c.read, c.copy, c.gemm, c.node, c.h2d);
    fflush(stdout);
}

static void bench_all(bench *b)
{
    bench_vision(b);
    bench_vision_prefill(b);
    bench_text_prefill(b);
    bench_decode(b);
    bench_head(b);
    bench_first_token(b);
}

static void usage(void)
{
    fprintf(stderr,
            "Usage: bench_device [OPTION...]\n\n"
            "  --backend NAME   cpu or cuda (default cuda)\n"
            "  --shape NAME     %s (default v1)\n"
            "  --dtype NAME     bf16 (default) or f32\n"
            "  --seconds S      for each metric (default 1)\n"
            "  --threads N      of the CPU backend\n"
            "  --logits FILE    writes the logits that bench_torch.py compares, and no times\n",
            bench_shape_names());
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "backend", required_argument, NULL, 'b' },
                                             { "shape", required_argument, NULL, 's' },
                                             { "dtype", required_argument, NULL, 'd' },
                                             { "seconds", required_argument, NULL, 't' },
                                             { "threads", required_argument, NULL, 'n' },
                                             { "logits", required_argument, NULL, 'l' },
                                             { 0 } };
    bench b = { .dtype = COG_BF16, .budget_ns = 1e9 };
    const char *backend = "cuda", *shape = "v1", *logits = NULL;
    const cog_backend_ops *found[COG_MAX_BACKENDS];
    cog_err err = { 0 };
    int threads = 0;

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'b')
            backend = optarg;
        else if (c == 's')
            shape = optarg;
        else if (c == 'd' && (strcmp(optarg, "f32") == 0 || strcmp(optarg, "bf16") == 0))
            b.dtype = strcmp(optarg, "f32") == 0 ? COG_F32 : COG_BF16;
        else if (c == 't')
            b.budget_ns = atof(optarg) * 1e9;
        else if (c == 'n')
            threads = atoi(optarg);
        else if (c == 'l')
            logits = optarg;
        else
            usage();
    }
    b.shape = bench_shape_find(shape);
    if (!b.shape || optind < argc)
        usage();
    if (strcmp(backend, "auto") == 0 || cog_backend_find(found, backend, &err) < 0)
        die("--backend", err.text[0] ? err.text : "cpu or cuda");
    b.ops = found[0];

    if (!logits)
        print_ceilings(backend, strcmp(shape, "tiny") == 0 ? 4096 : 1);
    open_device(&b, threads);
    printf("{\"who\": \"device\", \"backend\": \"%s\", \"shape\": \"%s\", \"dtype\": \"%s\", "
           "\"text\": \"%s\"}\n",
           b.ops->name, shape, cog_dtype_name(b.dtype), b.ops->describe(b.be));
    make_features(&b);
    if (logits)
        write_logits(&b, logits);
    else
        bench_all(&b);
    close_device(&b);
    return 0;
}
