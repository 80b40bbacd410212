/* Threads for bodies: small work never waits for large, and every work ends once. */
#include "tests/unit/unit.h"

#include "server/workers.h"

#include <stdatomic.h>
#include <stddef.h>

enum { N_THREADS = 3 };

typedef struct task {
    cog_work work;
    int n_run, n_done;
    atomic_bool *gate; /* runs until it opens; NULL: at once */
    atomic_int *running;
} task;

typedef struct rig {
    uv_loop_t loop;
    cog_workers *workers;
} rig;

static rig *setup(rig *r)
{
    uv_loop_init(&r->loop);
    r->workers = cog_workers_open(&r->loop, N_THREADS);
    return r;
}

static void teardown(rig *r)
{
    cog_workers_close(r->workers);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    cog_workers_free(r->workers);
    assert_int_equal(uv_loop_close(&r->loop), 0);
}

static task *task_of(cog_work *w)
{
    return (task *)(void *)((char *)w - offsetof(task, work));
}

static void run(cog_work *w)
{
    task *t = task_of(w);

    if (t->running)
        atomic_fetch_add(t->running, 1);
    while (t->gate && !atomic_load(t->gate))
        uv_sleep(1);
    t->n_run++;
}

static void done(cog_work *w)
{
    task_of(w)->n_done++;
}

static void post(rig *r, task *t, bool is_large)
{
    t->work.run = run;
    t->work.done = done;
    cog_workers_post(r->workers, &t->work, is_large);
}

static void wait_done(rig *r, const task *t, int n)
{
    for (int i = 0; i < n; i++) {
        while (t[i].n_done == 0)
            uv_run(&r->loop, UV_RUN_ONCE);
    }
}

static void each_ends_once(void **state)
{
    static task tasks[2000];
    rig r;

    setup(&r);
    for (int i = 0; i < 2000; i++)
        post(&r, &tasks[i], i % 3 == 0);
    wait_done(&r, tasks, 2000);
    teardown(&r);
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(tasks[i].n_run, 1);
        assert_int_equal(tasks[i].n_done, 1);
    }
}

/* More large work than threads, none of which ends; small work ends nevertheless. */
static void small_work_does_not_wait(void **state)
{
    atomic_bool gate = false;
    atomic_int running = 0;
    task large[5] = { 0 }, small[50] = { 0 };
    rig r;

    setup(&r);
    for (int i = 0; i < 5; i++) {
        large[i].gate = &gate;
        large[i].running = &running;
        post(&r, &large[i], true);
    }
    while (atomic_load(&running) < N_THREADS - 1)
        uv_sleep(1);
    for (int i = 0; i < 50; i++)
        post(&r, &small[i], false);
    wait_done(&r, small, 50);
    assert_int_equal(atomic_load(&running), N_THREADS - 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(large[i].n_done, 0);
    atomic_store(&gate, true);
    wait_done(&r, large, 5);
    teardown(&r);
}

/* All threads may do small work. */
static void small_work_takes_all_threads(void **state)
{
    atomic_bool gate = false;
    atomic_int running = 0;
    task small[N_THREADS] = { 0 };
    rig r;

    setup(&r);
    for (int i = 0; i < N_THREADS; i++) {
        small[i].gate = &gate;
        small[i].running = &running;
        post(&r, &small[i], false);
    }
    while (atomic_load(&running) < N_THREADS)
        uv_sleep(1);
    atomic_store(&gate, true);
    wait_done(&r, small, N_THREADS);
    teardown(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_ends_once),
        cmocka_unit_test(small_work_does_not_wait),
        cmocka_unit_test(small_work_takes_all_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
