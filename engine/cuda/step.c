/* step.c - the decoder's blocks, what a step needs of the host, and its repetition.
 *
 * A step of one row per sequence is padded to a bucket, whether it is repeated or issued: rows of
 * token 0 in the first slots of a page no sequence owns. So equal steps are the same calls. */
#include "engine/cuda/cuda.h"

#include "base/log.h"

#include <math.h>
#include <string.h>

enum { ALIGN = 256, MIN_EDITS = 1 << 16 };

/* ---- memory ---- */

static size_t take(size_t *used, size_t n, size_t size)
{
    size_t at = *used;

    *used += (n * size + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

void cog_cuda_lay_step(cog_cuda_layout *at, const cog_device_config *cfg)
{
    const cog_model_config *m = cfg->model;
    size_t used = 0, rows;

    *at = (cog_cuda_layout){ .max_rows = cog_cuda_padded(cfg->max_rows),
                             .max_logits = cog_cuda_padded(cfg->max_seqs),
                             .max_seqs = cfg->max_seqs + 1,
                             .max_blocks = (m->max_positions + cfg->block - 1) / cfg->block };
    at->max_segments = cog_segments(at->max_blocks * cfg->block);
    at->max_edits = m->vocab > MIN_EDITS ? m->vocab : MIN_EDITS;
    cog_cuda_plan_limits(at, cfg);
    rows = (size_t)at->max_rows;
    at->token = take(&used, rows, sizeof(int32_t));
    at->feature = take(&used, rows, sizeof(int32_t));
    at->position = take(&used, rows, sizeof(int32_t));
    at->slot = take(&used, rows, sizeof(int32_t));
    at->seq = take(&used, rows, sizeof(int32_t));
    at->order = take(&used, rows, sizeof(int32_t));
    at->logits_row = take(&used, (size_t)at->max_logits, sizeof(int32_t));
    at->n_items = take(&used, 1, sizeof(int32_t));
    at->features = take(&used, (size_t)at->max_seqs, sizeof(void *));
    at->tiles = take(&used, (size_t)at->max_tiles, sizeof(cog_flash_tile));
    at->items = take(&used, (size_t)at->max_items, sizeof(cog_attn_item));
    at->draws = take(&used, (size_t)at->max_logits, sizeof(cog_cuda_draw));
    at->block_table = take(&used, (size_t)at->max_seqs * (size_t)at->max_blocks, sizeof(int32_t));
    at->edits = take(&used, (size_t)at->max_edits, sizeof(cog_cuda_edit));
    at->bytes = used;
}

/* ---- checks ---- */

static bool is_row_valid(const cog_backend *be, const cog_batch *b, int r)
{
    if (b->slot[r] / be->cfg.block >= be->at.max_blocks)
        return false;
    if (b->feature[r] >= 0) {
        const cog_act *f = b->features ? b->features[b->seq[r]] : NULL;
        return f && b->feature[r] < f->rows && f->cols == be->model.hidden;
    }
    return b->token[r] >= 0 && b->token[r] < be->model.vocab;
}

static bool is_batch_valid(const cog_backend *be, const cog_batch *b)
{
    if (!cog_batch_fits(b, &be->cfg) || b->seqs < 0 || b->seqs > be->cfg.max_seqs)
        return false;
    for (int r = 0; r < b->rows; r++)
        if (!is_row_valid(be, b, r))
            return false;
    return true;
}

int cog_cuda_copy_step(cog_backend *be, size_t from, size_t to)
{
    int rc = cog_cuda_check(cudaMemcpyAsync(be->step + from, be->host_step + from, to - from,
                                            cudaMemcpyHostToDevice, be->decoder.stream),
                            "step");

    return rc ? rc : cog_cuda_check(cudaEventRecord(be->step_copied, be->decoder.stream), "step");
}

/* ---- beginning ---- */

/* Every row another sequence's and with logits of its own. */
static bool is_decoding(const cog_batch *b)
{
    uint64_t has_logits = 0;

    if (b->rows < 1 || b->rows > COG_CUDA_MAX_BUCKET || b->language_rows != b->rows ||
        b->n_logits != b->rows)
        return false;
    for (int i = 0; i < b->n_logits; i++)
        has_logits |= UINT64_C(1) << b->logits_row[i];
    if (__builtin_popcountll(has_logits) != b->rows)
        return false;
    for (int r = 0; r < b->rows; r++)
        for (int other = 0; other < r; other++)
            if (b->seq[other] == b->seq[r])
                return false;
    return true;
}

static void choose_path(cog_backend *be, const cog_batch *b)
{
    const cog_model_config *m = &be->model;

    be->bucket = -1;
    be->rows = b->rows;
    be->language_rows = b->language_rows;
    be->n_logits = b->n_logits;
    if (is_decoding(b)) {
        be->rows = be->language_rows = be->n_logits = cog_cuda_padded(b->rows);
        be->bucket = cog_cuda_bucket(be->rows);
    }
    be->path = !be->cfg.batch_invariant && be->rows > 0 && be->language_rows == be->rows &&
                       be->rows <= COG_SKINNY_ROWS && be->n_logits <= COG_SKINNY_ROWS &&
                       cog_cuda_skinny_fits(be->cfg.dtype, m->hidden, m->inter, m->head_dim)
                   ? COG_CUDA_SKINNY
                   : COG_CUDA_LARGE;
}

static void place_rows(cog_backend *be, const cog_batch *b)
{
    const cog_cuda_layout *at = &be->at;
    size_t bytes = (size_t)b->rows * sizeof(int32_t);
    int32_t *token = cog_cuda_host(be, at->token), *feature = cog_cuda_host(be, at->feature);
    int32_t *position = cog_cuda_host(be, at->position), *slot = cog_cuda_host(be, at->slot);
    int32_t *seq = cog_cuda_host(be, at->seq), *logits = cog_cuda_host(be, at->logits_row);

    memcpy(token, b->token, bytes);
    memcpy(feature, b->feature, bytes);
    memcpy(position, b->position, bytes);
    memcpy(slot, b->slot, bytes);
    memcpy(seq, b->seq, bytes);
    memcpy(logits, b->logits_row, (size_t)b->n_logits * sizeof(int32_t));
    for (int r = b->rows; r < be->rows; r++) {
        token[r] = position[r] = 0;
        slot[r] = r - b->rows;
        feature[r] = -1;
        seq[r] = b->seqs;
        logits[r] = r;
    }
}

static void place_sequences(cog_backend *be, const cog_batch *b)
{
    const cog_cuda_layout *at = &be->at;
    int32_t *table = cog_cuda_host(be, at->block_table);
    const void **features = cog_cuda_host(be, at->features);
    int blocks = b->max_blocks < at->max_blocks ? b->max_blocks : at->max_blocks;

    for (int s = 0; s < b->seqs; s++) {
        memcpy(table + (size_t)s * (size_t)at->max_blocks,
               b->block_table + (size_t)s * (size_t)b->max_blocks,
               (size_t)blocks * sizeof(int32_t));
        features[s] = b->features && b->features[s] ? b->features[s]->data : NULL;
    }
    table[(size_t)b->seqs * (size_t)at->max_blocks] = be->cfg.n_blocks;
    features[b->seqs] = NULL;
}

static bool has_features(const cog_batch *b)
{
    for (int r = 0; r < b->rows; r++)
        if (b->feature[r] >= 0)
            return true;
    return false;
}

int cog_cuda_step_begin(cog_backend *be, const cog_batch *b)
{
    const cog_cuda_layout *at = &be->at;
    size_t end = at->block_table;
    int rc;

    if (be->failed)
        return COG_EDEVICE;
    if (!is_batch_valid(be, b))
        return COG_EINVAL;
    rc = cog_cuda_ready(be);
    if (rc == 0)
        rc = cog_cuda_check(cudaEventSynchronize(be->step_copied), "step before");
    if (rc < 0)
        return cog_cuda_end(be, rc);
    be->batch = b;
    choose_path(be, b);
    place_rows(be, b);
    place_sequences(be, b);
    cog_cuda_plan_step(be);
    end += (size_t)(b->seqs + 1) * (size_t)at->max_blocks * sizeof(int32_t);
    rc = cog_cuda_copy_step(be, 0, end);
    if (rc == 0 && has_features(b))
        rc = cog_cuda_check(cudaStreamWaitEvent(be->decoder.stream, be->features_made, 0),
                            "features");
    return cog_cuda_end(be, rc);
}

int cog_cuda_embed_step(cog_backend *be, cog_act *x, const cog_weight *table)
{
    const cog_cuda_layout *at = &be->at;

    if (be->failed)
        return COG_EDEVICE;
    if (x->cols != be->model.hidden || cog_cuda_padded(x->rows) < be->rows)
        return COG_EINVAL;
    be->pending = NULL;
    return cog_cuda_end(
        be,
        cog_cuda_embed(be->decoder.stream, be->cfg.dtype, x->data, x->ld, table->data, table->ld,
                       cog_cuda_device(be, at->token), cog_cuda_device(be, at->feature),
                       cog_cuda_device(be, at->seq), cog_cuda_device(be, at->features),
                       cog_cuda_ld(be->model.hidden), be->rows, be->model.hidden));
}

/* ---- many rows ---- */

int cog_cuda_flush(cog_backend *be)
{
    cog_act *x = be->pending;

    be->pending = NULL;
    return x ? cog_cuda_add(be->decoder.stream, be->cfg.dtype, x->data, x->ld, be->delta,
                            cog_cuda_ld(x->cols), be->rows, x->cols)
             : 0;
}

/* norm = the rows' norms, after what waits was added. */
static int norm(cog_backend *be, cog_act *x, const cog_weight *w)
{
    const void *delta = NULL;
    int rc = 0;

    if (be->pending == x)
        delta = be->delta;
    else
        rc = cog_cuda_flush(be);
    be->pending = NULL;
    if (rc < 0)
        return rc;
    return cog_cuda_rmsnorm(be->decoder.stream, be->cfg.dtype, be->norm, cog_cuda_ld(x->cols),
                            x->data, x->ld, delta, cog_cuda_ld(x->cols), NULL, w->data, be->rows,
                            x->cols, be->model.rms_eps);
}

/* dst = src * w[expert]^T (+ bias[expert]) for the rows of either expert. */
static int routed(cog_backend *be, char *dst, char *src, const cog_weight *const w[COG_N_EXPERTS],
                  const cog_weight *const bias[COG_N_EXPERTS])
{
    const int first[COG_N_EXPERTS + 1] = { 0, be->language_rows, be->rows };
    int rc = 0;

    for (int e = 0; e < COG_N_EXPERTS && rc == 0; e++)
        rc = cog_cuda_product_run(be, &be->decoder, cog_cuda_row(be, dst, first[e], w[e]->rows),
                                  cog_cuda_row(be, src, first[e], w[e]->cols), w[e],
                                  bias ? bias[e] : NULL, first[e + 1] - first[e]);
    return rc;
}

/* Queries from q to mixed; the batch's keys and values are in their pages. */
static int attend(cog_backend *be, int layer, const void *q, size_t ld_q, bool dependent)
{
    const cog_model_config *m = &be->model;
    const cog_cuda_layout *at = &be->at;
    size_t ld_out = cog_cuda_ld(m->heads * m->head_dim);
    float scale = 1 / sqrtf((float)m->head_dim);
    int rc = 0;

    if (be->n_tiles > 0)
        rc = cog_cuda_flash_paged(be->decoder.stream, be->mixed, ld_out, q, ld_q, &be->kv, layer,
                                  cog_cuda_device(be, at->block_table), at->max_blocks,
                                  cog_cuda_device(be, at->order), cog_cuda_device(be, at->tiles),
                                  be->n_tiles, m->heads, scale);
    if (rc == 0 && be->grid_items > 0)
        rc = cog_cuda_attention_rows(
            be->decoder.stream, be->cfg.dtype, be->mixed, ld_out, q, ld_q, &be->kv, layer,
            cog_cuda_device(be, at->block_table), at->max_blocks, cog_cuda_device(be, at->items),
            cog_cuda_device(be, at->n_items), be->grid_items, (float *)(void *)be->partial,
            at->max_segments, (uint32_t *)(void *)be->done, m->heads, scale, dependent);
    return rc;
}

static int attention_large(cog_backend *be, cog_act *x, const cog_layer *w, int layer)
{
    const cog_weight *const qkv[] = { w->expert[0].qkv, w->expert[1].qkv };
    const cog_weight *const bias[] = { w->expert[0].qkv_bias, w->expert[1].qkv_bias };
    const cog_weight *const dense[] = { w->expert[0].dense, w->expert[1].dense };
    const cog_model_config *m = &be->model;
    const cog_cuda_layout *at = &be->at;
    size_t ld_qkv = cog_cuda_ld((m->heads + 2 * m->kv_heads) * m->head_dim);
    int rc = norm(be, x, w->norm_in);

    if (rc == 0)
        rc = routed(be, be->qkv, be->norm, qkv, bias);
    if (rc == 0)
        rc = cog_cuda_rope_kv(
            be->decoder.stream, be->cfg.dtype, be->qkv, ld_qkv, (const float *)(void *)be->cos,
            (const float *)(void *)be->sin, &be->kv, layer, cog_cuda_device(be, at->position),
            cog_cuda_device(be, at->slot), cog_cuda_device(be, at->seq),
            cog_cuda_device(be, at->block_table), at->max_blocks, be->rows, m->heads);
    if (rc == 0)
        rc = attend(be, layer, be->qkv, ld_qkv, false);
    if (rc == 0)
        rc = routed(be, be->delta, be->mixed, dense, NULL);
    be->pending = x;
    return rc;
}

static int ffn_large(cog_backend *be, cog_act *x, const cog_layer *w)
{
    const cog_weight *const gate_up[] = { w->expert[0].gate_up, w->expert[1].gate_up };
    const cog_weight *const down[] = { w->expert[0].down, w->expert[1].down };
    int inter = be->model.inter;
    int rc = norm(be, x, w->norm_post);

    if (rc == 0)
        rc = routed(be, be->gate_up, be->norm, gate_up, NULL);
    if (rc == 0)
        rc = cog_cuda_silu_mul(be->decoder.stream, be->cfg.dtype, be->inner, cog_cuda_ld(inter),
                               be->gate_up, cog_cuda_ld(2 * inter), be->rows, inter);
    if (rc == 0)
        rc = routed(be, be->delta, be->inner, down, NULL);
    be->pending = x;
    return rc;
}

static int logits_large(cog_backend *be, const cog_act *x, const cog_head *w)
{
    int rc = cog_cuda_rmsnorm(be->decoder.stream, be->cfg.dtype, be->norm, cog_cuda_ld(x->cols),
                              x->data, x->ld, NULL, 0, cog_cuda_device(be, be->at.logits_row),
                              w->norm->data, be->n_logits, x->cols, be->model.rms_eps);

    return rc ? rc
              : cog_cuda_product_run(be, &be->decoder, be->logits, be->norm, w->lm_head, NULL,
                                     be->n_logits);
}

/* ---- few rows ---- */

static cog_skinny skinny(const cog_backend *be, const void *x, const cog_weight *w,
                         const cog_weight *norm_weight)
{
    return (cog_skinny){ .x = x,
                         .ld_x = cog_cuda_ld(w->cols),
                         .norm = norm_weight ? norm_weight->data : NULL,
                         .eps = be->model.rms_eps,
                         .w = w->data,
                         .ld_w = w->ld,
                         .rows = be->rows,
                         .n = w->rows,
                         .k = w->cols,
                         .dependent = be->dependent };
}

static int attention_skinny(cog_backend *be, cog_act *x, const cog_layer *w, int layer)
{
    const cog_weight *bias = w->expert[COG_LANGUAGE].qkv_bias;
    const cog_model_config *m = &be->model;
    const cog_cuda_layout *at = &be->at;
    size_t ld = cog_cuda_ld(m->heads * m->head_dim);
    cog_skinny qkv = skinny(be, x->data, w->expert[COG_LANGUAGE].qkv, w->norm_in);
    cog_skinny dense = skinny(be, be->mixed, w->expert[COG_LANGUAGE].dense, NULL);
    int rc = cog_cuda_flush(be);

    qkv.bias = bias ? bias->data : NULL;
    if (rc == 0)
        rc = cog_cuda_skinny_qkv(be->decoder.stream, &qkv, be->qkv, ld,
                                 (const float *)(void *)be->cos, (const float *)(void *)be->sin,
                                 &be->kv, layer, cog_cuda_device(be, at->position),
                                 cog_cuda_device(be, at->slot), cog_cuda_device(be, at->seq),
                                 cog_cuda_device(be, at->block_table), at->max_blocks, m->heads);
    if (rc == 0)
        rc = attend(be, layer, be->qkv, ld, be->dependent);
    return rc ? rc : cog_cuda_skinny_add(be->decoder.stream, &dense, x->data, x->ld);
}

static int ffn_skinny(cog_backend *be, cog_act *x, const cog_layer *w)
{
    cog_skinny gate_up = skinny(be, x->data, w->expert[COG_LANGUAGE].gate_up, w->norm_post);
    cog_skinny down = skinny(be, be->inner, w->expert[COG_LANGUAGE].down, NULL);
    int rc = cog_cuda_flush(be);

    if (rc == 0)
        rc = cog_cuda_skinny_gate_up(be->decoder.stream, &gate_up, be->inner,
                                     cog_cuda_ld(be->model.inter));
    return rc ? rc : cog_cuda_skinny_add(be->decoder.stream, &down, x->data, x->ld);
}

static int logits_skinny(cog_backend *be, const cog_act *x, const cog_head *w)
{
    cog_skinny p = skinny(be, x->data, w->lm_head, w->norm);

    p.row = cog_cuda_device(be, be->at.logits_row);
    p.rows = be->n_logits;
    return cog_cuda_skinny_store(be->decoder.stream, &p, be->logits, cog_cuda_ld(be->model.vocab));
}

/* ---- the blocks ---- */

static bool fits(const cog_backend *be, const cog_act *x)
{
    return x->cols == be->model.hidden && cog_cuda_padded(x->rows) >= be->rows;
}

int cog_cuda_attention(cog_backend *be, cog_act *x, const cog_layer *w, int layer)
{
    if (be->failed)
        return COG_EDEVICE;
    if (!fits(be, x) || layer < 0 || layer >= be->model.layers)
        return COG_EINVAL;
    return cog_cuda_end(be, be->path == COG_CUDA_SKINNY ? attention_skinny(be, x, w, layer)
                                                        : attention_large(be, x, w, layer));
}

int cog_cuda_ffn(cog_backend *be, cog_act *x, const cog_layer *w)
{
    if (be->failed)
        return COG_EDEVICE;
    if (!fits(be, x))
        return COG_EINVAL;
    return cog_cuda_end(be,
                        be->path == COG_CUDA_SKINNY ? ffn_skinny(be, x, w) : ffn_large(be, x, w));
}

int cog_cuda_logits(cog_backend *be, const cog_act *x, const cog_head *w)
{
    int rc;

    if (be->failed)
        return COG_EDEVICE;
    if (!fits(be, x))
        return COG_EINVAL;
    if (be->n_logits == 0)
        return 0;
    rc = cog_cuda_flush(be); /* of all rows: x is whole for whoever reads it afterwards */
    if (rc == 0)
        rc = be->path == COG_CUDA_SKINNY ? logits_skinny(be, x, w) : logits_large(be, x, w);
    return cog_cuda_end(be, rc);
}

/* ---- repetition ---- */

void cog_cuda_forget(cog_backend *be)
{
    for (int i = 0; i < COG_CUDA_BUCKETS; i++) {
        if (be->recorded[i])
            cudaGraphExecDestroy(be->recorded[i]);
        be->recorded[i] = NULL;
    }
}

/* Calls issue while the stream records, when a bucket is met for the first time: that allocates,
 * within what memory() allows for it, and when there is no memory steps are issued instead. 0, the
 * error of issue, or COG_EUNSUPPORTED when nothing could be recorded. */
static int record(cog_backend *be, int (*issue)(void *arg), void *arg)
{
    cudaStream_t s = be->decoder.stream;
    cudaGraph_t graph = NULL;
    cudaError_t e = cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
    int rc = 0;

    if (e == cudaSuccess) {
        rc = issue(arg);
        e = cudaStreamEndCapture(s, &graph);
    }
    if (e == cudaSuccess && rc == 0)
        e = cudaGraphInstantiate(&be->recorded[be->bucket], graph, 0);
    if (graph)
        cudaGraphDestroy(graph);
    if (e == cudaSuccess && rc == 0)
        return 0;
    if (rc == COG_EINVAL)
        return rc;
    cudaGetLastError();
    be->recorded[be->bucket] = NULL;
    be->failed = false; /* calls that cannot be recorded can still be made */
    be->is_replay_broken = true;
    cog_log(COG_WARN, "event=replay_off rows=%d reason=\"%s\": steps are issued call by call",
            be->rows, e != cudaSuccess ? cudaGetErrorString(e) : "a call cannot be recorded");
    return COG_EUNSUPPORTED;
}

int cog_cuda_replay(cog_backend *be, int (*issue)(void *arg), void *arg)
{
    int rc = 0;

    if (be->failed)
        return COG_EDEVICE;
    if (be->bucket < 0 || be->is_replay_broken)
        return issue(arg);
    if (issue != be->recorded_issue || arg != be->recorded_arg)
        cog_cuda_forget(be);
    be->recorded_issue = issue;
    be->recorded_arg = arg;
    be->pending = NULL;
    if (!be->recorded[be->bucket])
        rc = record(be, issue, arg);
    if (rc == COG_EUNSUPPORTED)
        return issue(arg);
    if (rc == 0)
        rc = cog_cuda_check(cudaGraphLaunch(be->recorded[be->bucket], be->decoder.stream),
                            "cudaGraphLaunch");
    return cog_cuda_end(be, rc);
}

/* ---- copy on write ---- */

int cog_cuda_copy_page(cog_backend *be, int dst, int src, int n_slots)
{
    if (be->failed)
        return COG_EDEVICE;
    if (dst < 0 || dst >= be->cfg.n_blocks || src < 0 || src >= be->cfg.n_blocks || n_slots < 0 ||
        n_slots > be->cfg.block)
        return COG_EINVAL;
    return cog_cuda_end(
        be, cog_cuda_kv_copy(be->decoder.stream, be->cfg.dtype, &be->kv, dst, src, n_slots));
}
