/* Where things are in device memory: each element has one place, in range, aligned. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "engine/cuda/index.h"
#include "engine/cuda/kernels.h"

static cog_cuda_kv pool(int layers, int n_blocks, int kv_heads, int block, int head_dim)
{
    cog_cuda_kv kv = { .layers = layers,
                       .n_blocks = n_blocks,
                       .kv_heads = kv_heads,
                       .block = block,
                       .head_dim = head_dim,
                       .ld = (head_dim + 7) / 8 * 8 };

    while (1 << kv.block_shift < block)
        kv.block_shift++;
    return kv;
}

/* Every key and every value of a pool claims its row; together they are the pool. */
static void enumerate(const cog_cuda_kv *kv)
{
    size_t ld = (size_t)kv->ld, claimed = 0;
    size_t rows = (size_t)(kv->layers * kv->n_blocks * 2 * kv->kv_heads * kv->block);
    char *taken = cog_array(char, rows);

    for (int layer = 0; layer < kv->layers; layer++) {
        for (int page = 0; page < kv->n_blocks; page++) {
            for (int head = 0; head < kv->kv_heads; head++) {
                for (int slot = 0; slot < kv->block; slot++) {
                    size_t key = cog_kv_at(kv, layer, page, head, slot);
                    size_t value = key + cog_kv_value_offset(kv);
                    assert_int_equal(key % ld, 0);
                    assert_int_equal(value % ld, 0);
                    assert_true(key / ld < rows && value / ld < rows);
                    assert_int_equal(taken[key / ld]++, 0);
                    assert_int_equal(taken[value / ld]++, 0);
                    claimed += 2;
                }
            }
        }
    }
    assert_int_equal(claimed, rows);
    assert_int_equal(rows * ld, (size_t)(kv->layers * kv->n_blocks) * cog_kv_page_elements(kv));
    cog_free(taken);
}

static void each_slot_has_its_place(void **state)
{
    static const int blocks[] = { 16, 32, 64, 256 }, dims[] = { 1, 20, 24, 112, 128 };

    for (size_t b = 0; b < 4; b++) {
        for (size_t d = 0; d < 5; d++) {
            cog_cuda_kv kv = pool(3, 5, 1 + (int)(b + d) % 4, blocks[b], dims[d]);
            enumerate(&kv);
            /* rows of 2-byte elements lie at multiples of 16 bytes */
            assert_int_equal(cog_kv_at(&kv, 2, 4, 0, 3) * 2 % 16, 0);
            assert_int_equal(cog_kv_value_offset(&kv) * 2 % 16, 0);
        }
    }
}

/* What kernels step by: slots of one head in one page follow each other. */
static void a_head_in_a_page_is_one_run(void **state)
{
    cog_cuda_kv kv = pool(2, 7, 4, 32, 80);
    size_t first = cog_kv_at(&kv, 1, 6, 3, 0);

    for (int slot = 0; slot < kv.block; slot++)
        assert_int_equal(cog_kv_at(&kv, 1, 6, 3, slot), first + (size_t)(slot * kv.ld));
    assert_int_equal(cog_kv_at(&kv, 1, 6, 3, 0),
                     cog_kv_at(&kv, 1, 0, 3, 0) + 6 * cog_kv_page_elements(&kv));
}

/* 180 GB: past 2^32 elements. */
static void a_large_pool_does_not_wrap(void **state)
{
    cog_cuda_kv kv = pool(32, 5000, 32, 64, 128);
    size_t last = cog_kv_at(&kv, 31, 4999, 31, 63) + cog_kv_value_offset(&kv) + 128;

    assert_int_equal(last, (size_t)32 * 5000 * 2 * 32 * 64 * 128);
}

static void segments_cover_each_slot(void **state)
{
    for (int slots = 1; slots < 3000; slots++) {
        int n = cog_segments(slots);
        assert_true((n - 1) * COG_SEGMENT < slots && slots <= n * COG_SEGMENT);
    }
    assert_int_equal(cog_segments(0), 0);
}

static void partial_sums_have_room(void **state)
{
    assert_int_equal(cog_attn_partial_floats(32, 128, 8), 32 * 8 * 130);
    assert_int_equal(cog_attn_partial_floats(1 << 15, 1 << 10, 1 << 10),
                     ((size_t)1 << 25) * ((1 << 10) + 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_slot_has_its_place),    cmocka_unit_test(a_head_in_a_page_is_one_run),
        cmocka_unit_test(a_large_pool_does_not_wrap), cmocka_unit_test(segments_cover_each_slot),
        cmocka_unit_test(partial_sums_have_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
