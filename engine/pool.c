#include "engine/pool.h"

#include "base/alloc.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    MAX_THREADS = 1024,
    /* Zen 4: a pause is about 40 cycles, so some 8 us. The gaps between the sections of one layer
     * are shorter; longer spinning costs whoever shares the machine. */
    SPINS = 512,
};

/* state: generation in the high half, then a bit that says the section takes no more workers, then
 * the number of workers inside. The section's description may change only while CLOSED is set and
 * nobody is inside. */
#define GENERATION ((uint64_t)1 << 32)
#define CLOSED     ((uint64_t)1 << 31)
#define INSIDE     (CLOSED - 1)

typedef struct worker {
    cog_pool *pool;
    pthread_t thread;
    int index;
} worker;

struct cog_pool {
    int threads, started;
    _Alignas(64) _Atomic uint64_t state;
    _Alignas(64) _Atomic int next;
    void (*fn)(void *arg, int item, int thread);
    void *arg;
    int n;

    pthread_mutex_t lock;
    pthread_cond_t work, done;
    _Atomic int sleepers; /* workers about to sleep or asleep on work */
    atomic_bool waiting;  /* the caller is about to sleep or asleep on done */
    atomic_bool quit;
    worker *worker; /* [threads - 1] */
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_items(cog_pool *p, int thread)
{
    for (;;) {
        int item = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (item >= p->n)
            return;
        p->fn(p->arg, item, thread);
    }
}

static bool is_new(uint64_t state, uint64_t seen)
{
    return state / GENERATION != seen && !(state & CLOSED);
}

static void leave(cog_pool *p)
{
    uint64_t state = atomic_fetch_sub(&p->state, 1) - 1;

    if ((state & CLOSED) && !(state & INSIDE) && atomic_load(&p->waiting)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
    }
}

static void sleep_until_new(cog_pool *p, uint64_t seen)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (!is_new(atomic_load(&p->state), seen) && !atomic_load(&p->quit))
        pthread_cond_wait(&p->work, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    cog_pool *p = w->pool;
    uint64_t seen = 0;

    while (!atomic_load(&p->quit)) {
        uint64_t state = atomic_load(&p->state);
        for (int i = 0; i < SPINS && !is_new(state, seen); i++) {
            relax();
            state = atomic_load(&p->state);
        }
        if (!is_new(state, seen)) {
            sleep_until_new(p, seen);
            continue;
        }
        if (!atomic_compare_exchange_strong(&p->state, &state, state + 1))
            continue;
        seen = state / GENERATION;
        take_items(p, w->index);
        leave(p);
    }
    return NULL;
}

/* Cores that the control group's quota amounts to, rounded up (version 2, then 1); 0: no quota. */
static int quota_cores(void)
{
    long long quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");

    if (f) {
        if (fscanf(f, "%lld %lld", &quota, &period) != 2) /* "max 100000" */
            quota = 0;
        fclose(f);
    } else if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r"))) {
        if (fscanf(f, "%lld", &quota) != 1)
            quota = 0;
        fclose(f);
        if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r"))) {
            if (fscanf(f, "%lld", &period) != 1)
                period = 0;
            fclose(f);
        }
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

/* What this process may use: its affinity (the mask is sized for any machine), cut by its quota. */
static int available_cores(void)
{
    enum { MAX_CPUS = 65536 };
    cpu_set_t *set = CPU_ALLOC(MAX_CPUS);
    size_t size = CPU_ALLOC_SIZE(MAX_CPUS);
    int quota = quota_cores(), n = 1;

    if (set && sched_getaffinity(0, size, set) == 0)
        n = CPU_COUNT_S(size, set);
    CPU_FREE(set);
    if (quota > 0 && quota < n)
        n = quota;
    return n > MAX_THREADS ? MAX_THREADS : n;
}

int cog_pool_open(cog_pool **out, int threads, cog_err *err)
{
    cog_pool *p;

    if (threads < 0 || threads > MAX_THREADS)
        return cog_err_set(err, COG_EINVAL, "threads is %d, must be 0 to %d", threads, MAX_THREADS);
    p = cog_alloc_aligned(sizeof(*p), 64);
    p->threads = threads ? threads : available_cores();
    p->worker = cog_array(worker, (size_t)p->threads);
    atomic_init(&p->state, CLOSED);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    for (int i = 0; i < p->threads - 1; i++) {
        p->worker[i] = (worker){ .pool = p, .index = i + 1 };
        int rc = pthread_create(&p->worker[i].thread, NULL, worker_main, &p->worker[i]);
        if (rc != 0) {
            cog_err_set(err, COG_ENOMEM, "cannot start worker thread %d of %d: %s", i + 1,
                        p->threads - 1, strerror(rc));
            cog_pool_close(p);
            return COG_ENOMEM;
        }
        p->started++;
    }
    *out = p;
    return 0;
}

void cog_pool_close(cog_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->quit, true);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->worker[i].thread, NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->lock);
    cog_free(p->worker);
    cog_free(p);
}

int cog_pool_threads(const cog_pool *p)
{
    return p->threads;
}

static void wait_until_empty(cog_pool *p)
{
    for (int i = 0; i < SPINS; i++) {
        if (!(atomic_load(&p->state) & INSIDE))
            return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->waiting, true);
    while (atomic_load(&p->state) & INSIDE)
        pthread_cond_wait(&p->done, &p->lock);
    atomic_store(&p->waiting, false);
    pthread_mutex_unlock(&p->lock);
}

void cog_pool_run(cog_pool *p, void (*fn)(void *arg, int item, int thread), void *arg, int n)
{
    if (n <= 1 || p->threads == 1) {
        for (int i = 0; i < n; i++)
            fn(arg, i, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->n = n;
    atomic_store(&p->next, 0);
    /* CLOSED is set and nobody is inside: adding lets workers in under a new generation. */
    atomic_store(&p->state, (atomic_load(&p->state) / GENERATION + 1) * GENERATION);
    if (atomic_load(&p->sleepers) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->lock);
    }
    take_items(p, 0);
    atomic_fetch_or(&p->state, CLOSED);
    wait_until_empty(p);
}
