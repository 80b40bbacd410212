/* decoder.c - the decoder's blocks: embedding, routed attention over paged KV, routed MLP, head.
 *
 * The language expert's rows come first, so a routed product is two ordinary ones side by side. */
#include "engine/cpu/cpu.h"

#include <math.h>
#include <string.h>

/* ---- the step ---- */

int cog_cpu_step_begin(cog_backend *be, const cog_batch *b)
{
    int group = be->model.heads / be->model.kv_heads;
    int max_run = group < COG_ATTN_ROWS ? COG_ATTN_ROWS / group : 1;

    if (!cog_batch_fits(b, &be->cfg))
        return COG_EINVAL;
    be->batch = b;
    be->n_runs = 0;
    for (int r = 0; r < b->rows; r++) {
        if (r == 0 || b->seq[r] != b->seq[r - 1] || r - be->run[be->n_runs - 1] == max_run)
            be->run[be->n_runs++] = r;
    }
    be->run[be->n_runs] = b->rows;
    return 0;
}

int cog_cpu_embed(cog_backend *be, cog_act *x, const cog_weight *table)
{
    const cog_batch *b = be->batch;
    size_t bytes = (size_t)be->model.hidden * be->elem;

    for (int r = 0; r < b->rows; r++) {
        const cog_act *f = b->feature[r] >= 0 ? b->features[b->seq[r]] : NULL;
        const char *src;
        if (b->feature[r] >= 0) {
            if (!f || b->feature[r] >= f->rows)
                return COG_EINVAL;
            src = cog_cpu_at(be, f, b->feature[r], 0);
        } else {
            if (b->token[r] < 0 || b->token[r] >= table->rows)
                return COG_EINVAL;
            src = cog_cpu_weight_row(be, table, b->token[r]);
        }
        memcpy(cog_cpu_at(be, x, r, 0), src, bytes);
    }
    return 0;
}

/* ---- shared by attention and MLP ---- */

typedef struct row_job {
    cog_backend *be;
    const cog_act *x;
    const int32_t *row; /* which rows of x; NULL: all in order */
    const cog_weight *w;
    int rows, layer;
} row_job;

static void norm_rows(void *arg, int piece, int thread)
{
    const row_job *j = arg;
    cog_backend *be = j->be;
    int end = cog_cpu_piece_end(piece, j->rows);

    for (int r = piece * COG_CPU_ROWS; r < end; r++)
        be->kern.rmsnorm(cog_cpu_at(be, be->norm, r, 0),
                         cog_cpu_at(be, j->x, j->row ? j->row[r] : r, 0), j->w->vector,
                         be->model.hidden, be->model.rms_eps);
}

static void norm(cog_backend *be, const cog_act *x, const int32_t *row, const cog_weight *w,
                 int rows)
{
    row_job j = { .be = be, .x = x, .row = row, .w = w, .rows = rows };

    cog_pool_run(be->pool, norm_rows, &j, cog_cpu_pieces(rows));
}

/* dst = src * w[expert]^T (+ bias[expert]) for the rows of either expert. */
static void routed(cog_backend *be, cog_act *dst, const cog_act *src,
                   const cog_weight *const w[COG_N_EXPERTS],
                   const cog_weight *const bias[COG_N_EXPERTS], cog_gemm_out how)
{
    const int first[COG_N_EXPERTS + 1] = { 0, be->batch->language_rows, be->batch->rows };
    cog_gemm g[COG_N_EXPERTS];

    for (int e = 0; e < COG_N_EXPERTS; e++)
        g[e] = (cog_gemm){
            .w = w[e],
            .bias = bias ? bias[e] : NULL,
            .a = cog_cpu_at(be, src, first[e], 0),
            .lda = src->ld,
            .dst = cog_cpu_at(be, dst, first[e], 0),
            .ldd = dst->ld,
            .rows = first[e + 1] - first[e],
            .how = how,
        };
    cog_cpu_gemm(be, g, COG_N_EXPERTS);
}

/* ---- attention ---- */

static cog_kv_view view_head(const cog_backend *be, int layer, int head, const int32_t *pages)
{
    cog_kv_view v = {
        .k = be->kv + (size_t)layer * be->kv_layer + (size_t)head * be->kv_head,
        .tile_bytes = be->kv_tile,
        .page_bytes = be->kv_page,
        .page_shift = __builtin_ctz((unsigned)(be->cfg.block / COG_TILE)),
        .pages = pages,
    };

    v.v = v.k + be->kv_part;
    return v;
}

static const int32_t *pages_of(const cog_batch *b, int seq)
{
    return b->block_table + (size_t)seq * (size_t)b->max_blocks;
}

/* Rotates q and k and puts k and v into the row's slot. */
static void place_rows(void *arg, int piece, int thread)
{
    const row_job *j = arg;
    cog_backend *be = j->be;
    const cog_model_config *m = &be->model;
    const cog_batch *b = be->batch;
    int end = cog_cpu_piece_end(piece, j->rows);

    for (int r = piece * COG_CPU_ROWS; r < end; r++) {
        size_t table = (size_t)b->position[r] * (size_t)(m->head_dim / 2);
        int tile = b->slot[r] / COG_TILE;
        be->kern.rope(cog_cpu_at(be, be->qkv, r, 0), be->cfg.rope_cos + table,
                      be->cfg.rope_sin + table, m->heads + m->kv_heads, m->head_dim);
        for (int h = 0; h < m->kv_heads; h++) {
            cog_kv_view kv = view_head(be, j->layer, h, pages_of(b, b->seq[r]));
            size_t at = (size_t)(kv.k - be->kv) + cog_kv_tile_at(&kv, tile);
            cog_kv_put(be->kv + at, be->kv + at + be->kv_part, b->slot[r] % COG_TILE,
                       cog_cpu_at(be, be->qkv, r, (m->heads + h) * m->head_dim),
                       cog_cpu_at(be, be->qkv, r, (m->heads + m->kv_heads + h) * m->head_dim),
                       m->head_dim, be->kern.dtype);
        }
    }
}

/* One run of rows and one KV head with all its query heads. */
static void attend(void *arg, int item, int thread)
{
    const row_job *j = arg;
    cog_backend *be = j->be;
    const cog_model_config *m = &be->model;
    const cog_batch *b = be->batch;
    int run = item / m->kv_heads, kv_head = item % m->kv_heads, group = m->heads / m->kv_heads;
    cog_kv_view kv = view_head(be, j->layer, kv_head, pages_of(b, b->seq[be->run[run]]));
    float scale = 1 / sqrtf((float)m->head_dim);
    const void *q[COG_ATTN_ROWS];
    void *out[COG_ATTN_ROWS];
    int32_t slots[COG_ATTN_ROWS];
    int n = 0;

    for (int r = be->run[run]; r < be->run[run + 1]; r++) {
        for (int h = kv_head * group; h < (kv_head + 1) * group; h++) {
            q[n] = cog_cpu_at(be, be->qkv, r, h * m->head_dim);
            out[n] = cog_cpu_at(be, be->mixed, r, h * m->head_dim);
            slots[n] = b->slot[r] + 1;
            if (++n == COG_ATTN_ROWS) {
                be->kern.attention(out, q, slots, n, m->head_dim, scale, &kv,
                                   be->thread[thread].attn);
                n = 0;
            }
        }
    }
    if (n > 0)
        be->kern.attention(out, q, slots, n, m->head_dim, scale, &kv, be->thread[thread].attn);
}

int cog_cpu_attention(cog_backend *be, cog_act *x, const cog_layer *w, int layer)
{
    const cog_weight *const qkv[] = { w->expert[0].qkv, w->expert[1].qkv };
    const cog_weight *const bias[] = { w->expert[0].qkv_bias, w->expert[1].qkv_bias };
    const cog_weight *const dense[] = { w->expert[0].dense, w->expert[1].dense };
    row_job j = { .be = be, .rows = be->batch->rows, .layer = layer };

    norm(be, x, NULL, w->norm_in, be->batch->rows);
    routed(be, be->qkv, be->norm, qkv, bias, COG_OUT_STORE);
    cog_pool_run(be->pool, place_rows, &j, cog_cpu_pieces(j.rows));
    cog_pool_run(be->pool, attend, &j, be->n_runs * be->model.kv_heads);
    routed(be, x, be->mixed, dense, NULL, COG_OUT_ADD);
    return 0;
}

/* ---- MLP ---- */

static void silu_rows(void *arg, int piece, int thread)
{
    const row_job *j = arg;
    cog_backend *be = j->be;
    int end = cog_cpu_piece_end(piece, j->rows);

    for (int r = piece * COG_CPU_ROWS; r < end; r++)
        be->kern.silu_mul(cog_cpu_at(be, be->inner, r, 0), cog_cpu_at(be, be->gate_up, r, 0),
                          cog_cpu_at(be, be->gate_up, r, be->model.inter), be->model.inter);
}

void cog_cpu_silu_mul(cog_backend *be, int rows)
{
    row_job j = { .be = be, .rows = rows };

    cog_pool_run(be->pool, silu_rows, &j, cog_cpu_pieces(rows));
}

int cog_cpu_ffn(cog_backend *be, cog_act *x, const cog_layer *w)
{
    const cog_weight *const gate_up[] = { w->expert[0].gate_up, w->expert[1].gate_up };
    const cog_weight *const down[] = { w->expert[0].down, w->expert[1].down };

    norm(be, x, NULL, w->norm_post, be->batch->rows);
    routed(be, be->gate_up, be->norm, gate_up, NULL, COG_OUT_STORE);
    cog_cpu_silu_mul(be, be->batch->rows);
    routed(be, x, be->inner, down, NULL, COG_OUT_ADD);
    return 0;
}

/* ---- head ---- */

int cog_cpu_logits(cog_backend *be, const cog_act *x, const cog_head *w)
{
    const cog_gemm g = {
        .w = w->lm_head,
        .a = be->norm->data,
        .lda = be->norm->ld,
        .dst = (char *)be->logits,
        .ldd = (size_t)w->lm_head->rows,
        .rows = be->batch->n_logits,
        .how = COG_OUT_FLOAT,
    };

    if (w->lm_head->rows != be->model.vocab)
        return COG_EINVAL;
    norm(be, x, be->batch->logits_row, w->norm, be->batch->n_logits);
    cog_cpu_gemm(be, &g, 1);
    return 0;
}

int cog_cpu_sample(cog_backend *be, int32_t *token)
{
    const cog_batch *b = be->batch;

    for (int i = 0; i < b->n_draws; i++) {
        const cog_draw *d = &b->draw[i];
        const float *row = be->logits + (size_t)d->row * (size_t)be->model.vocab;
        if (cog_sampler_pick(be->sampler, &token[i], row, d->params, &d->context) < 0)
            token[i] = -1;
    }
    return 0;
}

int cog_cpu_logits_read(cog_backend *be, float *dst)
{
    size_t n = (size_t)be->batch->n_logits * (size_t)be->model.vocab;

    memcpy(dst, be->logits, n * sizeof(float));
    return 0;
}

int cog_cpu_logits_row(cog_backend *be, float *dst, int row)
{
    if (row < 0 || row >= be->batch->n_logits)
        return COG_EINVAL;
    memcpy(dst, be->logits + (size_t)row * (size_t)be->model.vocab,
           (size_t)be->model.vocab * sizeof(float));
    return 0;
}

/* ---- copy on write ---- */

/* The first n slots of a tile pair, n < COG_TILE. */
static void copy_slots(const cog_backend *be, char *dst, const char *src, int n)
{
    size_t pair = be->kern.dtype == COG_F32 ? 1 : 2;
    size_t dim = (size_t)be->model.head_dim;
    size_t k_row = COG_TILE * pair * be->elem;
    size_t v_row = dim * pair * be->elem;

    for (size_t d = 0; d < dim / pair; d++)
        memcpy(dst + d * k_row, src + d * k_row, (size_t)n * pair * be->elem);
    dst += be->kv_part;
    src += be->kv_part;
    memcpy(dst, src, (size_t)n / pair * v_row);
    if ((size_t)n % pair) {
        size_t last = (size_t)n / pair * v_row;
        for (size_t d = 0; d < dim; d++)
            memcpy(dst + last + d * pair * be->elem, src + last + d * pair * be->elem, be->elem);
    }
}

int cog_cpu_kv_copy(cog_backend *be, int dst, int src, int n_slots)
{
    const cog_model_config *m = &be->model;

    if (dst < 0 || dst >= be->cfg.n_blocks || src < 0 || src >= be->cfg.n_blocks || n_slots < 0 ||
        n_slots > be->cfg.block)
        return COG_EINVAL;
    size_t whole = (size_t)(n_slots / COG_TILE) * be->kv_tile;
    for (int i = 0; i < m->layers * m->kv_heads; i++) {
        size_t at =
            (size_t)(i / m->kv_heads) * be->kv_layer + (size_t)(i % m->kv_heads) * be->kv_head;
        char *to = be->kv + (size_t)dst * be->kv_page + at;
        const char *from = be->kv + (size_t)src * be->kv_page + at;
        memcpy(to, from, whole);
        memcpy(to + be->kv_part, from + be->kv_part, whole);
        if (n_slots % COG_TILE)
            copy_slots(be, to + whole, from + whole, n_slots % COG_TILE);
    }
    return 0;
}
