/* Who attends how in a step: engine/cuda/plan_step.c. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "engine/cuda/cuda.h"

enum { CONTEXT = 4096, SEGMENTS = CONTEXT / COG_SEGMENT };

typedef struct plan {
    cog_model_config m;
    cog_backend be;
    cog_batch batch;
} plan;

static void plan_open(plan *p, int kv_heads, int sms)
{
    *p = (plan){ .m = { .heads = 32,
                        .kv_heads = kv_heads,
                        .head_dim = 128,
                        .max_positions = CONTEXT,
                        .vocab = 1000 } };
    p->be.cfg = (cog_device_config){
        .model = &p->m, .dtype = COG_BF16, .max_rows = 512, .max_seqs = 64, .block = 16
    };
    p->be.model = p->m;
    p->be.sms = sms;
    cog_cuda_lay_step(&p->be.at, &p->be.cfg);
    p->be.host_step = cog_array(char, p->be.at.bytes);
    p->be.run = cog_array(cog_cuda_run, (size_t)p->be.at.max_seqs);
    p->be.batch = &p->batch;
}

static void plan_close(plan *p)
{
    cog_free(p->be.host_step);
    cog_free(p->be.run);
}

/* One row per sequence, of `slots` slots each; the last one of one slot when there are several.
 * Returns the segments of the largest item. */
static int plan_rows(plan *p, int rows, int slots)
{
    cog_backend *be = &p->be;
    int32_t *slot = cog_cuda_host(be, be->at.slot), *seq = cog_cuda_host(be, be->at.seq);
    const cog_attn_item *item = cog_cuda_host(be, be->at.items);
    int n, at = 0, most = 0;

    for (int r = 0; r < rows; r++) {
        seq[r] = r;
        slot[r] = rows > 1 && r == rows - 1 ? 0 : slots - 1;
    }
    p->batch.seqs = rows;
    be->rows = rows;
    be->bucket = cog_cuda_bucket(rows);
    cog_cuda_plan_step(be);
    n = *(const int32_t *)cog_cuda_host(be, be->at.n_items);
    assert_int_equal(be->n_tiles, 0);
    assert_in_range(n, rows, be->at.max_items);
    assert_in_range(n, 1, be->grid_items);
    for (int r = 0; r < rows; r++) {
        int total = cog_segments(slot[r] + 1);
        for (int first = 0; first < total; first += item[at++].n) {
            assert_true(at < n);
            assert_int_equal(item[at].row, r);
            assert_int_equal(item[at].seq, r);
            assert_int_equal(item[at].slots, slot[r] + 1);
            assert_int_equal(item[at].first, first);
            assert_int_equal(item[at].total, total);
            assert_int_equal(item[at].partial, r);
            assert_in_range(item[at].n, 1, total - first);
            most = item[at].n > most ? item[at].n : most;
        }
    }
    assert_int_equal(at, n);
    return most;
}

/* Whole rows, each once; no more items than there is room for, in memory and in a recorded grid. */
static void every_segment_once(void **state)
{
    static const int heads[] = { 1, 2, 8, 32 }, sms[] = { 1, 16, 132, 1000 };

    for (size_t h = 0; h < 4; h++) {
        for (size_t s = 0; s < 4; s++) {
            plan p;
            plan_open(&p, heads[h], sms[s]);
            for (int rows = 1; rows <= COG_CUDA_MAX_BUCKET; rows = rows < 4 ? rows + 1 : 2 * rows)
                for (int slots = 1; slots <= CONTEXT; slots += 85)
                    plan_rows(&p, rows, slots);
            plan_rows(&p, COG_CUDA_MAX_BUCKET, CONTEXT);
            plan_close(&p);
        }
    }
}

static void few_rows_are_cut_finer(void **state)
{
    plan p;
    int grid;

    plan_open(&p, 8, 132);
    assert_int_equal(plan_rows(&p, 1, 2300), 1);
    grid = p.be.grid_items;
    assert_int_equal(plan_rows(&p, 1, 100), 1);
    assert_int_equal(p.be.grid_items, grid); /* a recorded step's never changes */
    assert_int_equal(plan_rows(&p, 16, 2048), 2);
    assert_int_equal(plan_rows(&p, 32, 2048), 4);
    plan_close(&p);
    plan_open(&p, 32, 132);
    assert_int_equal(plan_rows(&p, 1, CONTEXT), 1);
    assert_int_equal(plan_rows(&p, 8, CONTEXT), 4);
    plan_close(&p);
}

/* A prompt's rows in the tail of the batch, another one behind a prefix: the tiles that see most
 * first. */
static void long_tiles_first(void **state)
{
    plan p;
    plan_open(&p, 32, 132);
    cog_backend *be = &p.be;
    int32_t *slot = cog_cuda_host(be, be->at.slot), *seq = cog_cuda_host(be, be->at.seq);
    const int32_t *order = cog_cuda_host(be, be->at.order);
    const cog_flash_tile *tile = cog_cuda_host(be, be->at.tiles);
    int seen = 0;

    for (int r = 0; r < 300; r++) {
        seq[r] = r >= 200;
        slot[r] = r < 200 ? r : r - 200 + 70;
    }
    p.batch.seqs = 2;
    be->rows = 300;
    be->bucket = -1;
    cog_cuda_plan_step(be);
    assert_int_equal(be->n_tiles, 4 + 2);
    assert_int_equal(be->grid_items, 0);
    for (int t = 0; t < be->n_tiles; t++) {
        assert_true(t == 0 || tile[t].slot + tile[t].rows <= tile[t - 1].slot + tile[t - 1].rows);
        for (int i = 0; i < tile[t].rows; i++) {
            int32_t r = order[tile[t].first + i];
            assert_int_equal(seq[r], tile[t].seq);
            assert_int_equal(slot[r], tile[t].slot + i);
        }
        seen += tile[t].rows;
    }
    assert_int_equal(seen, 300);
    plan_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_segment_once),
        cmocka_unit_test(few_rows_are_cut_finer),
        cmocka_unit_test(long_tiles_first),
    };

    return cmocka_run_group_tests_name("cuda_plan", tests, NULL, NULL);
}
