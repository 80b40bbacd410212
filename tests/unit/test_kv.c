#include "tests/unit/unit.h"

#include "base/rng.h"
#include "engine/kv.h"

#include <string.h>

/* n pages, and three tables for all of them. */
static void open_pool(cog_kv *kv, int n, cog_block_table *a, cog_block_table *b, cog_block_table *c)
{
    cog_kv_init(kv, n, 16, true);
    cog_block_table_init(a, n);
    cog_block_table_init(b, n);
    cog_block_table_init(c, n);
}

static void close_pool(cog_kv *kv, cog_block_table *a, cog_block_table *b, cog_block_table *c)
{
    cog_block_table_fini(a);
    cog_block_table_fini(b);
    cog_block_table_fini(c);
    cog_kv_fini(kv);
}

static void pages_for_slots(void **state)
{
    cog_kv kv;

    cog_kv_init(&kv, 8, 16, false);
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

    cog_kv_init(&kv, 4, 16, false);
    cog_block_table_init(&a, 4);
    cog_block_table_init(&b, 4);
    assert_int_equal(cog_kv_grow(&kv, &a, 33), 0);
    assert_int_equal(a.n, 3);
    assert_int_equal(cog_kv_grow(&kv, &b, 32), COG_ENOMEM);
    assert_int_equal(b.n, 0);
    assert_int_equal(kv.n_free, 1);
    assert_int_equal(cog_kv_grow(&kv, &a, 16), 0); /* never shrinks */
    assert_int_equal(a.n, 3);
    cog_kv_release(&kv, &a, 0);
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

    cog_kv_init(&kv, 3, 16, false);
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

    cog_kv_release(&kv, &a, 0);
    cog_kv_release(&kv, &b, 0);
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

    cog_kv_init(&kv, BLOCKS, 16, false);
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
            cog_kv_release(&kv, a, 0);
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
        cog_kv_release(&kv, &t[i], 0);
        cog_block_table_fini(&t[i]);
    }
    assert_int_equal(kv.n_free, BLOCKS);
    cog_kv_fini(&kv);
}

/* ---- pages that are kept ---- */

static cog_sha256 name_at(int a, int b)
{
    return (cog_sha256){ { (uint8_t)a, (uint8_t)b } };
}

/* The table comes to hold n pages, named (who, 0), (who, 1) ... */
static void fill(cog_kv *kv, cog_block_table *t, int who, int n)
{
    assert_int_equal(cog_kv_grow(kv, t, n * kv->block), 0);
    for (int i = 0; i < n; i++) {
        const cog_sha256 name = name_at(who, i);
        cog_kv_name(kv, t, i, COG_PREFIX_FULL, &name);
    }
}

static int32_t find(const cog_kv *kv, int who, int i)
{
    const cog_sha256 name = name_at(who, i);

    return cog_prefix_find(&kv->index, COG_PREFIX_FULL, &name);
}

/* Pinned pages are taken last, and when nothing else is left they are taken, too. */
static void pinned_pages_are_taken_last(void **state)
{
    cog_block_table a, b, c;
    cog_kv kv;

    open_pool(&kv, 8, &a, &b, &c);
    fill(&kv, &a, 1, 3);
    for (int i = 0; i < 3; i++)
        cog_kv_pin(&kv, a.block[i], 7);
    cog_kv_release(&kv, &a, 0);
    fill(&kv, &b, 2, 3);
    cog_kv_release(&kv, &b, 0);
    assert_int_equal(kv.n_cached, 6);
    assert_int_equal(kv.n_pinned, 3);
    assert_int_equal(cog_kv_available(&kv), 8);
    /* two free ones, and those let go last before the older, pinned ones */
    assert_int_equal(cog_kv_grow(&kv, &c, 5 * 16), 0);
    assert_true(find(&kv, 2, 0) < 0);
    for (int i = 0; i < 3; i++)
        assert_true(find(&kv, 1, i) >= 0);
    assert_true(cog_kv_is_sound(&kv));
    assert_int_equal(cog_kv_grow(&kv, &c, 6 * 16), 0);
    assert_true(find(&kv, 1, 2) < 0);
    assert_true(find(&kv, 1, 1) >= 0);
    assert_int_equal(kv.n_pinned, 2);
    assert_int_equal(cog_kv_grow(&kv, &c, 8 * 16), 0);
    assert_int_equal(kv.n_pinned, 0);
    assert_true(cog_kv_is_sound(&kv));
    cog_kv_release(&kv, &c, 0);
    assert_int_equal(kv.n_free, 8); /* what is pinned has a name, and these have none */
    close_pool(&kv, &a, &b, &c);
}

/* What is pinned no more is the newest of the others, and goes from its end. */
static void pages_are_unpinned_by_number(void **state)
{
    cog_block_table a, b, c;
    cog_kv kv;

    open_pool(&kv, 8, &a, &b, &c);
    fill(&kv, &a, 1, 2);
    fill(&kv, &b, 2, 2);
    for (int i = 0; i < 2; i++) {
        cog_kv_pin(&kv, a.block[i], 7);
        cog_kv_pin(&kv, b.block[i], 8);
    }
    cog_kv_release(&kv, &a, 0);
    cog_kv_unpin(&kv, 8); /* held */
    cog_kv_release(&kv, &b, 0);
    assert_int_equal(kv.n_pinned, 2);
    cog_kv_unpin(&kv, 7);
    assert_int_equal(kv.n_pinned, 0);
    assert_int_equal(kv.n_cached, 4);
    assert_true(cog_kv_is_sound(&kv));
    assert_int_equal(cog_kv_grow(&kv, &c, 7 * 16), 0);
    assert_true(find(&kv, 2, 0) < 0);
    assert_true(find(&kv, 1, 1) < 0);
    assert_true(find(&kv, 1, 0) >= 0);
    cog_kv_release(&kv, &c, 0);
    close_pool(&kv, &a, &b, &c);
}

/* Half the pool at most: of more, those let go first are pinned no more. */
static void pins_are_bounded(void **state)
{
    cog_block_table t[3];
    cog_kv kv;

    cog_kv_init(&kv, 6, 16, true);
    for (int i = 0; i < 3; i++) {
        cog_block_table_init(&t[i], 2);
        fill(&kv, &t[i], i, 2);
        for (int k = 0; k < 2; k++)
            cog_kv_pin(&kv, t[i].block[k], 1 + (uint64_t)i);
    }
    for (int i = 0; i < 3; i++)
        cog_kv_release(&kv, &t[i], 0);
    assert_int_equal(kv.n_pinned, 3);
    assert_int_equal(kv.n_cached, 6);
    assert_true(cog_kv_is_sound(&kv));
    assert_int_equal(kv.pin[find(&kv, 0, 0)], 0);
    assert_int_equal(kv.pin[find(&kv, 1, 1)], 0);
    assert_int_equal(kv.pin[find(&kv, 1, 0)], 2);
    assert_int_equal(kv.pin[find(&kv, 2, 1)], 3);
    for (int i = 0; i < 3; i++)
        cog_block_table_fini(&t[i]);
    cog_kv_fini(&kv);
}

static void the_page_let_go_first_is_taken_first(void **state)
{
    cog_block_table a, b, c;
    cog_kv kv;

    open_pool(&kv, 6, &a, &b, &c);
    fill(&kv, &a, 1, 3);
    fill(&kv, &b, 2, 2);
    cog_kv_release(&kv, &a, 0);
    cog_kv_release(&kv, &b, 0);
    assert_int_equal(kv.n_free, 1);
    assert_int_equal(kv.n_cached, 5);
    for (int i = 0; i < 3; i++) /* the first page of the second comes to be held again */
        assert_true(find(&kv, 1, i) >= 0);
    cog_kv_hold(&kv, &b, find(&kv, 2, 0));
    assert_int_equal(kv.n_cached, 4);
    for (int n = 1; n <= 5; n++) { /* the free one; then tails before prefixes, older ones first */
        assert_int_equal(cog_kv_grow(&kv, &c, n * 16), 0);
        assert_int_equal(find(&kv, 1, 2) < 0, n >= 2);
        assert_int_equal(find(&kv, 1, 1) < 0, n >= 3);
        assert_int_equal(find(&kv, 1, 0) < 0, n >= 4);
        assert_int_equal(find(&kv, 2, 1) < 0, n >= 5);
        assert_true(cog_kv_is_sound(&kv));
    }
    assert_int_equal(cog_kv_grow(&kv, &c, 96), COG_ENOMEM); /* the last one is held */
    assert_true(find(&kv, 2, 0) >= 0);
    cog_kv_release(&kv, &b, 0);
    cog_kv_release(&kv, &c, 0);
    assert_int_equal(kv.n_free, 5);
    assert_int_equal(kv.n_cached, 1);
    close_pool(&kv, &a, &b, &c);
}

static void the_same_contents_twice_become_one_page(void **state)
{
    const cog_sha256 partial = name_at(9, 9);
    cog_block_table a, b;
    cog_kv kv;

    cog_kv_init(&kv, 6, 16, true);
    cog_block_table_init(&a, 3);
    cog_block_table_init(&b, 3);
    fill(&kv, &a, 1, 2);
    assert_int_equal(cog_kv_grow(&kv, &b, 48), 0);
    assert_int_equal(kv.n_free, 1);
    for (int i = 0; i < 2; i++) {
        const cog_sha256 name = name_at(1, i);
        cog_kv_name(&kv, &b, i, COG_PREFIX_FULL, &name);
        assert_int_equal(a.block[i], b.block[i]);
    }
    assert_int_equal(kv.n_free, 3);
    assert_true(cog_kv_is_sound(&kv));
    /* what ends a picture's prefix is copied from, so the first one stays */
    assert_int_equal(cog_kv_grow(&kv, &a, 48), 0);
    cog_kv_name(&kv, &a, 2, COG_PREFIX_PARTIAL, &partial);
    cog_kv_name(&kv, &b, 2, COG_PREFIX_PARTIAL, &partial);
    assert_int_not_equal(a.block[2], b.block[2]);
    assert_int_equal(cog_prefix_find(&kv.index, COG_PREFIX_PARTIAL, &partial), a.block[2]);
    cog_kv_release(&kv, &b, 0);
    assert_int_equal(kv.n_free, 3); /* its own third page had no name */
    cog_kv_release(&kv, &a, 0);
    assert_int_equal(kv.n_cached, 3);
    assert_true(cog_kv_is_sound(&kv));
    cog_block_table_fini(&a);
    cog_block_table_fini(&b);
    cog_kv_fini(&kv);
}

static void a_touched_page_outlives_what_was_let_go_before(void **state)
{
    cog_block_table a, b;
    cog_kv kv;

    cog_kv_init(&kv, 3, 16, true);
    cog_block_table_init(&a, 3);
    cog_block_table_init(&b, 3);
    fill(&kv, &a, 1, 1);
    cog_kv_release(&kv, &a, 0);
    fill(&kv, &b, 2, 1);
    cog_kv_touch(&kv, b.block[0]); /* held: no change */
    cog_kv_release(&kv, &b, 0);
    cog_kv_touch(&kv, find(&kv, 1, 0));
    assert_int_equal(cog_kv_grow(&kv, &a, 32), 0);
    assert_true(find(&kv, 1, 0) >= 0);
    assert_true(find(&kv, 2, 0) < 0);
    assert_true(cog_kv_is_sound(&kv));
    cog_kv_release(&kv, &a, 0);
    cog_block_table_fini(&a);
    cog_block_table_fini(&b);
    cog_kv_fini(&kv);
}

static void forgotten_pages_are_free_unless_they_are_held(void **state)
{
    cog_block_table a, b;
    cog_kv kv;

    cog_kv_init(&kv, 6, 16, true);
    cog_block_table_init(&a, 3);
    cog_block_table_init(&b, 2);
    fill(&kv, &a, 1, 3);
    fill(&kv, &b, 2, 2);
    cog_kv_release(&kv, &a, 1);
    cog_kv_release(&kv, &b, 0);
    for (int i = 2; i >= 0; i--)
        cog_kv_forget(&kv, find(&kv, 1, i));
    assert_int_equal(kv.n_free, 3);
    assert_int_equal(kv.n_cached, 2);
    assert_int_equal(find(&kv, 1, 0), a.block[0]);
    assert_true(find(&kv, 1, 1) < 0 && find(&kv, 1, 2) < 0);
    assert_true(find(&kv, 2, 0) >= 0 && find(&kv, 2, 1) >= 0);
    cog_kv_forget(&kv, kv.free_list[0]); /* no change */
    assert_int_equal(kv.n_free, 3);
    assert_true(cog_kv_is_sound(&kv));
    cog_kv_release(&kv, &a, 0);
    cog_block_table_fini(&a);
    cog_block_table_fini(&b);
    cog_kv_fini(&kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_for_slots),
        cmocka_unit_test(growing_is_all_or_nothing),
        cmocka_unit_test(a_shared_page_is_copied_before_a_write),
        cmocka_unit_test(random_operations_keep_the_counts),
        cmocka_unit_test(pinned_pages_are_taken_last),
        cmocka_unit_test(pages_are_unpinned_by_number),
        cmocka_unit_test(pins_are_bounded),
        cmocka_unit_test(the_page_let_go_first_is_taken_first),
        cmocka_unit_test(the_same_contents_twice_become_one_page),
        cmocka_unit_test(a_touched_page_outlives_what_was_let_go_before),
        cmocka_unit_test(forgotten_pages_are_free_unless_they_are_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
