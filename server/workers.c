#include "server/workers.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>

typedef struct work_queue {
    cog_work *head, **tail;
} work_queue;

struct cog_workers {
    uv_async_t ended; /* there is something in done */
    uv_mutex_t lock;  /* guards all that follows */
    uv_cond_t arrived;
    work_queue small, large, done;
    int n_threads;
    int n_large; /* threads at large work */
    bool is_stopping;
    uv_thread_t threads[]; /* not guarded: the loop's */
};

static void push(work_queue *q, cog_work *w)
{
    w->next = NULL;
    *q->tail = w;
    q->tail = &w->next;
}

static cog_work *pop(work_queue *q)
{
    cog_work *w = q->head;

    if (!w)
        return NULL;
    q->head = w->next;
    if (!q->head)
        q->tail = &q->head;
    return w;
}

/* With the lock held. NULL: nothing for this thread now. */
static cog_work *next_work(cog_workers *ws, bool *is_large)
{
    cog_work *w = pop(&ws->small);

    *is_large = !w && ws->n_large < ws->n_threads - 1;
    if (*is_large)
        w = pop(&ws->large);
    return w;
}

static void run(void *arg)
{
    cog_workers *ws = arg;

    uv_mutex_lock(&ws->lock);
    while (!ws->is_stopping) {
        bool is_large;
        cog_work *w = next_work(ws, &is_large);

        if (!w) {
            uv_cond_wait(&ws->arrived, &ws->lock);
            continue;
        }
        ws->n_large += is_large;
        uv_mutex_unlock(&ws->lock);
        w->run(w);
        uv_mutex_lock(&ws->lock);
        ws->n_large -= is_large;
        push(&ws->done, w);
        uv_async_send(&ws->ended);
    }
    uv_mutex_unlock(&ws->lock);
}

static void on_ended(uv_async_t *a)
{
    cog_workers *ws = a->data;
    cog_work *w, *next;

    uv_mutex_lock(&ws->lock);
    w = ws->done.head;
    ws->done = (work_queue){ .tail = &ws->done.head };
    uv_mutex_unlock(&ws->lock);
    for (; w; w = next) {
        next = w->next;
        w->done(w);
    }
}

cog_workers *cog_workers_open(uv_loop_t *loop, int n_threads)
{
    cog_workers *ws = cog_alloc(1, sizeof(*ws) + (size_t)n_threads * sizeof(ws->threads[0]));

    assert(n_threads >= 2);
    ws->n_threads = n_threads;
    ws->small.tail = &ws->small.head;
    ws->large.tail = &ws->large.head;
    ws->done.tail = &ws->done.head;
    if (uv_mutex_init(&ws->lock) != 0 || uv_cond_init(&ws->arrived) != 0)
        abort(); /* out of memory */
    uv_async_init(loop, &ws->ended, on_ended);
    ws->ended.data = ws;
    for (int i = 0; i < n_threads; i++) {
        if (uv_thread_create(&ws->threads[i], run, ws) != 0)
            abort();
    }
    return ws;
}

void cog_workers_post(cog_workers *ws, cog_work *w, bool is_large)
{
    uv_mutex_lock(&ws->lock);
    push(is_large ? &ws->large : &ws->small, w);
    uv_cond_signal(&ws->arrived);
    uv_mutex_unlock(&ws->lock);
}

void cog_workers_close(cog_workers *ws)
{
    uv_mutex_lock(&ws->lock);
    ws->is_stopping = true;
    uv_cond_broadcast(&ws->arrived);
    uv_mutex_unlock(&ws->lock);
    for (int i = 0; i < ws->n_threads; i++)
        uv_thread_join(&ws->threads[i]);
    uv_close((uv_handle_t *)&ws->ended, NULL);
}

void cog_workers_free(cog_workers *ws)
{
    if (!ws)
        return;
    uv_cond_destroy(&ws->arrived);
    uv_mutex_destroy(&ws->lock);
    cog_free(ws);
}
