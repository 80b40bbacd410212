#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "server/picture/quarantine.h"

static cog_sha256 file(int i)
{
    return cog_sha256_of(&(cog_span){ &i, sizeof(i) }, 1);
}

static cog_quarantine *new_quarantine(uint64_t keep_ns)
{
    cog_quarantine *q = cog_new(cog_quarantine);

    q->keep_ns = keep_ns;
    return q;
}

static bool has(cog_quarantine *q, int i, uint64_t now_ns)
{
    cog_sha256 f = file(i);

    return cog_quarantine_has(q, &f, now_ns);
}

static void add(cog_quarantine *q, int i, uint64_t now_ns)
{
    cog_sha256 f = file(i);

    cog_quarantine_add(q, &f, now_ns);
}

static void files_stay_for_their_time(void **state)
{
    cog_quarantine *q = new_quarantine(100);

    assert_false(has(q, 1, 0));
    add(q, 1, 0);
    add(q, 2, 50);
    assert_true(has(q, 1, 99));
    assert_false(has(q, 3, 99));
    assert_false(has(q, 1, 100)); /* asking does not prolong it */
    assert_true(has(q, 2, 149));
    add(q, 2, 149); /* failing again does */
    assert_true(has(q, 2, 248));
    assert_int_equal(q->n, 1);
    cog_free(q);
}

static void the_least_recent_makes_room(void **state)
{
    cog_quarantine *q = new_quarantine(UINT64_MAX);

    for (int i = 0; i < COG_QUARANTINE_MAX; i++)
        add(q, i, (uint64_t)i);
    assert_true(has(q, 0, 10000));
    add(q, COG_QUARANTINE_MAX, 10001);
    assert_int_equal(q->n, COG_QUARANTINE_MAX);
    assert_true(has(q, 0, 10002));
    assert_false(has(q, 1, 10002));
    assert_true(has(q, 2, 10002));
    assert_true(has(q, COG_QUARANTINE_MAX, 10002));
    cog_free(q);
}

static void none_is_kept_when_there_is_none(void **state)
{
    cog_quarantine *q = new_quarantine(0);

    add(q, 1, 5);
    assert_false(has(q, 1, 5));
    cog_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_stay_for_their_time),
        cmocka_unit_test(the_least_recent_makes_room),
        cmocka_unit_test(none_is_kept_when_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
