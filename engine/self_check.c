/* self_check.c - one script of steps, run on the device and on the CPU, and the comparison. */
#include "engine/self_check.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "engine/forward.h"
#include "engine/prompt.h"
#include "engine/tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    PICTURES = 2,
    SEQS = 20, /* the first ones have a picture */
    MAX_ROWS = 320,
    TEXT = 12, /* tokens behind a picture */
    CUT = 60,  /* of the second sequence's prompt, inside its picture */
    MAX_PAGES = COG_TINY_POSITIONS / 16,
    MAX_RESULTS = 40,
};

/* What one call left behind. */
typedef struct result {
    char stage[64];
    float *value; /* [rows, cols], owned */
    int rows, cols;
    bool is_logits;
    int32_t token[SEQS]; /* drawn from each row of logits */
} result;

typedef struct result_list {
    result result[MAX_RESULTS];
    int n;
} result_list;

/* The script on one instance of a backend. */
typedef struct run {
    cog_tiny_model tiny;
    cog_backend_ops direct; /* without replay */
    cog_forward *forward;
    const char *step; /* the one under way */
    result_list out;  /* of the script's last pass */

    int len[SEQS]; /* slots computed */
    int block, max_blocks;
    int32_t page[SEQS][MAX_PAGES];
    int32_t spare; /* a page */
    cog_act *features[PICTURES];

    cog_batch batch; /* points into the arrays below */
    int32_t token[MAX_ROWS], feature[MAX_ROWS], position[MAX_ROWS], slot[MAX_ROWS], seq[MAX_ROWS];
    int32_t table[SEQS * MAX_PAGES], logits_row[SEQS];
    const cog_act *features_of[SEQS];
    cog_draw draw[SEQS];
} run;

/* So many next tokens of a sequence. */
typedef struct span {
    int seq, n;
} span;

/* ------------------------------------------------------------------ results */

static result *new_result(run *r, const char *what, int rows, int cols)
{
    result *out = &r->out.result[r->out.n++];

    *out = (result){ .rows = rows, .cols = cols };
    snprintf(out->stage, sizeof(out->stage), "%s of %s", what, r->step);
    out->value = cog_array(float, (size_t)rows *(size_t)cols);
    return out;
}

static void drop_results(result_list *l)
{
    for (int i = 0; i < l->n; i++)
        cog_free(l->result[i].value);
    l->n = 0;
}

static void on_trace(void *arg, cog_trace_point point, int layer, const cog_act *a, int rows)
{
    static const char *const what[] = {
        [COG_TRACE_VIT_EMBED] = "patch embedding", [COG_TRACE_VIT_BLOCK] = "tower layer",
        [COG_TRACE_FEATURES] = "adapter features", [COG_TRACE_EMBED] = "embedding",
        [COG_TRACE_LAYER] = "decoder layer",
    };
    run *r = arg;
    const cog_model *m = &r->tiny.model;
    bool is_tower = point == COG_TRACE_VIT_EMBED || point == COG_TRACE_VIT_BLOCK;
    result *out = new_result(r, what[point], rows, is_tower ? m->cfg.vision.hidden : m->cfg.hidden);

    if (m->ops->act_read(m->be, out->value, a, 0, rows) < 0)
        out->value[0] = NAN; /* equal to nothing */
}

/* ------------------------------------------------------------------ one step */

static bool has_picture(int seq)
{
    return seq < PICTURES;
}

static void add_rows(run *r, int idx, const span *s, bool vision)
{
    const cog_model_config *m = &r->tiny.model.cfg;
    int last = r->len[s->seq] + s->n - 1;
    bool with = has_picture(s->seq);

    for (int i = r->len[s->seq]; i <= last; i++) {
        int at = r->batch.rows;
        if (cog_prompt_is_vision(i, with, m->image_tokens) != vision)
            continue;
        r->token[at] =
            (int32_t)(cog_rng_at(100 + (uint64_t)s->seq, (uint64_t)i) % (uint64_t)m->vocab);
        r->feature[at] = cog_prompt_feature(i, with, m->image_tokens);
        r->position[at] = cog_prompt_position(i, with, m->image_tokens);
        r->slot[at] = i;
        r->seq[at] = idx;
        if (i == last)
            r->logits_row[idx] = at;
        r->batch.rows++;
    }
}

static void build(run *r, const span *spans, int n)
{
    static const cog_sampling greedy = { .top_p = 1, .repetition_penalty = 1 };

    r->batch = (cog_batch){ .token = r->token,
                            .feature = r->feature,
                            .position = r->position,
                            .slot = r->slot,
                            .seq = r->seq,
                            .seqs = n,
                            .block_table = r->table,
                            .max_blocks = r->max_blocks,
                            .features = r->features_of,
                            .n_logits = n,
                            .logits_row = r->logits_row,
                            .n_draws = n,
                            .draw = r->draw };
    for (int i = 0; i < n; i++) {
        int seq = spans[i].seq;
        memcpy(r->table + i * r->max_blocks, r->page[seq], (size_t)r->max_blocks * sizeof(int32_t));
        r->features_of[i] = has_picture(seq) ? r->features[seq] : NULL;
        r->draw[i] = (cog_draw){ .row = i, .params = &greedy };
        add_rows(r, i, &spans[i], false);
    }
    r->batch.language_rows = r->batch.rows;
    for (int i = 0; i < n; i++)
        add_rows(r, i, &spans[i], true);
}

static int step(run *r, const char *name, const span *spans, int n)
{
    const cog_model *m = &r->tiny.model;
    int32_t token[SEQS];
    result *logits;
    int rc;

    r->step = name;
    build(r, spans, n);
    rc = cog_forward_step(r->forward, &r->batch, token);
    if (rc < 0)
        return rc;
    logits = new_result(r, "logits", n, m->cfg.vocab);
    logits->is_logits = true;
    memcpy(logits->token, token, (size_t)n * sizeof(int32_t));
    for (int i = 0; i < n; i++)
        r->len[spans[i].seq] += spans[i].n;
    return m->ops->logits_read(m->be, logits->value);
}

/* ------------------------------------------------------------------ the script */

static int see_pictures(run *r)
{
    const cog_model *m = &r->tiny.model;
    size_t n = (size_t)m->cfg.vision.image_side * (size_t)m->cfg.vision.image_side * 3;
    uint8_t *pixels = cog_alloc(PICTURES, n);
    const uint8_t *rgb[PICTURES];
    uint64_t busy_ns;
    int n_left = 1, rc;
    bool idle = false;

    r->step = "two pictures";
    for (size_t i = 0; i < PICTURES * n; i++)
        pixels[i] = (uint8_t)cog_rng_at(1, i);
    for (int i = 0; i < PICTURES; i++)
        rgb[i] = pixels + (size_t)i * n;
    rc = cog_forward_vision_begin(r->forward, rgb, PICTURES);
    while (rc == 0 && n_left > 0)
        rc = cog_forward_vision_layers(r->forward, 1, &n_left);
    if (rc == 0)
        rc = cog_forward_vision_end(r->forward, r->features);
    if (rc == 0)
        rc = m->ops->vision_poll(m->be, true, &idle, &busy_ns);
    if (rc == 0 && !idle)
        rc = COG_EDEVICE;
    cog_free(pixels);
    return rc;
}

/* The first sequence's last page is copied, as for a fork, to a page that held something else: the
 * fourth sequence's, which begins anew. */
static int copy_page(run *r)
{
    const cog_model *m = &r->tiny.model;
    int32_t *page = &r->page[0][(r->len[0] - 1) / r->block], old = *page;

    *page = r->page[3][0];
    r->page[3][0] = r->spare;
    r->spare = old;
    r->len[3] = 0;
    return m->ops->kv_copy(m->be, *page, old, (r->len[0] - 1) % r->block + 1);
}

static int run_steps(run *r)
{
    int prompt = 1 + r->tiny.model.cfg.image_tokens + TEXT, rc;
    const span first[] = { { 0, prompt }, { 1, CUT }, { 2, 9 }, { 3, prompt } };
    span more[SEQS] = { { 1, prompt - CUT }, { 3, 40 } }, one[SEQS];
    int n_more = 2;

    for (int q = 4; q < SEQS; q++)
        more[n_more++] = (span){ q, q - 1 };
    for (int q = 0; q < SEQS; q++)
        one[q] = (span){ q, 1 };
    memset(r->len, 0, sizeof(r->len));
    rc = step(r, "a first chunk", first, 4);
    if (rc == 0)
        rc = copy_page(r);
    if (rc == 0)
        rc = step(r, "a next chunk", more, n_more);
    if (rc == 0)
        rc = step(r, "a decode step of 1 row", one, 1);
    if (rc == 0)
        rc = step(r, "a decode step of 4 rows", one, 4);
    if (rc == 0)
        rc = step(r, "a decode step of 20 rows", one, SEQS);
    r->len[3]--; /* once more what stood among others, alone */
    return rc ? rc : step(r, "a decode step repeated", &one[3], 1);
}

static int run_script(run *r, cog_err *err)
{
    int rc;

    drop_results(&r->out);
    memset(r->features, 0, sizeof(r->features));
    rc = see_pictures(r);
    if (rc == 0)
        rc = run_steps(r);
    for (int i = 0; i < PICTURES; i++)
        cog_forward_features_give(r->forward, r->features[i]);
    if (rc < 0)
        cog_err_set(err, rc, "%s ended with %s", r->step, cog_err_name(rc));
    return rc;
}

/* ------------------------------------------------------------------ comparison */

/* How far all rows of a result together may be from the CPU's, in the L2 norm. One row may be off
 * by ROW_LIMIT times as much, so that a wrong one does not hide among many: it is off by about 1.
 *
 * f32: sums of some hundred products in another order differ by about 1e-6; products of inputs cut
 * to ten bits (TF32) by 1e-3, and those must not pass.
 * bf16: each value is rounded to one part in 2^9, and a sum that falls on the other side of a tie
 * moves it by a step of 2^-8. Scalar and AVX-512 kernels are up to 7e-3 apart, single rows 1.4e-2.
 */
static double limit_of(cog_dtype dtype)
{
    return dtype == COG_F32 ? 1e-4 : 2e-2;
}

enum { ROW_LIMIT = 10 };

static double distance(const float *a, const float *b, int n)
{
    double diff = 0, size = 0;

    for (int i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        diff += d * d;
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(diff / size); /* NaN for what is no number */
}

/* The best of a row stands out by more than what is forgiven. */
static bool is_clear(const float *row, int n, int32_t best, double limit)
{
    double size = 0, margin = INFINITY;

    for (int i = 0; i < n; i++) {
        size += (double)row[i] * (double)row[i];
        if (i != best)
            margin = fmin(margin, (double)row[best] - (double)row[i]);
    }
    return margin > 8 * limit * sqrt(size / n);
}

static int compare_values(const result *device, const result *cpu, double limit, double *worst,
                          cog_err *err)
{
    double all = distance(device->value, cpu->value, cpu->rows * cpu->cols);

    for (int r = 0; r < cpu->rows; r++) {
        size_t at = (size_t)r * (size_t)cpu->cols;
        double d = distance(device->value + at, cpu->value + at, cpu->cols);
        if (!(d <= ROW_LIMIT * limit))
            return cog_err_set(err, COG_EDEVICE, "%s: row %d is %.2g off the CPU's, above %.2g",
                               cpu->stage, r, d, ROW_LIMIT * limit);
    }
    if (!(all <= limit))
        return cog_err_set(err, COG_EDEVICE, "%s: %.2g off the CPU's, above %.2g", cpu->stage, all,
                           limit);
    *worst = fmax(*worst, all);
    return 0;
}

static int compare_tokens(const result *device, const result *cpu, double limit, cog_err *err)
{
    for (int r = 0; r < cpu->rows; r++)
        if (cpu->token[r] != device->token[r] &&
            is_clear(cpu->value + (size_t)r * (size_t)cpu->cols, cpu->cols, cpu->token[r], limit))
            return cog_err_set(err, COG_EDEVICE, "sampling from %s: row %d gives %d, not %d",
                               cpu->stage, r, device->token[r], cpu->token[r]);
    return 0;
}

static int compare_all(const result_list *device, const result_list *cpu, cog_dtype dtype,
                       double *worst, cog_err *err)
{
    double limit = limit_of(dtype);
    int rc = 0;

    for (int i = 0; rc == 0 && i < cpu->n; i++) {
        rc = compare_values(&device->result[i], &cpu->result[i], limit, worst, err);
        if (rc == 0 && cpu->result[i].is_logits)
            rc = compare_tokens(&device->result[i], &cpu->result[i], limit, err);
    }
    return rc;
}

/* The logits of a pass without a trace are those of the pass with one: the same instance, the same
 * steps, the same bits. */
static int compare_again(const result_list *again, const result_list *traced, const char *how,
                         cog_err *err)
{
    int n = 0;

    for (int i = 0; i < traced->n; i++) {
        const result *a = &traced->result[i], *b = &again->result[n];
        if (!a->is_logits)
            continue;
        n++;
        if (memcmp(a->value, b->value, (size_t)a->rows * (size_t)a->cols * sizeof(float)) != 0 ||
            memcmp(a->token, b->token, sizeof(a->token)) != 0)
            return cog_err_set(err, COG_EDEVICE, "%s: the %s are not the same bits again", how,
                               a->stage);
    }
    return 0;
}

/* The last step repeats a row of the one before it. */
static int compare_alone(const result_list *l, cog_err *err)
{
    const result *alone = &l->result[l->n - 1], *among = NULL;
    size_t cols = (size_t)alone->cols;

    for (int i = 0; i < l->n - 1; i++)
        if (l->result[i].is_logits)
            among = &l->result[i];
    if (memcmp(alone->value, among->value + 3 * cols, cols * sizeof(float)) != 0)
        return cog_err_set(err, COG_EDEVICE,
                           "batch invariance: a row alone is not the same as among others");
    return 0;
}

/* ------------------------------------------------------------------ instances */

static int open_run(run *r, const cog_backend_ops *ops, const cog_device_config *real,
                    bool invariant, cog_err *err)
{
    cog_device_config d = {
        .dtype = real->dtype,
        .threads = real->threads,
        .max_rows = MAX_ROWS,
        .max_seqs = SEQS,
        .max_images = PICTURES,
        .max_features = PICTURES,
        .block = real->block,
        .batch_invariant = invariant,
    };
    cog_model_config cfg;
    int rc;

    r->block = real->block;
    r->max_blocks = (COG_TINY_POSITIONS + real->block - 1) / real->block;
    for (int q = 0; q < SEQS; q++)
        for (int i = 0; i < r->max_blocks; i++)
            r->page[q][i] = i * SEQS + (SEQS - 1 - q); /* in no order of their own */
    r->spare = SEQS * r->max_blocks;
    d.n_blocks = r->spare + 1;
    cog_tiny_config(&cfg, real->model);
    cog_tiny_size(&d.weight_bytes, &d.n_weights, &cfg, d.dtype);
    rc = cog_tiny_init(&r->tiny, ops, &cfg, &d, err);
    if (rc == 0)
        rc = cog_forward_open(&r->forward, &r->tiny.model, MAX_ROWS, PICTURES, PICTURES, err);
    return rc;
}

static void close_run(run *r)
{
    cog_forward_close(r->forward);
    cog_tiny_fini(&r->tiny);
    drop_results(&r->out);
    cog_free(r);
}

static int trace_script(run *r, result_list *traced, cog_err *err)
{
    int rc;

    cog_forward_trace(r->forward, on_trace, r);
    rc = run_script(r, err);
    cog_forward_trace(r->forward, NULL, NULL);
    *traced = r->out;
    r->out.n = 0;
    return rc;
}

/* Untraced: with every step issued call by call, then as the engine does it, twice, so that what
 * was recorded the first time is replayed. */
static int run_again(run *r, const cog_backend_ops *ops, const result_list *traced, cog_err *err)
{
    int rc;

    r->direct = *ops;
    r->direct.replay = NULL;
    r->tiny.model.ops = &r->direct;
    rc = run_script(r, err);
    r->tiny.model.ops = ops;
    if (rc == 0)
        rc = compare_again(&r->out, traced, "direct calls", err);
    for (int i = 0; rc == 0 && i < 2; i++) {
        rc = run_script(r, err);
        if (rc == 0)
            rc = compare_again(&r->out, traced, "replay", err);
    }
    return rc;
}

/* All on one instance: another one may have chosen other kernels for its products, by the clock. */
static int check_mode(const cog_backend_ops *ops, const cog_device_config *real, bool invariant,
                      const result_list *cpu, double *worst, cog_err *err)
{
    run *r = cog_new(run);
    result_list *traced = cog_new(result_list);
    int rc = open_run(r, ops, real, invariant, err);

    if (rc == 0)
        rc = trace_script(r, traced, err);
    if (rc == 0)
        rc = compare_all(traced, cpu, real->dtype, worst, err);
    if (rc == 0 && invariant)
        rc = compare_alone(traced, err);
    if (rc == 0)
        rc = run_again(r, ops, traced, err);
    drop_results(traced);
    cog_free(traced);
    close_run(r);
    return rc;
}

int cog_self_check(const cog_backend_ops *ops, const cog_device_config *real, cog_err *err)
{
    uint64_t begin = cog_now_ns();
    run *r = cog_new(run);
    result_list *cpu = cog_new(result_list);
    cog_err why = { 0 };
    double worst = 0;
    int rc = open_run(r, &cog_cpu_ops, real, true, &why);

    if (rc == 0)
        rc = trace_script(r, cpu, &why);
    close_run(r);
    if (rc < 0)
        cog_err_set(err, rc, "the self-check cannot run on the CPU: %s", why.text);
    for (int invariant = 0; rc == 0 && invariant <= real->batch_invariant; invariant++) {
        rc = check_mode(ops, real, invariant != 0, cpu, &worst, &why);
        if (rc == COG_EDEVICE)
            cog_err_set(err, rc, "self-check failed: %s; do not serve from this device", why.text);
        else if (rc < 0)
            cog_err_set(err, rc, "%s", why.text);
    }
    drop_results(cpu);
    cog_free(cpu);
    if (rc < 0)
        return rc;
    cog_log(COG_INFO, "event=self_check backend=%s dtype=%s ms=%llu worst=%.2g", ops->name,
            cog_dtype_name(real->dtype), (unsigned long long)((cog_now_ns() - begin) / 1000000),
            worst);
    return 0;
}
