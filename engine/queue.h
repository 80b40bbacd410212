/* queue.h - the order in which waiting sequences are admitted. Pure logic on plain data: no clock
 * but the times it is given, no tensors, no threads.
 *
 *   1. who was preempted, in order of arrival: its work so far is still worth something;
 *   2. the smaller priority; who has waited COG_QUEUE_PATIENCE_NS counts as of the smallest that
 *      anybody waiting has, so that none starves;
 *   3. among equals, a sequence of the tenant that has been served least;
 *   4. in order of arrival.
 *
 * Served is counted in rows: what an admission costs at once, rows after that as they are computed.
 * A tenant that begins to wait, having had nothing waiting, starts at the level of those that wait
 * if it was served less: being away earns nothing. What it was served beyond the level stays until
 * the level has passed it, also while it is away. This is the virtual token counter of Sheng et
 * al., "Fairness in Serving Large Language Models" (OSDI 2024), with the virtual time of start-time
 * fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) for the level; it also rises by an admission's
 * share for each waiting tenant, so that newcomers without end cannot hold it down.
 */
#ifndef COG_ENGINE_QUEUE_H
#define COG_ENGINE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#define COG_QUEUE_PATIENCE_NS 30000000000u

typedef struct cog_tenant cog_tenant;

/* Part of a sequence; fields up to tenant are set by its owner before it is added. */
typedef struct cog_queue_item {
    uint64_t order;      /* of arrival; equal orders of one tenant stay in order of insertion */
    uint64_t arrived_ns; /* does not fall with a tenant's orders */
    int priority;        /* -100..100, smaller first */
    bool was_preempted;
    int cost;           /* rows that admitting it will take; the owner may correct it at any time */
    cog_tenant *tenant; /* from cog_queue_join */
    /* the queue's */
    struct cog_queue_item *prev, *next;
    struct cog_queue_list *list;
} cog_queue_item;

typedef struct cog_queue cog_queue;

cog_queue *cog_queue_new(void);
void cog_queue_free(cog_queue *q); /* empty, and every tenant has left; NULL is fine */

/* A live sequence of the tenant `id` begins, or ends, whether it waits or runs. Not during a walk.
 */
cog_tenant *cog_queue_join(cog_queue *q, uint64_t id);
void cog_queue_leave(cog_queue *q, cog_tenant *t);

/* Rows were computed for the tenant that no admission counted: those of its answers' tokens. */
void cog_queue_charge(cog_queue *q, cog_tenant *t, int rows);

void cog_queue_add(cog_queue *q, cog_queue_item *item); /* allocates nothing if was_preempted */
/* It runs now: leaves the queue, and its tenant is charged its cost unless it was preempted. */
void cog_queue_admit(cog_queue *q, cog_queue_item *item);
/* It leaves the queue for another reason. */
void cog_queue_remove(cog_queue *q, cog_queue_item *item);
int cog_queue_count(const cog_queue *q);

/* Walks the waiting items in the order in which they would be admitted if each took its cost in
 * turn. One walk at a time; nothing may be added during it, and only the item that was returned
 * last admitted or removed. A walk of k items takes O(tenants + k log tenants), and O(tenants)
 * again for each priority that it gets to the end of. */
typedef struct cog_queue_cursor {
    cog_queue *queue;
    uint64_t now_ns;
} cog_queue_cursor;

void cog_queue_begin(cog_queue_cursor *c, cog_queue *q, uint64_t now_ns);
cog_queue_item *cog_queue_next(cog_queue_cursor *c); /* NULL: none left */

#endif
