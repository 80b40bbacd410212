#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "engine/pool.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ITEMS = 1000 };

typedef struct tally {
    _Atomic int seen[MAX_ITEMS];
    _Atomic int bad_thread;
    int threads;
} tally;

static void count(void *arg, int item, int thread)
{
    tally *t = arg;

    atomic_fetch_add(&t->seen[item], 1);
    if (thread < 0 || thread >= t->threads)
        atomic_store(&t->bad_thread, 1);
}

static void run_once(cog_pool *p, int n)
{
    tally *t = cog_new(tally);

    t->threads = cog_pool_threads(p);
    cog_pool_run(p, count, t, n);
    for (int i = 0; i < MAX_ITEMS; i++)
        assert_int_equal(atomic_load(&t->seen[i]), i < n);
    assert_int_equal(atomic_load(&t->bad_thread), 0);
    cog_free(t);
}

static void every_item_runs_once(void **state)
{
    static const int threads[] = { 1, 2, 3, 8 };
    static const int items[] = { 0, 1, 2, 3, 7, 1000 };
    cog_err err = { 0 };

    for (int i = 0; i < 4; i++) {
        cog_pool *p;
        assert_int_equal(cog_pool_open(&p, threads[i], &err), 0);
        assert_int_equal(cog_pool_threads(p), threads[i]);
        for (int k = 0; k < 6; k++)
            run_once(p, items[k]);
        cog_pool_close(p);
    }
}

/* Sections follow each other closely and with pauses in which workers go to sleep. */
static void sections_follow_each_other(void **state)
{
    cog_err err = { 0 };
    cog_pool *p;

    assert_int_equal(cog_pool_open(&p, 4, &err), 0);
    for (int i = 0; i < 300; i++) {
        run_once(p, 1 + i % 17);
        if (i % 50 == 0)
            usleep(2000);
    }
    cog_pool_close(p);
}

static void add_to_sum(void *arg, int item, int thread)
{
    /* Plain memory, one slot per item: what an item writes is seen after the join. */
    ((long *)arg)[item] += item + 1;
}

static void results_are_visible_after_the_join(void **state)
{
    long sum[64] = { 0 };
    cog_err err = { 0 };
    cog_pool *p;

    assert_int_equal(cog_pool_open(&p, 3, &err), 0);
    for (int round = 1; round <= 200; round++) {
        cog_pool_run(p, add_to_sum, sum, 64);
        for (int i = 0; i < 64; i++)
            assert_int_equal(sum[i], (long)round * (i + 1));
    }
    cog_pool_close(p);
}

static void idle_pools_close(void **state)
{
    cog_err err = { 0 };
    cog_pool *p;

    for (int i = 0; i < 50; i++) {
        assert_int_equal(cog_pool_open(&p, 1 + i % 5, &err), 0);
        cog_pool_close(p);
    }
    cog_pool_close(NULL);
}

static void thread_counts_out_of_range_are_refused(void **state)
{
    cog_err err = { 0 };
    cog_pool *p = NULL;

    assert_int_equal(cog_pool_open(&p, -1, &err), COG_EINVAL);
    assert_non_null(strstr(err.text, "threads"));
    assert_int_equal(cog_pool_open(&p, 1 << 20, &err), COG_EINVAL);
    assert_null(p);
    assert_int_equal(cog_pool_open(&p, 0, &err), 0);
    assert_true(cog_pool_threads(p) >= 1);
    cog_pool_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_runs_once),
        cmocka_unit_test(sections_follow_each_other),
        cmocka_unit_test(results_are_visible_after_the_join),
        cmocka_unit_test(idle_pools_close),
        cmocka_unit_test(thread_counts_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
