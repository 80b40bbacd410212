/* pool.h - worker threads for what a backend does on the host: the CPU backend's kernels, loading.
 *
 * A call of run is one parallel section with one join. Items are handed out one by one, so a slow
 * worker delays its own item only; a result may never depend on which thread computed it. Workers
 * look for work for a few microseconds after a section, then sleep; a worker that wakes up after
 * the section has ended does not take part in it, and nobody waits for it. */
#ifndef COG_ENGINE_POOL_H
#define COG_ENGINE_POOL_H

#include "base/err.h"

typedef struct cog_pool cog_pool;

/* threads: the calling thread included; 0: one per core this process may run on. */
int cog_pool_open(cog_pool **out, int threads, cog_err *err);
void cog_pool_close(cog_pool *p); /* NULL is fine */
int cog_pool_threads(const cog_pool *p);

/* fn(arg, item, thread) for each item in [0, n), thread in [0, cog_pool_threads). Returns when all
 * have returned. One caller at a time. */
void cog_pool_run(cog_pool *p, void (*fn)(void *arg, int item, int thread), void *arg, int n);

#endif
