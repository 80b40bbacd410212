/* workers.h - threads for work on request bodies that is too long for the loop thread.
 *
 * Small work never waits for large work: it goes first, and one thread never takes anything else.
 * Among equals the order is that of arrival. Every posted work gets exactly one done, on the loop.
 *
 * The loop thread only; run is called on a worker. */
#ifndef COG_SERVER_WORKERS_H
#define COG_SERVER_WORKERS_H

#include <stdbool.h>
#include <uv.h>

typedef struct cog_work {
    void (*run)(struct cog_work *w);
    void (*done)(struct cog_work *w);
    struct cog_work *next; /* the workers' until done */
} cog_work;

typedef struct cog_workers cog_workers;

/* n_threads >= 2. */
cog_workers *cog_workers_open(uv_loop_t *loop, int n_threads);
void cog_workers_post(cog_workers *ws, cog_work *w, bool is_large);
/* Nothing is posted. Joins the threads and closes what it has on the loop; free it when the loop
 * has run that. */
void cog_workers_close(cog_workers *ws);
void cog_workers_free(cog_workers *ws); /* NULL is fine */

#endif
