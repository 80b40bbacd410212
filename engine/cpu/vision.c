/* vision.c - the vision tower's blocks and the adapter, one picture at a time, MLPs in chunks of
 * rows.
 *
 * The tower norms a sublayer's output before the residual addition; there is no norm before a
 * sublayer and none at the end. */
#include "engine/cpu/cpu.h"

#include "base/clock.h"

#include <math.h>
#include <string.h>

typedef struct row_job {
    cog_backend *be;
    const uint8_t *rgb;
    cog_act *act;  /* rows first .. first + rows - 1 of it are worked on, */
    cog_act *from; /* from rows from_first .. of this */
    int first, from_first, rows;
    const cog_weight *w, *b;
    float eps;
} row_job;

static void run_rows(const row_job *j, void (*fn)(void *arg, int piece, int thread))
{
    cog_pool_run(j->be->pool, fn, (void *)(uintptr_t)j, cog_cpu_pieces(j->rows));
}

static int chunk_end(int first, int rows)
{
    return rows - first < COG_CPU_CHUNK ? rows : first + COG_CPU_CHUNK;
}

/* ---- embedding ---- */

/* Patches as rows of vit_inner, in (channel, y, x) order. */
static void patch_rows(void *arg, int piece, int thread)
{
    const row_job *j = arg;
    cog_backend *be = j->be;
    int side = be->model.vision.image_side, size = be->model.vision.patch;
    int grid = be->model.vision.grid, end = cog_cpu_piece_end(piece, j->rows);
    float *line = be->thread[thread].row;

    for (int r = piece * COG_CPU_ROWS; r < end; r++) {
        int patch = j->from_first + r;
        const uint8_t *corner = j->rgb + 3 * ((size_t)(patch / grid) * (size_t)size * (size_t)side +
                                              (size_t)(patch % grid) * (size_t)size);
        for (int c = 0; c < 3; c++) {
            for (int y = 0; y < size; y++) {
                for (int x = 0; x < size; x++)
                    line[x] =
                        be->pixel[c]
                                 [corner[3 * ((size_t)y * (size_t)side + (size_t)x) + (size_t)c]];
                be->kern.from_float(cog_cpu_at(be, j->act, r, (c * size + y) * size), line, size);
            }
        }
    }
}

/* The convolution's bias is an addition of its own in the reference, rounded like the next one. */
static void position_rows(void *arg, int piece, int thread)
{
    const row_job *j = arg;
    cog_backend *be = j->be;
    int hidden = be->model.vision.hidden, end = cog_cpu_piece_end(piece, j->rows);

    be->kern.from_float(be->thread[thread].row, j->b->vector, hidden);
    for (int r = piece * COG_CPU_ROWS; r < end; r++) {
        char *x = cog_cpu_at(be, j->act, j->first + r, 0);
        be->kern.add(x, x, be->thread[thread].row, hidden);
        be->kern.add(x, x, cog_cpu_weight_row(be, j->w, j->from_first + r), hidden);
    }
}

static void embed_picture(cog_backend *be, cog_act *x, int image, const uint8_t *rgb,
                          const cog_vit_embed *w)
{
    int row = image * be->model.vision.tokens;

    be->kern.add(cog_cpu_at(be, x, row, 0), cog_cpu_weight_row(be, w->cls, 0),
                 cog_cpu_weight_row(be, w->position, 0), be->model.vision.hidden);
    for (int first = 0, end; first < be->model.patches; first = end) {
        end = chunk_end(first, be->model.patches);
        row_job patches = {
            .be = be, .rgb = rgb, .act = be->vit_inner, .from_first = first, .rows = end - first
        };
        row_job positions = { .be = be,
                              .act = x,
                              .first = row + 1 + first,
                              .from_first = 1 + first,
                              .rows = end - first,
                              .w = w->position,
                              .b = w->patch_bias };
        const cog_gemm g = { .w = w->patch,
                             .a = be->vit_inner->data,
                             .lda = be->vit_inner->ld,
                             .dst = cog_cpu_at(be, x, row + 1 + first, 0),
                             .ldd = x->ld,
                             .rows = end - first };
        run_rows(&patches, patch_rows);
        cog_cpu_gemm(be, &g, 1);
        run_rows(&positions, position_rows);
    }
}

int cog_cpu_vit_embed(cog_backend *be, cog_act *x, const uint8_t *const *rgb, int n_images,
                      const cog_vit_embed *w)
{
    uint64_t begin = cog_now_ns();

    if (n_images < 0 || (int64_t)n_images * be->model.vision.tokens > x->rows)
        return COG_EINVAL;
    for (int i = 0; i < n_images; i++)
        embed_picture(be, x, i, rgb[i], w);
    be->vision_ns += cog_now_ns() - begin;
    return 0;
}

/* ---- attention ---- */

typedef struct attn_job {
    cog_backend *be;
    int tiles, groups; /* of all tokens: KV tiles, runs of COG_ATTN_ROWS query rows */
} attn_job;

static void place_tile(void *arg, int item, int thread)
{
    const attn_job *j = arg;
    cog_backend *be = j->be;
    int hidden = be->model.vision.hidden, dim = be->model.vision.head_dim;
    int head = item / j->tiles, tile = item % j->tiles;
    char *k = be->vit_kv + 2 * (size_t)head * be->vit_part + (size_t)tile * be->vit_tile;

    for (int s = 0; s < COG_TILE && tile * COG_TILE + s < be->model.vision.tokens; s++) {
        int row = tile * COG_TILE + s;
        cog_kv_put(k, k + be->vit_part, s, cog_cpu_at(be, be->vit_qkv, row, hidden + head * dim),
                   cog_cpu_at(be, be->vit_qkv, row, 2 * hidden + head * dim), dim, be->kern.dtype);
    }
}

static void attend(void *arg, int item, int thread)
{
    const attn_job *j = arg;
    cog_backend *be = j->be;
    int dim = be->model.vision.head_dim, tokens = be->model.vision.tokens;
    int head = item / j->groups, first = item % j->groups * COG_ATTN_ROWS;
    cog_kv_view kv = { .k = be->vit_kv + 2 * (size_t)head * be->vit_part,
                       .v = be->vit_kv + (2 * (size_t)head + 1) * be->vit_part,
                       .tile_bytes = be->vit_tile };
    const void *q[COG_ATTN_ROWS];
    void *out[COG_ATTN_ROWS];
    int32_t slots[COG_ATTN_ROWS];
    int n = 0;

    for (; n < COG_ATTN_ROWS && first + n < tokens; n++) {
        q[n] = cog_cpu_at(be, be->vit_qkv, first + n, head * dim);
        out[n] = cog_cpu_at(be, be->vit_mixed, first + n, head * dim);
        slots[n] = tokens;
    }
    be->kern.attention(out, q, slots, n, dim, 1 / sqrtf((float)dim), &kv, be->thread[thread].attn);
}

/* act = act + LN(from) */
static void add_norm_rows(void *arg, int piece, int thread)
{
    const row_job *j = arg;
    cog_backend *be = j->be;
    int end = cog_cpu_piece_end(piece, j->rows);
    void *row = be->thread[thread].row;

    for (int r = piece * COG_CPU_ROWS; r < end; r++) {
        char *x = cog_cpu_at(be, j->act, j->first + r, 0);
        be->kern.layernorm(row, cog_cpu_at(be, j->from, j->from_first + r, 0), j->w->vector,
                           j->b->vector, j->act->cols, j->eps);
        be->kern.add(x, x, row, j->act->cols);
    }
}

static void gelu_rows(void *arg, int piece, int thread)
{
    const row_job *j = arg;
    cog_backend *be = j->be;
    int end = cog_cpu_piece_end(piece, j->rows);

    for (int r = piece * COG_CPU_ROWS; r < end; r++) {
        char *u = cog_cpu_at(be, j->act, r, 0);
        be->kern.gelu(u, u, be->model.vision.inter);
    }
}

static void tower_attention(cog_backend *be, cog_act *x, int row, const cog_vit_layer *w)
{
    int tokens = be->model.vision.tokens, heads = be->model.vision.heads;
    attn_job j = { .be = be,
                   .tiles = (tokens + COG_TILE - 1) / COG_TILE,
                   .groups = (tokens + COG_ATTN_ROWS - 1) / COG_ATTN_ROWS };
    const cog_gemm qkv = { .w = w->qkv,
                           .bias = w->qkv_bias,
                           .a = cog_cpu_at(be, x, row, 0),
                           .lda = x->ld,
                           .dst = be->vit_qkv->data,
                           .ldd = be->vit_qkv->ld,
                           .rows = tokens };
    const cog_gemm dense = { .w = w->dense,
                             .bias = w->dense_bias,
                             .a = be->vit_mixed->data,
                             .lda = be->vit_mixed->ld,
                             .dst = be->vit_out->data,
                             .ldd = be->vit_out->ld,
                             .rows = tokens };
    const row_job sum = { .be = be,
                          .act = x,
                          .from = be->vit_out,
                          .first = row,
                          .rows = tokens,
                          .w = w->norm1,
                          .b = w->norm1_bias,
                          .eps = be->model.vision.eps };

    cog_cpu_gemm(be, &qkv, 1);
    cog_pool_run(be->pool, place_tile, &j, heads * j.tiles);
    cog_pool_run(be->pool, attend, &j, heads * j.groups);
    cog_cpu_gemm(be, &dense, 1);
    run_rows(&sum, add_norm_rows);
}

static void tower_mlp(cog_backend *be, cog_act *x, int row, int rows, const cog_vit_layer *w)
{
    const cog_gemm fc1 = { .w = w->fc1,
                           .bias = w->fc1_bias,
                           .a = cog_cpu_at(be, x, row, 0),
                           .lda = x->ld,
                           .dst = be->vit_inner->data,
                           .ldd = be->vit_inner->ld,
                           .rows = rows };
    const cog_gemm fc2 = { .w = w->fc2,
                           .bias = w->fc2_bias,
                           .a = be->vit_inner->data,
                           .lda = be->vit_inner->ld,
                           .dst = be->vit_out->data,
                           .ldd = be->vit_out->ld,
                           .rows = rows };
    const row_job gelu = { .be = be, .act = be->vit_inner, .rows = rows };
    const row_job sum = { .be = be,
                          .act = x,
                          .from = be->vit_out,
                          .first = row,
                          .rows = rows,
                          .w = w->norm2,
                          .b = w->norm2_bias,
                          .eps = be->model.vision.eps };

    cog_cpu_gemm(be, &fc1, 1);
    run_rows(&gelu, gelu_rows);
    cog_cpu_gemm(be, &fc2, 1);
    run_rows(&sum, add_norm_rows);
}

int cog_cpu_vit_block(cog_backend *be, cog_act *x, int n_images, const cog_vit_layer *w)
{
    uint64_t begin = cog_now_ns();
    int tokens = be->model.vision.tokens;

    if (n_images < 0 || (int64_t)n_images * tokens > x->rows)
        return COG_EINVAL;
    for (int i = 0; i < n_images; i++) {
        tower_attention(be, x, i * tokens, w);
        for (int first = 0, end; first < tokens; first = end) {
            end = chunk_end(first, tokens);
            tower_mlp(be, x, i * tokens + first, end - first, w);
        }
    }
    be->vision_ns += cog_now_ns() - begin;
    return 0;
}

/* ---- adapter ---- */

/* norm = gelu(LN(norm)) */
static void adapter_norm_rows(void *arg, int piece, int thread)
{
    const row_job *j = arg;
    cog_backend *be = j->be;
    int end = cog_cpu_piece_end(piece, j->rows);

    for (int r = piece * COG_CPU_ROWS; r < end; r++) {
        char *u = cog_cpu_at(be, be->norm, r, 0);
        be->kern.layernorm(u, u, j->w->vector, j->b->vector, be->model.hidden, COG_ADAPTER_EPS);
        be->kern.gelu(u, u, be->model.hidden);
    }
}

static void project_rows(cog_backend *be, cog_act *features, int first, int rows, const cog_act *x,
                         int row, const cog_adapter *w)
{
    const cog_gemm proj = { .w = w->proj,
                            .a = cog_cpu_at(be, x, row, 0),
                            .lda = x->ld,
                            .dst = be->norm->data,
                            .ldd = be->norm->ld,
                            .rows = rows };
    const cog_gemm gate_up = { .w = w->gate_up,
                               .a = be->norm->data,
                               .lda = be->norm->ld,
                               .dst = be->gate_up->data,
                               .ldd = be->gate_up->ld,
                               .rows = rows };
    const cog_gemm down = { .w = w->down,
                            .a = be->inner->data,
                            .lda = be->inner->ld,
                            .dst = cog_cpu_at(be, features, first, 0),
                            .ldd = features->ld,
                            .rows = rows };
    const row_job norm = { .be = be, .rows = rows, .w = w->norm, .b = w->norm_bias };

    cog_cpu_gemm(be, &proj, 1);
    run_rows(&norm, adapter_norm_rows);
    cog_cpu_gemm(be, &gate_up, 1);
    cog_cpu_silu_mul(be, rows);
    cog_cpu_gemm(be, &down, 1);
}

int cog_cpu_vit_project(cog_backend *be, cog_act *const *features, const cog_act *x, int n_images,
                        const cog_adapter *w)
{
    int patches = be->model.patches, tokens = be->model.vision.tokens;
    uint64_t begin = cog_now_ns();
    size_t bytes = (size_t)be->model.hidden * be->elem;

    if (n_images < 0 || (int64_t)n_images * tokens > x->rows)
        return COG_EINVAL;
    for (int i = 0; i < n_images; i++) {
        if (features[i]->rows < patches + 2 || features[i]->cols != be->model.hidden)
            return COG_EINVAL;
        memcpy(cog_cpu_at(be, features[i], 0, 0), cog_cpu_weight_row(be, w->boi, 0), bytes);
        memcpy(cog_cpu_at(be, features[i], patches + 1, 0), cog_cpu_weight_row(be, w->eoi, 0),
               bytes);
        for (int first = 0, end; first < patches; first = end) {
            end = chunk_end(first, patches);
            project_rows(be, features[i], 1 + first, end - first, x, i * tokens + 1 + first, w);
        }
    }
    be->vision_ns += cog_now_ns() - begin;
    return 0;
}
