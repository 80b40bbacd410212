/* plan_step.c - who attends how: whole tiles of a sequence's rows on tensor cores, the other rows
 * one by one, their slots cut into pieces when there are few rows. */
#include "engine/cuda/cuda.h"

#include "base/alloc.h"

#include <string.h>

enum {
    MIN_TILE_ROWS = 16,                 /* fewer rows of a sequence go one by one */
    PIECE_SEGMENTS = 4,                 /* of an item, where rows are cut */
    MAX_CUT_ROWS = COG_CUDA_MAX_BUCKET, /* more rows fill the device uncut */
};

static int pieces(int segments)
{
    return (segments + PIECE_SEGMENTS - 1) / PIECE_SEGMENTS;
}

void cog_cuda_plan_limits(cog_cuda_layout *at, const cog_device_config *cfg)
{
    int cut = MAX_CUT_ROWS * pieces(at->max_segments);

    at->max_tiles = at->max_rows / COG_FLASH_ROWS + at->max_seqs;
    at->max_items = at->max_rows > cut ? at->max_rows : cut;
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
}

static void place_items(cog_backend *be)
{
    const int32_t *slot = cog_cuda_host(be, be->at.slot), *seq = cog_cuda_host(be, be->at.seq);
    cog_attn_item *item = cog_cuda_host(be, be->at.items);
    bool is_cut = be->rows <= MAX_CUT_ROWS;
    int32_t n = 0;

    for (int r = 0; r < be->rows; r++) {
        int total = cog_segments(slot[r] + 1);
        if (be->run[seq[r]].is_tiled)
            continue;
        for (int first = 0, size; first < total; first += size) {
            size = is_cut && total - first > PIECE_SEGMENTS ? PIECE_SEGMENTS : total - first;
            item[n++] = (cog_attn_item){ .row = r,
                                         .seq = seq[r],
                                         .slots = slot[r] + 1,
                                         .first = first,
                                         .n = size,
                                         .total = total,
                                         .partial = is_cut ? r : 0 };
        }
    }
    *(int32_t *)cog_cuda_host(be, be->at.n_items) = n;
    be->grid_items = be->bucket >= 0 ? be->rows * pieces(be->at.max_segments) : n;
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
