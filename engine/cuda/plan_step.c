/* plan_step.c - who attends how: whole tiles of a sequence's rows on tensor cores, the other rows
 * one by one, their slots cut into pieces when there are few rows. */
#include "engine/cuda/cuda.h"

#include "base/alloc.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    MIN_TILE_ROWS = 16,                 /* fewer rows of a sequence go one by one */
    PIECE_SEGMENTS = 4,                 /* of an item at most, where rows are cut */
    MAX_CUT_ROWS = COG_CUDA_MAX_BUCKET, /* more rows fill the device uncut */
    MAX_WANTED = 512,                   /* blocks, where items are made smaller to have more */
};

static int pieces(int segments, int size)
{
    return (segments + size - 1) / size;
}

static int larger(int x, int y)
{
    return x > y ? x : y;
}

/* Of `rows` rows: items get smaller only while they are fewer than wanted, and halving their size
 * at most doubles them. */
static int most_items(int rows, int max_segments, int wanted, int kv_heads)
{
    int spread = 2 * wanted / kv_heads, all = rows * max_segments;

    return larger(rows * pieces(max_segments, PIECE_SEGMENTS), spread < all ? spread : all);
}

void cog_cuda_plan_limits(cog_cuda_layout *at, const cog_device_config *cfg)
{
    int cut = most_items(MAX_CUT_ROWS, at->max_segments, MAX_WANTED, cfg->model->kv_heads);

    at->max_tiles = at->max_rows / COG_FLASH_ROWS + at->max_seqs;
    at->max_items = larger(at->max_rows, cut);
    at->max_partials = MAX_CUT_ROWS;
}

/* Rows per sequence, and whether their slots follow each other. Fills order so that a sequence's
 * rows stand together, by slot. */
static void sort_rows(cog_backend *be, int32_t *order)
{
    const int32_t *slot = cog_cuda_host(be, be->at.slot), *seq = cog_cuda_host(be, be->at.seq);
    cog_cuda_run *run = be->run;
    int n = be->batch->seqs + 1, first = 0;

    for (int s = 0; s < n; s++)
        run[s] = (cog_cuda_run){ .slot = INT32_MAX };
    for (int r = 0; r < be->rows; r++) {
        run[seq[r]].rows++;
        if (slot[r] < run[seq[r]].slot)
            run[seq[r]].slot = slot[r];
    }
    for (int s = 0; s < n; s++) {
        run[s].first = first;
        first += run[s].rows;
    }
    for (int r = 0; r < be->rows; r++)
        order[r] = -1;
    for (int r = 0; r < be->rows; r++) {
        cog_cuda_run *u = &run[seq[r]];
        int at = slot[r] - u->slot;
        u->is_broken |= at >= u->rows || order[u->first + at] >= 0;
        if (!u->is_broken)
            order[u->first + at] = r;
    }
    for (int r = 0; r < be->rows; r++)
        order[r] = order[r] < 0 ? 0 : order[r]; /* of broken runs, which no tile names */
}

/* Longest first. */
static int by_length(const void *a, const void *b)
{
    const cog_flash_tile *x = a, *y = b;
    int32_t ends = y->slot + y->rows - (x->slot + x->rows);

    return ends ? ends : x->first - y->first;
}

/* A grid starts in order: a long tile that begins last would end alone. */
static void place_tiles(cog_backend *be)
{
    cog_flash_tile *tile = cog_cuda_host(be, be->at.tiles);

    be->n_tiles = 0;
    for (int s = 0; s < be->batch->seqs; s++) {
        cog_cuda_run *u = &be->run[s];
        u->is_tiled = !u->is_broken && u->rows >= MIN_TILE_ROWS;
        for (int i = 0; u->is_tiled && i < u->rows; i += COG_FLASH_ROWS)
            tile[be->n_tiles++] = (cog_flash_tile){
                .first = u->first + i,
                .rows = u->rows - i < COG_FLASH_ROWS ? u->rows - i : COG_FLASH_ROWS,
                .seq = s,
                .slot = u->slot + i,
            };
    }
    qsort(tile, (size_t)be->n_tiles, sizeof(*tile), by_length);
}

/* Two blocks for every multiprocessor. */
static int wanted_blocks(const cog_backend *be)
{
    return 2 * be->sms < MAX_WANTED ? 2 * be->sms : MAX_WANTED;
}

/* Segments of an item: fewer where there would be too few items for the device. */
static int choose_size(const cog_backend *be, const int32_t *slot, const int32_t *seq)
{
    int size = PIECE_SEGMENTS;

    if (be->rows > MAX_CUT_ROWS)
        return INT_MAX;
    for (; size > 1; size /= 2) {
        int n = 0;
        for (int r = 0; r < be->rows; r++)
            if (!be->run[seq[r]].is_tiled)
                n += pieces(cog_segments(slot[r] + 1), size);
        if (n * be->model.kv_heads >= wanted_blocks(be))
            break;
    }
    return size;
}

static void place_items(cog_backend *be)
{
    const int32_t *slot = cog_cuda_host(be, be->at.slot), *seq = cog_cuda_host(be, be->at.seq);
    cog_attn_item *item = cog_cuda_host(be, be->at.items);
    int most = choose_size(be, slot, seq);
    int32_t n = 0;

    for (int r = 0; r < be->rows; r++) {
        int total = cog_segments(slot[r] + 1);
        if (be->run[seq[r]].is_tiled)
            continue;
        for (int first = 0, size; first < total; first += size) {
            size = total - first < most ? total - first : most;
            item[n++] = (cog_attn_item){ .row = r,
                                         .seq = seq[r],
                                         .slots = slot[r] + 1,
                                         .first = first,
                                         .n = size,
                                         .total = total,
                                         .partial = be->rows <= MAX_CUT_ROWS ? r : 0 };
        }
    }
    *(int32_t *)cog_cuda_host(be, be->at.n_items) = n;
    be->grid_items = be->bucket < 0 ? n
                                    : most_items(be->rows, be->at.max_segments, wanted_blocks(be),
                                                 be->model.kv_heads);
}

void cog_cuda_plan_step(cog_backend *be)
{
    sort_rows(be, cog_cuda_host(be, be->at.order));
    be->n_tiles = 0;
    for (int s = 0; s <= be->batch->seqs; s++)
        be->run[s].is_tiled = false;
    if (!be->cfg.batch_invariant && cog_cuda_flash_fits(be->cfg.dtype, be->model.head_dim))
        place_tiles(be);
    place_items(be);
}
