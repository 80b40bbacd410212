/* Kernels that work row by row. References are doubles made here of the formulas in
 * engine/cuda/kernels.h, but for what is exact: that comes of kernels_ref.c. */
#include "base/rng.h"
#include "tests/conform/cuda_ops.h"

#include <math.h>
#include <string.h>

/* Odd ones, one below, at and above pieces and warps of them, and rows that need several passes
 * (more than 4096 in f32, 8192 in bf16). */
static const int widths[] = { 1, 3, 7, 8, 9, 33, 45, 100, 255, 256, 257, 1792, 2049, 4100, 8200 };
enum { WIDTHS = sizeof(widths) / sizeof(widths[0]), SHAPES = 20 };

static double rounded(const conform *c, double value)
{
    return c->dtype == COG_BF16 ? (double)cog_round_bf16((float)value) : (double)(float)value;
}

static device_array vector(conform *c, int n, float center, float spread)
{
    return device_random(c, 1, n, center, spread);
}

static size_t area(const device_array *a)
{
    return (size_t)a->rows * (size_t)a->cols;
}

static double *doubles(conform *c, size_t n)
{
    return conform_alloc(c, n, sizeof(double));
}

/* ---- norms ----
 *
 * Bounds as in op_rows.c: 2^-20 of what is added up. Where the normed value is rounded before an
 * addition or a function, it may fall the other way: an ulp of it more. */

static void run_rmsnorm(conform *c, int rows, int cols, bool with_delta, bool with_row)
{
    device_array x = device_random(c, rows + 2, cols, 0.5f, 2), out = device_new(c, rows, cols);
    device_array delta = device_random(c, rows + 2, cols, 0, 1), w = vector(c, cols, 1, 0.5f);
    device_array sum = device_copy(c, &x), row = device_vector(c, sizeof(int32_t), (size_t)rows, 0);
    double *want = doubles(c, area(&out)), *bound = doubles(c, area(&out));
    size_t at = 0;

    conform_shape(c, "%d rows of %d, delta %d, row %d", rows, cols, with_delta, with_row);
    for (int i = 0; i < rows; i++) {
        int r = with_row ? rows + 1 - i : i;
        double square = 0, y;
        ((int32_t *)row.host)[i] = r;
        for (int k = 0; k < cols; k++) {
            y = (double)device_get(c, &x, r, k) +
                (with_delta ? (double)device_get(c, &delta, r, k) : 0);
            y = (double)device_set(c, &sum, r, k, (float)y);
            square += y * y / cols;
        }
        for (int k = 0; k < cols; k++, at++) {
            want[at] = (double)device_get(c, &w, 0, k) * (double)device_get(c, &sum, r, k) /
                       sqrt(square + (double)1e-5f);
            bound[at] = 0x1p-20 * fabs(want[at]);
        }
    }
    device_upload(c, &row);
    device_done(c, cog_cuda_rmsnorm(c->stream, c->dtype, out.data, out.ld, x.data, x.ld,
                                    with_delta ? delta.data : NULL, delta.ld,
                                    with_row ? row.data : NULL, w.data, rows, cols, 1e-5f));
    device_download(c, &out);
    device_near(c, &out, want, bound);
    if (with_delta)
        device_download(c, &x);
    for (int r = 0; r < rows + 2; r++)
        conform_same(c, "residual", device_host_row(&x, r), device_host_row(&sum, r),
                     (size_t)cols * x.size);
    conform_free(c, want);
    conform_free(c, bound);
    device_array *all[] = { &x, &out, &delta, &w, &row };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        device_free(c, all[i]);
    device_upload(c, &sum);
    device_free(c, &sum);
}

void conform_cuda_rmsnorm(conform *c)
{
    device_done(c, cog_cuda_norm_prepare());
    for (int i = 0; i < WIDTHS; i++)
        for (int how = 0; how < 4; how++)
            run_rmsnorm(c, 1 + i % 3, widths[i], how & 1, how & 2);
    run_rmsnorm(c, 0, 64, true, true);
    for (int i = 0; i < SHAPES; i++)
        run_rmsnorm(c, conform_between(c, 1, 5), conform_between(c, 1, 700),
                    conform_between(c, 0, 1), conform_between(c, 0, 1));
}

static double gelu_of(double x)
{
    return 0.5 * x * erfc(-x * 0.70710678118654752440);
}

/* Fills want with rounded(LN(y)), bound with what its sums may err by. */
static void layernorm(conform *c, double *want, double *bound, const device_array *y,
                      const device_array *w, const device_array *b, float eps)
{
    size_t at = 0;

    for (int r = 0; r < y->rows; r++) {
        double mean = 0, variance = 0;
        for (int k = 0; k < y->cols; k++)
            mean += (double)device_get(c, y, r, k) / y->cols;
        for (int k = 0; k < y->cols; k++)
            variance += pow((double)device_get(c, y, r, k) - mean, 2) / y->cols;
        for (int k = 0; k < y->cols; k++, at++) {
            double v = (double)device_get(c, y, r, k), weight = (double)device_get(c, w, 0, k);
            double bias = (double)device_get(c, b, 0, k), scale = 1 / sqrt(variance + (double)eps);
            want[at] = rounded(c, (v - mean) * scale * weight + bias);
            bound[at] = 0x1p-20 * (fabs(weight) * (fabs(v) + fabs(mean)) * scale + fabs(bias));
        }
    }
}

static void run_layernorms(conform *c, int rows, int cols, float center, float eps)
{
    device_array x = device_random(c, rows, cols, 0, 3),
                 y = device_random(c, rows, cols, center, 1);
    device_array w = vector(c, cols, 1, 0.5f), b = vector(c, cols, 0, 0.5f);
    double *want = doubles(c, area(&y)), *bound = doubles(c, area(&y));
    double *both = doubles(c, area(&y)), *far = doubles(c, area(&y));
    size_t at = 0;

    conform_shape(c, "%d rows of %d around %g", rows, cols, (double)center);
    layernorm(c, want, bound, &y, &w, &b, eps);
    for (int r = 0; r < rows; r++) {
        for (int k = 0; k < cols; k++, at++) {
            double ulp = c->dtype == COG_BF16 ? 0x1p-7 * fabs(want[at]) : 0;
            /* gelu's slope is at most 1.13 */
            both[at] = rounded(c, gelu_of(want[at]));
            far[at] = 1.2 * (bound[at] + ulp) + 0x1p-20 * fabs(both[at]) + 1e-37;
            want[at] += (double)device_get(c, &x, r, k);
            bound[at] += ulp + 0x1p-22 * fabs(want[at]);
        }
    }
    device_done(c, cog_cuda_add_layernorm(c->stream, c->dtype, x.data, x.ld, y.data, y.ld, w.data,
                                          b.data, rows, cols, eps));
    device_download(c, &x);
    device_near(c, &x, want, bound);
    device_done(c, cog_cuda_layernorm_gelu(c->stream, c->dtype, y.data, y.ld, w.data, b.data, rows,
                                           cols, eps));
    device_download(c, &y);
    device_near(c, &y, both, far);
    double *all[] = { want, bound, both, far };
    for (int i = 0; i < 4; i++)
        conform_free(c, all[i]);
    device_free(c, &x);
    device_free(c, &y);
    device_free(c, &w);
    device_free(c, &b);
}

void conform_cuda_layernorm(conform *c)
{
    device_done(c, cog_cuda_norm_prepare());
    for (int i = 0; i < WIDTHS; i++) {
        run_layernorms(c, 2, widths[i], 0, 1e-6f);
        run_layernorms(c, 1, widths[i], 3, 1e-5f);
    }
    run_layernorms(c, 0, 64, 0, 1e-6f);
    for (int i = 0; i < SHAPES; i++)
        run_layernorms(c, conform_between(c, 1, 4), conform_between(c, 1, 700),
                       conform_random(c, 2), 1e-6f);
}

/* ---- functions ---- */

/* Values that show a form that is not the exact one, and the tails. */
static void special(conform *c, device_array *a)
{
    static const float value[] = { 0.0f, -0.0f, 1e-40f, 30, -30, 88, -88, 5, -5, 14.42f, -14.42f };

    for (int i = 0; i < a->cols && a->rows > 0 && i < (int)(sizeof(value) / sizeof(value[0])); i++)
        device_set(c, a, a->rows - 1, i, value[i]);
    device_upload(c, a);
}

static void run_gelu(conform *c, int rows, int cols, float center, float spread)
{
    device_array y = device_random(c, rows, cols, center, spread);
    double *want = doubles(c, area(&y)), *bound = doubles(c, area(&y));
    size_t at = 0;

    conform_shape(c, "gelu, %d rows of %d", rows, cols);
    special(c, &y);
    for (int r = 0; r < rows; r++) {
        for (int k = 0; k < cols; k++, at++) {
            want[at] = gelu_of((double)device_get(c, &y, r, k));
            bound[at] = 0x1p-20 * fabs(want[at]) + 1e-37;
        }
    }
    device_done(c, cog_cuda_gelu(c->stream, c->dtype, y.data, y.ld, rows, cols));
    device_download(c, &y);
    device_near(c, &y, want, bound);
    conform_free(c, want);
    conform_free(c, bound);
    device_free(c, &y);
}

static void run_silu_mul(conform *c, int rows, int inter, float spread)
{
    device_array in = device_random(c, rows, 2 * inter, 0, spread),
                 out = device_new(c, rows, inter);
    double *want = doubles(c, area(&out)), *bound = doubles(c, area(&out));
    size_t at = 0;

    conform_shape(c, "silu_mul, %d rows of %d", rows, inter);
    for (int r = 0; r < rows; r++) {
        for (int k = 0; k < inter; k++, at++) {
            double gate = (double)device_get(c, &in, r, k);
            double up = (double)device_get(c, &in, r, inter + k);
            want[at] = rounded(c, gate / (1 + exp(-gate))) * up;
            /* silu itself may round the other way before the product */
            bound[at] =
                (c->dtype == COG_F32 ? 0x1p-20 : 0x1p-7) * fabs(want[at]) + 1e-36 * fabs(up);
        }
    }
    device_done(
        c, cog_cuda_silu_mul(c->stream, c->dtype, out.data, out.ld, in.data, in.ld, rows, inter));
    device_download(c, &out);
    device_near(c, &out, want, bound);
    conform_free(c, want);
    conform_free(c, bound);
    device_free(c, &in);
    device_free(c, &out);
}

void conform_cuda_functions(conform *c)
{
    device_done(c, cog_cuda_act_prepare());
    for (int i = 0; i < WIDTHS; i++) {
        run_gelu(c, 1 + i % 3, widths[i], 0, 6);
        run_silu_mul(c, 1 + i % 3, widths[i], 6);
    }
    run_gelu(c, 0, 8, 0, 1);
    run_silu_mul(c, 0, 8, 1);
    for (int i = 0; i < SHAPES; i++) {
        run_gelu(c, 3, conform_between(c, 1, 400), conform_random(c, 12), 3);
        run_silu_mul(c, 3, conform_between(c, 1, 400), 90);
    }
}

/* ---- exact ones ---- */

static void run_add(conform *c, int rows, int cols)
{
    device_array x = device_random(c, rows, cols, 0, 3), y = device_random(c, rows, cols, 0, 3);
    char *want = conform_alloc(c, area(&x), conform_size(c));
    size_t row = (size_t)cols * x.size;

    conform_shape(c, "add, %d rows of %d", rows, cols);
    for (int r = 0; r < rows; r++)
        c->ref.add(want + (size_t)r * row, device_host_row(&x, r), device_host_row(&y, r), cols);
    device_done(c, cog_cuda_add(c->stream, c->dtype, x.data, x.ld, y.data, y.ld, rows, cols));
    device_download(c, &x);
    device_same(c, "sum", &x, want);
    conform_free(c, want);
    device_free(c, &x);
    device_free(c, &y);
}

static void run_embed(conform *c, int rows, int cols)
{
    enum { VOCAB = 9, SEQS = 3, FEATURES = 5 };
    device_array x = device_new(c, rows, cols), table = device_random(c, VOCAB, cols, 0, 1);
    device_array features[SEQS];
    int32_t *token = conform_alloc(c, (size_t)rows, 4),
            *feature = conform_alloc(c, (size_t)rows, 4);
    int32_t *seq = conform_alloc(c, (size_t)rows, 4);
    char *want = conform_alloc(c, area(&x), conform_size(c));
    const void *at[SEQS];

    conform_shape(c, "embed, %d rows of %d", rows, cols);
    for (int s = 0; s < SEQS; s++) {
        features[s] = s ? device_new_ld(c, x.size, FEATURES, cols, features[0].ld)
                        : device_new(c, FEATURES, cols);
        for (int r = 0; r < FEATURES; r++)
            for (int k = 0; k < cols; k++)
                device_set(c, &features[s], r, k, conform_random(c, 1));
        device_upload(c, &features[s]);
        at[s] = features[s].data;
    }
    for (int r = 0; r < rows; r++) {
        token[r] = conform_between(c, 0, VOCAB - 1);
        feature[r] = conform_between(c, -FEATURES, FEATURES - 1);
        feature[r] = feature[r] < 0 ? -1 : feature[r];
        seq[r] = conform_between(c, 0, SEQS - 1);
        memcpy(want + (size_t)r * (size_t)cols * x.size,
               feature[r] < 0 ? device_host_row(&table, token[r])
                              : device_host_row(&features[seq[r]], feature[r]),
               (size_t)cols * x.size);
    }
    device_array tokens = device_vector(c, 4, (size_t)rows, token);
    device_array rows_of = device_vector(c, 4, (size_t)rows, feature);
    device_array seqs = device_vector(c, 4, (size_t)rows, seq);
    device_array pointers = device_vector(c, sizeof(at[0]), SEQS, at);
    device_done(c,
                cog_cuda_embed(c->stream, c->dtype, x.data, x.ld, table.data, table.ld, tokens.data,
                               rows_of.data, seqs.data, pointers.data, features[0].ld, rows, cols));
    device_download(c, &x);
    device_same(c, "row", &x, want);
    void *host[] = { token, feature, seq, want };
    for (int i = 0; i < 4; i++)
        conform_free(c, host[i]);
    device_array *all[] = { &x, &table, &tokens, &rows_of, &seqs, &pointers };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        device_free(c, all[i]);
    for (int s = 0; s < SEQS; s++)
        device_free(c, &features[s]);
}

static void run_patches(conform *c, int images, int grid, int patch)
{
    int side = grid * patch, cols = 3 * patch * patch;
    size_t bytes = (size_t)images * (size_t)side * (size_t)side * 3;
    device_array dst = device_new(c, images * grid * grid, cols);
    device_array rgb = device_new_ld(c, 1, 1, (int)bytes, bytes);
    device_array pixel = device_new_ld(c, sizeof(float), 3, 256, 256);
    char *want = conform_alloc(c, area(&dst), conform_size(c));
    size_t at = 0;

    conform_shape(c, "patches, %d pictures of %d by %d of %d", images, grid, grid, patch);
    for (size_t i = 0; i < bytes; i++)
        rgb.host[i] = (char)conform_between(c, 0, 255);
    for (int i = 0; i < 3 * 256; i++)
        ((float *)pixel.host)[i] = conform_random(c, 2);
    for (int row = 0; row < dst.rows; row++) {
        int image = row / (grid * grid), p = row % (grid * grid);
        for (int ch = 0; ch < 3; ch++) {
            for (int y = 0; y < patch; y++) {
                for (int x = 0; x < patch; x++, at++) {
                    int from = (image * side + p / grid * patch + y) * side + p % grid * patch + x;
                    int byte = (unsigned char)rgb.host[3 * from + ch];
                    conform_set(c, want, at, ((float *)pixel.host)[ch * 256 + byte]);
                }
            }
        }
    }
    device_upload(c, &rgb);
    device_upload(c, &pixel);
    device_done(c, cog_cuda_vit_patches(c->stream, c->dtype, dst.data, dst.ld, rgb.data, pixel.data,
                                        images, side, patch));
    device_download(c, &dst);
    device_same(c, "patch", &dst, want);
    conform_free(c, want);
    device_free(c, &dst);
    device_free(c, &rgb);
    device_free(c, &pixel);
}

static void run_position(conform *c, int images, int tokens, int cols)
{
    device_array x = device_new(c, images * tokens, cols);
    device_array patches = device_random(c, images * (tokens - 1), cols, 0, 2);
    device_array bias = vector(c, cols, 0, 1), cls = vector(c, cols, 0, 1);
    device_array position = device_random(c, tokens, cols, 0, 1);
    char *want = conform_alloc(c, area(&x), conform_size(c));
    size_t step = (size_t)cols * x.size;

    conform_shape(c, "position, %d pictures of %d tokens of %d", images, tokens, cols);
    for (int r = 0; r < x.rows; r++) {
        int image = r / tokens, t = r % tokens;
        char *row = want + (size_t)r * step;
        if (t == 0)
            memcpy(row, cls.host, step);
        else
            c->ref.add(row, device_host_row(&patches, image * (tokens - 1) + t - 1), bias.host,
                       cols);
        c->ref.add(row, row, device_host_row(&position, t), cols);
    }
    device_done(c, cog_cuda_vit_position(c->stream, c->dtype, x.data, x.ld, patches.data,
                                         patches.ld, bias.data, cls.data, position.data,
                                         position.ld, images, tokens, cols));
    device_download(c, &x);
    device_same(c, "token", &x, want);
    conform_free(c, want);
    device_array *all[] = { &x, &patches, &bias, &cls, &position };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        device_free(c, all[i]);
}

/* Zeros after cols, so the array has ld columns. */
static void run_random(conform *c, int rows, int cols)
{
    size_t ld = ((size_t)cols + 7) / 8 * 8;
    device_array w = device_new_ld(c, conform_size(c), rows, (int)ld, ld);
    char *want = conform_alloc(c, area(&w), conform_size(c));

    conform_shape(c, "random, %d rows of %d", rows, cols);
    for (int r = 0; r < rows; r++) {
        for (int k = 0; k < (int)ld; k++) {
            uint64_t bits = cog_rng_at(77, (uint64_t)r * (uint64_t)cols + (uint64_t)k);
            float unit = (float)(bits >> 40) * 0x1p-24f, value = 0.02f + 0.3f * (2 * unit - 1);
            conform_set(c, want, (size_t)r * ld + (size_t)k, k < cols ? value : 0);
        }
    }
    device_done(c, cog_cuda_random(c->stream, c->dtype, w.data, ld, rows, cols, 77, 0.02f, 0.3f));
    device_download(c, &w);
    device_same(c, "weight", &w, want);
    conform_free(c, want);
    device_free(c, &w);
}

void conform_cuda_exact(conform *c)
{
    device_done(c, cog_cuda_norm_prepare());
    device_done(c, cog_cuda_embed_prepare());
    for (int i = 0; i < WIDTHS; i++) {
        run_add(c, 1 + i % 4, widths[i]);
        run_embed(c, i % 4, widths[i]);
        run_position(c, 1 + i % 2, 1 + i % 3, widths[i]);
        run_random(c, 1 + i % 2, widths[i]);
    }
    run_add(c, 0, 5);
    run_patches(c, 1, 1, 1);
    run_patches(c, 2, 3, 4);
    run_patches(c, 1, 2, 14);
    run_patches(c, 0, 2, 3);
    for (int i = 0; i < SHAPES; i++) {
        run_add(c, conform_between(c, 1, 9), conform_between(c, 1, 400));
        run_embed(c, conform_between(c, 1, 9), conform_between(c, 1, 400));
        run_position(c, conform_between(c, 1, 3), conform_between(c, 1, 5),
                     conform_between(c, 1, 300));
        run_patches(c, conform_between(c, 1, 2), conform_between(c, 1, 4),
                    conform_between(c, 1, 9));
    }
}

/* ---- rotary positions and pages ---- */

enum { SEQS = 3, LAYERS = 2, POSITIONS = 40 };

/* Rows of the sequences in turn, at the last slots of each. */
static void run_rope(conform *c, int rows, int heads, int kv_heads, int head_dim, int block)
{
    int slots[SEQS] = { 1 + rows, block, 2 * block + 1 + rows }, layer = conform_between(c, 0, 1);
    device_pages pages = device_pages_new(c, LAYERS, kv_heads, block, head_dim, SEQS, slots);
    device_array qkv = device_random(c, rows, (heads + 2 * kv_heads) * head_dim, 0, 2);
    device_array angle[2], index[3];
    char *want = conform_alloc(c, area(&qkv), conform_size(c));
    size_t head_bytes = (size_t)head_dim * conform_size(c);
    int32_t *of[3];

    conform_shape(c, "rope_kv, %d rows, %d + %d heads of %d, block %d", rows, heads, kv_heads,
                  head_dim, block);
    for (int i = 0; i < 2; i++) {
        angle[i] = device_new_ld(c, 4, POSITIONS, head_dim / 2, (size_t)head_dim / 2);
        for (int k = 0; k < POSITIONS * head_dim / 2; k++)
            ((float *)angle[i].host)[k] = conform_random(c, 1);
        device_upload(c, &angle[i]);
    }
    for (int i = 0; i < 3; i++) {
        index[i] = device_vector(c, 4, (size_t)rows, NULL);
        of[i] = (int32_t *)index[i].host;
    }
    for (int r = 0; r < rows; r++) {
        char *row = want + (size_t)r * (size_t)qkv.cols * qkv.size;
        of[2][r] = r % SEQS;
        of[1][r] = slots[of[2][r]] - 1 - r / SEQS;
        of[1][r] = of[1][r] < 0 ? 0 : of[1][r];
        of[0][r] = conform_between(c, 0, POSITIONS - 1);
        memcpy(row, device_host_row(&qkv, r), (size_t)qkv.cols * qkv.size);
        c->ref.rope(row, device_host_row(&angle[0], of[0][r]), device_host_row(&angle[1], of[0][r]),
                    heads + kv_heads, head_dim);
    }
    for (int i = 0; i < 3; i++)
        device_upload(c, &index[i]);
    device_done(c,
                cog_cuda_rope_kv(c->stream, c->dtype, qkv.data, qkv.ld, angle[0].data,
                                 angle[1].data, &pages.kv, layer, index[0].data, index[1].data,
                                 index[2].data, pages.table.data, pages.max_blocks, rows, heads));
    device_download(c, &qkv);
    device_same(c, "rotated", &qkv, want);

    /* the mirror gets what the pool should have: freeing it compares all of it */
    for (int r = 0; r < rows; r++) {
        char *row = want + (size_t)r * (size_t)qkv.cols * qkv.size;
        for (int h = 0; h < kv_heads; h++) {
            memcpy(
                device_host_row(&pages.pool, device_key_row(&pages, layer, of[2][r], h, of[1][r])),
                row + (size_t)(heads + h) * head_bytes, head_bytes);
            memcpy(device_host_row(&pages.pool,
                                   device_value_row(&pages, layer, of[2][r], h, of[1][r])),
                   row + (size_t)(heads + kv_heads + h) * head_bytes, head_bytes);
        }
    }
    conform_free(c, want);
    device_pages_free(c, &pages);
    device_free(c, &qkv);
    for (int i = 0; i < 2; i++)
        device_free(c, &angle[i]);
    for (int i = 0; i < 3; i++)
        device_free(c, &index[i]);
}

static void run_copy(conform *c, int kv_heads, int head_dim, int block, int n)
{
    int slots[2] = { block, block };
    device_pages pages = device_pages_new(c, LAYERS, kv_heads, block, head_dim, 2, slots);
    int32_t *table = (int32_t *)pages.table.host;

    conform_shape(c, "kv_copy, %d heads of %d, %d slots of %d", kv_heads, head_dim, n, block);
    for (int layer = 0; layer < LAYERS; layer++)
        device_pages_fill(c, &pages, layer, 0, n, 1);
    device_upload(c, &pages.pool);
    device_done(
        c, cog_cuda_kv_copy(c->stream, c->dtype, &pages.kv, table[pages.max_blocks], table[0], n));
    for (int layer = 0; layer < LAYERS; layer++) {
        for (int slot = 0; slot < n; slot++) {
            for (int h = 0; h < kv_heads; h++) {
                memcpy(device_host_row(&pages.pool, device_key_row(&pages, layer, 1, h, slot)),
                       device_host_row(&pages.pool, device_key_row(&pages, layer, 0, h, slot)),
                       (size_t)head_dim * pages.pool.size);
                memcpy(device_host_row(&pages.pool, device_value_row(&pages, layer, 1, h, slot)),
                       device_host_row(&pages.pool, device_value_row(&pages, layer, 0, h, slot)),
                       (size_t)head_dim * pages.pool.size);
            }
        }
    }
    c->compared++;
    device_pages_free(c, &pages);
}

void conform_cuda_rope_kv(conform *c)
{
    static const int dims[] = { 2, 6, 8, 16, 30, 64, 100, 112, 128 };

    device_done(c, cog_cuda_rope_kv_prepare());
    for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
        run_rope(c, 4, 4, 2, dims[d], 16);
        run_rope(c, 1, 3, 3, dims[d], 32);
        run_copy(c, 2, dims[d], 16, (int)d);
        run_copy(c, 3, dims[d], 16, 16);
    }
    run_rope(c, 0, 2, 2, 8, 16);
    for (int i = 0; i < SHAPES; i++)
        run_rope(c, conform_between(c, 1, 9), conform_between(c, 1, 6), conform_between(c, 1, 3),
                 2 * conform_between(c, 1, 64), 16 << conform_between(c, 0, 2));
}
