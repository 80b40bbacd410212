#include "tests/unit/unit.h"

#include "base/rng.h"
#include "engine/kv.h"

static void pages_for_slots(void **state)
{
    cog_kv kv;

    cog_kv_init(&kv, 8, 16);
    assert_int_equal(cog_kv_blocks_for(&kv, 0), 0);
    assert_int_equal(cog_kv_blocks_for(&kv, 1), 1);
    assert_int_equal(cog_kv_blocks_for(&kv, 16), 1);
    assert_int_equal(cog_kv_blocks_for(&kv, 17), 2);
    cog_kv_fini(&kv);
}

static void growing_is_all_or_nothing(void **state)
{
    cog_block_table a, b;
    cog_kv kv;

    cog_kv_init(&kv, 4, 16);
    cog_block_table_init(&a, 4);
    cog_block_table_init(&b, 4);
    assert_int_equal(cog_kv_grow(&kv, &a, 33), 0);
    assert_int_equal(a.n, 3);
    assert_int_equal(cog_kv_grow(&kv, &b, 32), COG_ENOMEM);
    assert_int_equal(b.n, 0);
    assert_int_equal(kv.n_free, 1);
    assert_int_equal(cog_kv_grow(&kv, &a, 16), 0); /* never shrinks */
    assert_int_equal(a.n, 3);
    cog_kv_release(&kv, &a);
    assert_int_equal(kv.n_free, 4);
    assert_true(cog_kv_is_sound(&kv));
    cog_block_table_fini(&a);
    cog_block_table_fini(&b);
    cog_kv_fini(&kv);
}

static void a_shared_page_is_copied_before_a_write(void **state)
{
    cog_block_table a, b;
    int32_t dst = -1, src = -1;
    cog_kv kv;

    cog_kv_init(&kv, 3, 16);
    cog_block_table_init(&a, 2);
    cog_block_table_init(&b, 2);
    assert_int_equal(cog_kv_grow(&kv, &a, 20), 0);
    cog_kv_share(&kv, &b, &a, 20);
    assert_int_equal(kv.n_free, 1);

    assert_int_equal(cog_kv_own(&kv, &b, 20, &dst, &src), 0);
    assert_int_equal(src, a.block[1]);
    assert_int_equal(dst, b.block[1]);
    assert_int_not_equal(dst, src);
    assert_int_equal(cog_kv_own(&kv, &b, 21, &dst, &src), 0);
    assert_int_equal(src, -1); /* its own already */
    assert_int_equal(cog_kv_own(&kv, &a, 20, &dst, &src), 0);
    assert_int_equal(src, -1); /* the last holder writes in place */
    assert_int_equal(cog_kv_own(&kv, &a, 3, &dst, &src), COG_ENOMEM);
    assert_int_equal(a.block[0], b.block[0]);

    cog_kv_release(&kv, &a);
    cog_kv_release(&kv, &b);
    assert_int_equal(kv.n_free, 3);
    cog_block_table_fini(&a);
    cog_block_table_fini(&b);
    cog_kv_fini(&kv);
}

/* Random operations on many tables; after each, every page's count is the number of tables that
 * hold it. */
static void random_operations_keep_the_counts(void **state)
{
    enum { TABLES = 12, BLOCKS = 40 };
    cog_block_table t[TABLES];
    cog_rng rng = { .key = 11 };
    int32_t dst, src;
    cog_kv kv;

    cog_kv_init(&kv, BLOCKS, 16);
    for (int i = 0; i < TABLES; i++)
        cog_block_table_init(&t[i], 10);
    for (int step = 0; step < 50000; step++) {
        cog_block_table *a = &t[cog_rng_below(&rng, TABLES)], *b = &t[cog_rng_below(&rng, TABLES)];
        int held[BLOCKS] = { 0 };

        switch (cog_rng_below(&rng, 4)) {
        case 0:
            (void)cog_kv_grow(&kv, a, (int)cog_rng_below(&rng, 161));
            break;
        case 1:
            cog_kv_release(&kv, a);
            break;
        case 2:
            if (a->n == 0 && b->n > 0)
                cog_kv_share(&kv, a, b, (int)cog_rng_below(&rng, (uint64_t)b->n * 16 + 1));
            break;
        default:
            if (a->n > 0)
                (void)cog_kv_own(&kv, a, (int)cog_rng_below(&rng, (uint64_t)a->n * 16), &dst, &src);
        }
        for (int i = 0; i < TABLES; i++)
            for (int k = 0; k < t[i].n; k++)
                held[t[i].block[k]]++;
        for (int i = 0; i < BLOCKS; i++)
            assert_int_equal(kv.refs[i], held[i]);
        assert_true(cog_kv_is_sound(&kv));
    }
    for (int i = 0; i < TABLES; i++) {
        cog_kv_release(&kv, &t[i]);
        cog_block_table_fini(&t[i]);
    }
    assert_int_equal(kv.n_free, BLOCKS);
    cog_kv_fini(&kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_for_slots),
        cmocka_unit_test(growing_is_all_or_nothing),
        cmocka_unit_test(a_shared_page_is_copied_before_a_write),
        cmocka_unit_test(random_operations_keep_the_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
