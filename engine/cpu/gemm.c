/* gemm.c - products: cuts them into work items and walks an item's sum over k in blocks.
 *
 * An item is up to COG_GEMM_ROWS rows of one panel of 64 outputs. Its sums live in the thread's acc
 * between the blocks, as f32, which changes no bits: an element's sum still goes through all of k
 * in order. */
#include "engine/cpu/cpu.h"

enum {
    /* k of one block: 256 KiB of a panel, a quarter of Zen 4's L2, so that it is read from memory
     * once for all rows of the item. */
    BLOCK_BYTES = 256 << 10,
};

typedef struct job {
    cog_backend *be;
    const cog_gemm *g;
    int first[COG_MAX_GEMMS + 1]; /* items */
    int panels[COG_MAX_GEMMS];
    int chunk[COG_MAX_GEMMS]; /* rows of an item */
} job;

static void item(void *arg, int index, int thread)
{
    const job *j = arg;
    cog_backend *be = j->be;
    int which = index >= j->first[1];
    const cog_gemm *g = &j->g[which];
    int panel = (index - j->first[which]) % j->panels[which];
    int row = (index - j->first[which]) / j->panels[which] * j->chunk[which];
    int rows = g->rows - row < j->chunk[which] ? g->rows - row : j->chunk[which];
    int n = g->w->rows - panel * COG_PANEL < COG_PANEL ? g->w->rows - panel * COG_PANEL : COG_PANEL;
    int block = (int)(BLOCK_BYTES / (COG_PANEL * be->elem));
    const char *w = g->w->data + (size_t)panel * g->w->panel_bytes;
    const char *a = g->a + (size_t)row * g->lda * be->elem;
    size_t out = g->how == COG_OUT_FLOAT ? sizeof(float) : be->elem;
    float *acc = be->thread[thread].acc;

    for (int k = 0; k < g->w->cols; k += block)
        be->kern.gemm(acc, a + (size_t)k * be->elem, g->lda, rows,
                      w + (size_t)k * COG_PANEL * be->elem,
                      g->w->cols - k < block ? g->w->cols - k : block, k > 0);
    for (int r = 0; r < rows; r++)
        be->kern.gemm_out(g->dst + ((size_t)(row + r) * g->ldd + (size_t)panel * COG_PANEL) * out,
                          acc + (size_t)r * COG_PANEL,
                          g->bias ? g->bias->vector + (size_t)panel * COG_PANEL : NULL, n, g->how);
}

void cog_cpu_gemm(cog_backend *be, const cog_gemm *g, int n)
{
    job j = { .be = be, .g = g };
    int items = 0;

    for (int i = 0; i < COG_MAX_GEMMS; i++) {
        j.first[i] = items;
        if (i >= n || g[i].rows == 0)
            continue;
        int pieces = (g[i].rows + COG_GEMM_ROWS - 1) / COG_GEMM_ROWS;
        j.panels[i] = (g[i].w->rows + COG_PANEL - 1) / COG_PANEL;
        j.chunk[i] = (g[i].rows + pieces - 1) / pieces;
        items += pieces * j.panels[i];
    }
    j.first[COG_MAX_GEMMS] = items;
    cog_pool_run(be->pool, item, &j, items);
}
