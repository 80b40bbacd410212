#include "tests/unit/unit.h"

#include "base/rng.h"
#include "engine/queue.h"

#include <stdlib.h>
#include <string.h>

enum { ITEMS = 60, TENANTS = 6 };

#define SECOND 1000000000u

static uint64_t largest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- the rules, written down once more and slowly ---- */

typedef struct world {
    cog_queue *q;
    cog_rng rng;
    cog_queue_item item[ITEMS];
    bool waits[ITEMS], taken[ITEMS]; /* taken: returned by the walk under way */
    uint64_t serial[ITEMS], next_serial;
    cog_tenant *tenant[TENANTS];
    uint64_t served[TENANTS], walk[TENANTS]; /* walk: with what the walk has counted */
    int live[TENANTS];
    uint64_t level, rest, now, next_order;
    int returned, ended_walks, departures, aged;
} world;

static int tenant_of(const world *w, int i)
{
    for (int t = 0; t < TENANTS; t++)
        if (w->live[t] && w->tenant[t] == w->item[i].tenant)
            return t;
    fail_msg("an item without a tenant");
    return -1;
}

static int count_waiting(const world *w, int tenant)
{
    int n = 0;

    for (int i = 0; i < ITEMS; i++)
        n += w->waits[i] && !w->item[i].was_preempted && tenant_of(w, i) == tenant;
    return n;
}

static int count_waiting_tenants(const world *w)
{
    int n = 0;

    for (int t = 0; t < TENANTS; t++)
        n += w->live[t] && count_waiting(w, t) > 0;
    return n;
}

static bool is_aged(const world *w, const cog_queue_item *a)
{
    return w->now - a->arrived_ns >= COG_QUEUE_PATIENCE_NS;
}

static bool comes_before(const world *w, int i, int k, int smallest)
{
    const cog_queue_item *a = &w->item[i], *b = &w->item[k];
    bool good_a = a->priority == smallest || is_aged(w, a);
    bool good_b = b->priority == smallest || is_aged(w, b);
    uint64_t served_a = w->walk[tenant_of(w, i)], served_b = w->walk[tenant_of(w, k)];

    if (a->was_preempted != b->was_preempted)
        return a->was_preempted;
    if (!a->was_preempted && good_a != good_b)
        return good_a;
    if (!a->was_preempted && served_a != served_b)
        return served_a < served_b;
    return a->order != b->order ? a->order < b->order : w->serial[i] < w->serial[k];
}

/* The index of the walk's next item, -1 for none. */
static int model_next(world *w)
{
    int smallest = 1000, best = -1;

    for (int i = 0; i < ITEMS; i++)
        if (w->waits[i] && !w->taken[i] && !w->item[i].was_preempted &&
            w->item[i].priority < smallest)
            smallest = w->item[i].priority;
    for (int i = 0; i < ITEMS; i++)
        if (w->waits[i] && !w->taken[i] && (best < 0 || comes_before(w, i, best, smallest)))
            best = i;
    if (best >= 0 && !w->item[best].was_preempted) {
        w->aged += w->item[best].priority != smallest;
        w->walk[tenant_of(w, best)] += (uint64_t)w->item[best].cost;
    }
    return best;
}

static void model_admit(world *w, int i)
{
    uint64_t n = (uint64_t)count_waiting_tenants(w), cost = (uint64_t)w->item[i].cost;
    int t = tenant_of(w, i);

    if (w->item[i].was_preempted)
        return;
    w->rest += cost;
    w->level += w->rest / n;
    w->rest %= n;
    if (w->level < w->served[t]) {
        w->level = w->served[t];
        w->rest = 0;
    }
    w->served[t] += cost;
}

static void join(world *w, int t)
{
    cog_tenant *tenant = cog_queue_join(w->q, 1000 + (uint64_t)t * 7);

    if (w->live[t]++ > 0)
        assert_ptr_equal(tenant, w->tenant[t]);
    w->tenant[t] = tenant;
}

static void leave(world *w, int t)
{
    int all = 0;

    cog_queue_leave(w->q, w->tenant[t]);
    w->departures += --w->live[t] == 0;
    for (int i = 0; i < TENANTS; i++)
        all += w->live[i];
    if (all == 0) {
        memset(w->served, 0, sizeof(w->served));
        w->level = w->rest = 0;
    }
}

static void add(world *w, int i)
{
    int t = (int)cog_rng_below(&w->rng, TENANTS);

    join(w, t);
    w->item[i] = (cog_queue_item){
        .order = w->next_order,
        .arrived_ns = w->now,
        .priority = (int)cog_rng_below(&w->rng, 3) * 50 - 50,
        .cost = 1 + (int)cog_rng_below(&w->rng, 40),
        .tenant = w->tenant[t],
    };
    w->next_order++;
    if (count_waiting(w, t) == 0)
        w->served[t] = largest(w->served[t], w->level);
    w->serial[i] = w->next_serial++;
    w->waits[i] = true;
    cog_queue_add(w->q, &w->item[i]);
}

/* Another choice of a request that waits: same order, inserted later. */
static void add_choice(world *w, int i, int of)
{
    if (!w->waits[of] || w->item[of].was_preempted)
        return;
    join(w, tenant_of(w, of));
    w->item[i] = w->item[of];
    w->serial[i] = w->next_serial++;
    w->waits[i] = true;
    cog_queue_add(w->q, &w->item[i]);
}

static void end(world *w, int i)
{
    int t = tenant_of(w, i);

    w->waits[i] = false;
    leave(w, t);
}

static void preempt(world *w, int i)
{
    w->item[i].was_preempted = true;
    w->serial[i] = w->next_serial++;
    cog_queue_add(w->q, &w->item[i]);
}

/* Walks some way; each item is left, admitted or removed. */
static void walk(world *w)
{
    cog_queue_cursor c;
    int left = (int)cog_rng_below(&w->rng, ITEMS + 10);

    memset(w->taken, 0, sizeof(w->taken));
    memcpy(w->walk, w->served, sizeof(w->walk));
    cog_queue_begin(&c, w->q, w->now);
    for (; left > 0; left--) {
        cog_queue_item *got = cog_queue_next(&c);
        int want = model_next(w);
        if (want < 0) {
            assert_null(got);
            assert_null(cog_queue_next(&c));
            w->ended_walks++;
            break;
        }
        assert_ptr_equal(got, &w->item[want]);
        w->taken[want] = true;
        w->returned++;
        switch (cog_rng_below(&w->rng, 6)) {
        case 0:
            model_admit(w, want);
            cog_queue_admit(w->q, got);
            w->taken[want] = false;
            w->waits[want] = false;
            break;
        case 1:
            cog_queue_remove(w->q, got);
            w->taken[want] = false;
            w->waits[want] = false;
            break;
        default:
            break;
        }
    }
    /* what became of those that wait no more: some come back preempted, the others have ended */
    for (int i = 0; i < ITEMS; i++) {
        if (w->waits[i] || !w->item[i].tenant)
            continue;
        if (cog_rng_below(&w->rng, 4) == 0) {
            w->waits[i] = true;
            preempt(w, i);
        } else {
            end(w, i);
            w->item[i].tenant = NULL;
        }
    }
}

static void random_operations_follow_the_rules(void **state)
{
    static world w;
    int n = 0;

    w.rng.key = 11;
    w.q = cog_queue_new();
    for (int round = 0; round < 20000; round++) {
        int i = (int)cog_rng_below(&w.rng, ITEMS), t = (int)cog_rng_below(&w.rng, TENANTS);
        w.now += cog_rng_below(&w.rng, SECOND);
        switch (cog_rng_below(&w.rng, 8)) {
        case 0:
            if (w.live[t]) {
                cog_queue_charge(w.q, w.tenant[t], 30);
                w.served[t] += 30;
            }
            break;
        case 1:
            walk(&w);
            break;
        case 2:
            if (w.waits[i]) {
                cog_queue_remove(w.q, &w.item[i]);
                end(&w, i);
                w.item[i].tenant = NULL;
            }
            break;
        case 3:
            if (!w.waits[i])
                add_choice(&w, i, (int)cog_rng_below(&w.rng, ITEMS));
            break;
        default:
            if (!w.waits[i] && round % 3000 < 2500)
                add(&w, i);
            break;
        }
        n = 0;
        for (int k = 0; k < ITEMS; k++)
            n += w.waits[k];
        assert_int_equal(cog_queue_count(w.q), n);
    }
    assert_true(w.returned > 10000 && w.ended_walks > 100 && w.departures > 100 && w.aged > 1000);
    for (int i = 0; i < ITEMS; i++)
        if (w.waits[i]) {
            cog_queue_remove(w.q, &w.item[i]);
            end(&w, i);
        }
    cog_queue_free(w.q);
}

/* ---- smaller worlds ---- */

static void add_item(cog_queue *q, cog_queue_item *item, cog_tenant *t, uint64_t order, int cost)
{
    *item = (cog_queue_item){ .order = order, .cost = cost, .tenant = t };
    cog_queue_add(q, item);
}

static cog_queue_item *first(cog_queue *q, uint64_t now_ns)
{
    cog_queue_cursor c;

    cog_queue_begin(&c, q, now_ns);
    return cog_queue_next(&c);
}

static cog_queue_item *admit_first(cog_queue *q, uint64_t now_ns)
{
    cog_queue_item *item = first(q, now_ns);

    cog_queue_admit(q, item);
    return item;
}

/* A walk that admits nobody returns what admissions one by one would. */
static void a_walk_is_the_order_of_repeated_admission(void **state)
{
    cog_queue_item item[ITEMS], *order[ITEMS];
    cog_queue *q = cog_queue_new();
    cog_rng rng = { .key = 5 };
    cog_queue_cursor c;
    cog_tenant *t[4];

    for (int i = 0; i < 4; i++)
        t[i] = cog_queue_join(q, (uint64_t)i);
    for (int i = 0; i < ITEMS; i++) {
        item[i] = (cog_queue_item){
            .order = (uint64_t)i,
            .arrived_ns = (uint64_t)i * SECOND,
            .priority = (int)cog_rng_below(&rng, 4),
            .was_preempted = i % 13 == 5,
            .cost = (int)cog_rng_below(&rng, 100),
            .tenant = t[cog_rng_below(&rng, 4)],
        };
        cog_queue_add(q, &item[i]);
    }
    cog_queue_begin(&c, q, (uint64_t)ITEMS * SECOND);
    for (int i = 0; i < ITEMS; i++)
        order[i] = cog_queue_next(&c);
    assert_null(cog_queue_next(&c));
    for (int i = 0; i < ITEMS; i++)
        assert_ptr_equal(admit_first(q, (uint64_t)ITEMS * SECOND), order[i]);
    for (int i = 0; i < 4; i++)
        cog_queue_leave(q, t[i]);
    cog_queue_free(q);
}

static void a_single_request_is_not_behind_a_flood(void **state)
{
    enum { FLOOD = 10000, LIGHT = 50 };
    cog_queue_item *item = calloc(FLOOD, sizeof(*item)), light;
    cog_queue *q = cog_queue_new();
    cog_tenant *flood = cog_queue_join(q, 1), *other;
    uint64_t order = 0;

    for (int i = 0; i < FLOOD; i++)
        add_item(q, &item[i], flood, order++, 100);
    for (int i = 0; i < LIGHT; i++) {
        other = cog_queue_join(q, 2);
        add_item(q, &light, other, order++, 100);
        assert_ptr_equal(admit_first(q, 0)->tenant, flood); /* it came first */
        assert_ptr_equal(admit_first(q, 0), &light);
        cog_queue_leave(q, other);
        for (int k = 0; k < 20; k++) /* its own again, undisturbed */
            assert_ptr_equal(admit_first(q, 0)->tenant, flood);
    }
    while (cog_queue_count(q) > 0)
        admit_first(q, 0);
    cog_queue_leave(q, flood);
    cog_queue_free(q);
    free(item);
}

/* Whoever waits all the time gets the same rows as whoever else does, within one admission each. */
static void tenants_that_wait_get_equal_rows(void **state)
{
    enum { N = 3, DEPTH = 4 };
    static const int cost[N] = { 1, 37, 500 };
    cog_queue_item item[N][DEPTH];
    cog_queue *q = cog_queue_new();
    cog_tenant *t[N];
    uint64_t order = 0, rows[N] = { 0 };

    for (int i = 0; i < N; i++) {
        t[i] = cog_queue_join(q, (uint64_t)i);
        for (int k = 0; k < DEPTH; k++)
            add_item(q, &item[i][k], t[i], order++, cost[i]);
    }
    for (int round = 0; round < 20000; round++) {
        cog_queue_item *got = admit_first(q, 0);
        int i = got->tenant == t[0] ? 0 : got->tenant == t[1] ? 1 : 2;
        rows[i] += (uint64_t)cost[i];
        add_item(q, got, t[i], order++, cost[i]);
        for (int a = 0; a < N; a++)
            for (int b = 0; b < N; b++)
                assert_true(rows[a] <= rows[b] + (uint64_t)cost[a]);
    }
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < DEPTH; k++)
            cog_queue_remove(q, &item[i][k]);
        cog_queue_leave(q, t[i]);
    }
    cog_queue_free(q);
}

/* One asks large questions, one at a time, and is away in between; the other always waits. Leaving
 * does not wash off what was had. */
static void leaving_does_not_settle_a_debt(void **state)
{
    cog_queue_item small[4], large;
    cog_queue *q = cog_queue_new();
    cog_tenant *always = cog_queue_join(q, 1), *visitor;
    uint64_t order = 0, rows_always = 0, rows_visitor = 0;

    for (int k = 0; k < 4; k++)
        add_item(q, &small[k], always, order++, 10);
    for (int round = 0; round < 100; round++) {
        visitor = cog_queue_join(q, 2);
        add_item(q, &large, visitor, order++, 1000);
        for (cog_queue_item *got = NULL; got != &large;) {
            got = admit_first(q, 0);
            if (got == &large)
                continue;
            rows_always += 10;
            add_item(q, got, always, order++, 10);
        }
        rows_visitor += 1000;
        cog_queue_leave(q, visitor);
        assert_true(rows_visitor <= rows_always + 1000 + 10);
    }
    for (int k = 0; k < 4; k++)
        cog_queue_remove(q, &small[k]);
    cog_queue_leave(q, always);
    cog_queue_free(q);
}

/* A tenant with a debt meets ever new tenants, one of which is always waiting. Its turn comes. */
static void newcomers_without_end_do_not_starve_anybody(void **state)
{
    enum { DEBT = 1000, COST = 10 };
    cog_queue_item mine, theirs[2];
    cog_queue *q = cog_queue_new();
    cog_tenant *debtor = cog_queue_join(q, 1), *t[2] = { NULL, NULL };
    uint64_t order = 0, id = 2;
    int passed = 0;

    add_item(q, &mine, debtor, order++, COST);
    cog_queue_charge(q, debtor, DEBT);
    for (int i = 0; i < 2; i++) {
        t[i] = cog_queue_join(q, id++);
        add_item(q, &theirs[i], t[i], order++, COST);
    }
    for (cog_queue_item *got; (got = admit_first(q, 0)) != &mine; passed++) {
        int i = (int)(got - theirs);
        assert_true(passed < 3 * (DEBT / COST) + 6); /* three tenants wait at a time */
        cog_queue_leave(q, t[i]);
        t[i] = cog_queue_join(q, id++);
        add_item(q, &theirs[i], t[i], order++, COST);
    }
    assert_true(passed >= DEBT / COST);
    for (int i = 0; i < 2; i++) {
        cog_queue_remove(q, &theirs[i]);
        cog_queue_leave(q, t[i]);
    }
    cog_queue_leave(q, debtor);
    cog_queue_free(q);
}

static void patience_ends_the_wait_of_the_lowest_priority(void **state)
{
    cog_queue_item low, high[2];
    cog_queue *q = cog_queue_new();
    cog_tenant *t = cog_queue_join(q, 1);
    uint64_t now = 7 * (uint64_t)SECOND;

    low = (cog_queue_item){ .arrived_ns = now, .priority = 100, .tenant = t };
    cog_queue_add(q, &low);
    for (int i = 0; i < 2; i++) {
        high[i] = (cog_queue_item){ .order = 1 + (uint64_t)i, .priority = -3, .tenant = t };
        high[i].arrived_ns = now;
        cog_queue_add(q, &high[i]);
    }
    assert_ptr_equal(first(q, now), &high[0]);
    assert_ptr_equal(first(q, now + COG_QUEUE_PATIENCE_NS - 1), &high[0]);
    assert_ptr_equal(first(q, now + COG_QUEUE_PATIENCE_NS), &low);
    cog_queue_remove(q, &low);
    cog_queue_remove(q, &high[0]);
    cog_queue_remove(q, &high[1]);
    cog_queue_leave(q, t);
    cog_queue_free(q);
}

static void who_was_preempted_comes_first_and_pays_once(void **state)
{
    cog_queue_item a, b, c;
    cog_queue *q = cog_queue_new();
    cog_tenant *x = cog_queue_join(q, 1), *y = cog_queue_join(q, 2);

    add_item(q, &a, x, 5, 100);
    add_item(q, &b, x, 6, 100);
    add_item(q, &c, y, 7, 100);
    assert_ptr_equal(admit_first(q, 0), &a);
    a.was_preempted = true;
    a.priority = 100;
    cog_queue_add(q, &a);
    assert_ptr_equal(admit_first(q, 0), &a); /* though its tenant was served and it is the lowest */
    assert_ptr_equal(admit_first(q, 0), &c);
    add_item(q, &c, y, 8, 100);
    assert_ptr_equal(first(q, 0), &b); /* had x paid twice, y would be next */
    cog_queue_remove(q, &b);
    cog_queue_remove(q, &c);
    cog_queue_leave(q, x);
    cog_queue_leave(q, y);
    cog_queue_free(q);
}

/* What an admission counts, it counts before its rows are computed. */
static void admissions_count_at_once(void **state)
{
    cog_queue_item x[4], y[4];
    cog_queue *q = cog_queue_new();
    cog_tenant *a = cog_queue_join(q, 1), *b = cog_queue_join(q, 2);

    for (int i = 0; i < 4; i++)
        add_item(q, &x[i], a, (uint64_t)i, 10);
    for (int i = 0; i < 4; i++)
        add_item(q, &y[i], b, 10 + (uint64_t)i, 10);
    for (int i = 0; i < 4; i++) {
        assert_ptr_equal(admit_first(q, 0), &x[i]);
        assert_ptr_equal(admit_first(q, 0), &y[i]);
    }
    cog_queue_leave(q, a);
    cog_queue_leave(q, b);
    cog_queue_free(q);
}

/* More tenants than the table begins with, each found again, and none kept for ever. */
static void many_tenants_come_and_go(void **state)
{
    enum { N = 5000 };
    cog_queue_item *item = calloc(N, sizeof(*item));
    cog_queue *q = cog_queue_new();
    cog_tenant **t = calloc(N, sizeof(cog_tenant *));

    for (int i = 0; i < N; i++) {
        t[i] = cog_queue_join(q, (uint64_t)i << 32);
        add_item(q, &item[i], t[i], (uint64_t)i, 1 + i % 3);
    }
    for (int i = 0; i < N; i++) {
        assert_ptr_equal(cog_queue_join(q, (uint64_t)i << 32), t[i]);
        cog_queue_leave(q, t[i]);
    }
    for (int i = 0; i < N; i++)
        assert_ptr_equal(admit_first(q, 0), &item[i]);
    for (int i = 0; i < N; i++)
        cog_queue_leave(q, t[i]);
    assert_int_equal(cog_queue_count(q), 0);
    cog_queue_free(q); /* asserts that no tenant is left */
    free(t);
    free(item);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_follow_the_rules),
        cmocka_unit_test(a_walk_is_the_order_of_repeated_admission),
        cmocka_unit_test(a_single_request_is_not_behind_a_flood),
        cmocka_unit_test(tenants_that_wait_get_equal_rows),
        cmocka_unit_test(leaving_does_not_settle_a_debt),
        cmocka_unit_test(newcomers_without_end_do_not_starve_anybody),
        cmocka_unit_test(patience_ends_the_wait_of_the_lowest_priority),
        cmocka_unit_test(who_was_preempted_comes_first_and_pays_once),
        cmocka_unit_test(admissions_count_at_once),
        cmocka_unit_test(many_tenants_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
