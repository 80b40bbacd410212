/* weight.c - parameters in the form the kernels read, packed once at load by all threads. */
#include "engine/cpu/cpu.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct pack_job {
    cog_backend *be;
    cog_weight *w;
    const cog_tensor *const *parts; /* NULL: values are random */
    uint64_t key;
    float center, spread;
} pack_job;

static void random_piece(const pack_job *j, float *dst, int row, int first, int n)
{
    uint64_t at = (uint64_t)row * (uint64_t)j->w->cols + (uint64_t)first;

    for (int i = 0; i < n; i++) {
        dst[i] = cog_rng_around(cog_rng_at(j->key, at + (uint64_t)i), j->center, j->spread);
    }
}

/* dst = n elements of the stacked rows, from (row, first) on, in the mode's type. */
static void read_piece(const pack_job *j, void *dst, int row, int first, int n)
{
    const cog_tensor *t;
    size_t at;
    float piece[COG_PANEL * 2];

    if (!j->parts) {
        random_piece(j, piece, row, first, n);
        j->be->kern.from_float(dst, piece, n);
        return;
    }
    t = j->parts[0];
    for (int i = 0; row >= cog_tensor_rows(t); t = j->parts[++i])
        row -= (int)cog_tensor_rows(t);
    at = (size_t)row * (size_t)j->w->cols + (size_t)first;
    if (t->dtype == j->be->kern.dtype) {
        memcpy(dst, (const char *)t->data + at * j->be->elem, (size_t)n * j->be->elem);
        return;
    }
    cog_tensor_read(piece, t, at, (size_t)n);
    j->be->kern.from_float(dst, piece, n);
}

/* A panel is a transposition of 32-bit units: one f32, or two bf16 of neighbouring k. */
static void pack_panel(void *arg, int panel, int thread)
{
    const pack_job *j = arg;
    cog_weight *w = j->w;
    int per_unit = (int)(sizeof(uint32_t) / j->be->elem);
    uint32_t *dst = (uint32_t *)(w->data + (size_t)panel * w->panel_bytes);
    uint32_t unit[COG_PANEL][COG_PANEL];
    int step = COG_PANEL * per_unit;
    int n_rows = w->rows - panel * COG_PANEL < COG_PANEL ? w->rows - panel * COG_PANEL : COG_PANEL;

    memset(unit, 0, sizeof(unit));
    for (int k = 0; k < w->cols; k += step, dst += COG_PANEL * COG_PANEL) {
        int n = w->cols - k < step ? w->cols - k : step;
        int units = (n + per_unit - 1) / per_unit;
        for (int o = 0; o < n_rows; o++) {
            unit[o][units - 1] = 0;
            read_piece(j, unit[o], panel * COG_PANEL + o, k, n);
        }
        for (int u = 0; u < units; u++)
            for (int o = 0; o < COG_PANEL; o++)
                dst[u * COG_PANEL + o] = unit[o][u];
    }
}

static void copy_row(void *arg, int row, int thread)
{
    const pack_job *j = arg;
    char *dst = j->w->data + (size_t)row * (size_t)j->w->cols * j->be->elem;

    for (int k = 0; k < j->w->cols; k += COG_PANEL) {
        int n = j->w->cols - k < COG_PANEL ? j->w->cols - k : COG_PANEL;
        read_piece(j, dst + (size_t)k * j->be->elem, row, k, n);
    }
}

static int make_vector(pack_job *j)
{
    cog_weight *w = j->w;

    w->vector = cog_cpu_mem((size_t)w->rows * (size_t)w->cols, sizeof(float));
    if (!w->vector)
        return COG_ENOMEM;
    for (int r = 0; r < w->rows; r++) {
        for (int k = 0; k < w->cols; k += COG_PANEL) {
            char element[COG_PANEL * sizeof(float)];
            int n = w->cols - k < COG_PANEL ? w->cols - k : COG_PANEL;
            read_piece(j, element, r, k, n);
            j->be->kern.to_float(w->vector + (size_t)r * (size_t)w->cols + k, element, n);
        }
    }
    return 0;
}

static int make_data(pack_job *j)
{
    cog_weight *w = j->w;
    bool is_matrix = w->use == COG_USE_MATRIX;
    int items = is_matrix ? (w->rows + COG_PANEL - 1) / COG_PANEL : w->rows;

    w->panel_bytes = cog_panel_elements(w->cols, j->be->kern.dtype) * j->be->elem;
    w->data = is_matrix ? cog_cpu_mem((size_t)items, w->panel_bytes)
                        : cog_cpu_mem((size_t)items, (size_t)w->cols * j->be->elem);
    if (!w->data)
        return COG_ENOMEM;
    cog_pool_run(j->be->pool, is_matrix ? pack_panel : copy_row, j, items);
    return 0;
}

int cog_cpu_weight(cog_backend *be, cog_weight **out, const cog_tensor *const *parts, int n_parts,
                   cog_weight_use use, cog_err *err)
{
    cog_weight *w = cog_new(cog_weight);
    pack_job j = { .be = be, .w = w, .parts = parts };
    int64_t rows, cols;
    int rc = cog_tensor_stack(&rows, &cols, parts, n_parts, err);

    if (rc < 0)
        goto fail;
    if (rows < 1 || rows > INT_MAX - COG_PANEL || cols < 1 || cols > INT_MAX / 8) {
        rc = cog_err_set(err, COG_EFORMAT, "tensor '%s' has a size out of range", parts[0]->name);
        goto fail;
    }
    w->use = use;
    w->rows = (int)rows;
    w->cols = (int)cols;
    rc = use == COG_USE_VECTOR ? make_vector(&j) : make_data(&j);
    if (rc < 0) {
        cog_err_set(err, rc, "no memory for tensor '%s'", parts[0]->name);
        goto fail;
    }
    *out = w;
    return 0;

fail:
    cog_cpu_weight_free(be, w);
    return rc;
}

int cog_cpu_weight_random(cog_backend *be, cog_weight **out, int rows, int cols, cog_weight_use use,
                          uint64_t key, float center, float spread, cog_err *err)
{
    cog_weight *w;
    pack_job j = { .be = be, .key = key, .center = center, .spread = spread };
    int rc;

    if (rows < 1 || rows > INT_MAX - COG_PANEL || cols < 1 || cols > INT_MAX / 8)
        return cog_err_set(err, COG_EINVAL, "no parameter is [%d, %d]", rows, cols);
    w = cog_new(cog_weight);
    *w = (cog_weight){ .use = use, .rows = rows, .cols = cols };
    j.w = w;
    rc = use == COG_USE_VECTOR ? make_vector(&j) : make_data(&j);
    if (rc < 0) {
        cog_cpu_weight_free(be, w);
        return cog_err_set(err, rc, "no memory for a parameter of [%d, %d]", rows, cols);
    }
    *out = w;
    return 0;
}

void cog_cpu_weight_free(cog_backend *be, cog_weight *w)
{
    if (!w)
        return;
    free(w->vector);
    free(w->data);
    cog_free(w);
}
