/* queue.h - the order in which waiting sequences are admitted. Pure logic on plain data: no clock
 * but the times it is given, no tensors, no threads.
 *
 *   1. who was preempted, in order of arrival: its work so far is still worth something;
 *   2. the smaller priority; who has waited COG_QUEUE_PATIENCE_NS counts as of the smallest there
 *      is, so that none starves;
 *   3. among equals, a sequence of the tenant that has been served least;
 *   4. in order of arrival.
 *
 * Served is counted in rows computed, per tenant, while the tenant has live sequences. A tenant
 * that comes, or comes back, starts at the least served of those that are there: being away earns
 * nothing. This is the virtual token counter of Sheng et al., "Fairness in Serving Large Language
 * Models" (OSDI 2024). */
#ifndef COG_ENGINE_QUEUE_H
#define COG_ENGINE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#define COG_QUEUE_PATIENCE_NS 30000000000u

typedef struct cog_tenant cog_tenant;

/* Part of a sequence; fields up to cost are set by its owner before it is added. */
typedef struct cog_queue_item {
    uint64_t order; /* of arrival; equal orders stay in order of insertion */
    uint64_t arrived_ns;
    int priority; /* -100..100, smaller first */
    bool was_preempted;
    int cost;           /* rows that admitting it will take: what a cursor counts for its tenant */
    cog_tenant *tenant; /* from cog_queue_join */
    struct cog_queue_item *prev, *next;
} cog_queue_item;

typedef struct cog_queue cog_queue;

cog_queue *cog_queue_new(void);
void cog_queue_free(cog_queue *q); /* empty, and every tenant has left; NULL is fine */

/* A live sequence of the tenant `id` begins, or ends, whether it waits or runs. */
cog_tenant *cog_queue_join(cog_queue *q, uint64_t id);
void cog_queue_leave(cog_queue *q, cog_tenant *t);

/* Rows were computed for the tenant. */
void cog_queue_charge(cog_queue *q, cog_tenant *t, int rows);

void cog_queue_add(cog_queue *q, cog_queue_item *item);
void cog_queue_remove(cog_queue *q, cog_queue_item *item);
int cog_queue_count(const cog_queue *q);

/* Walks the waiting items in the order in which they would be admitted if each took its cost in
 * turn. Nothing may be added during a walk, and only the item that was returned last removed.
 * Walking k items costs O(k * tenants). */
typedef struct cog_queue_cursor {
    cog_queue *queue;
    uint64_t now_ns;
    uint64_t walk; /* which walk a tenant's marks belong to */
} cog_queue_cursor;

void cog_queue_begin(cog_queue_cursor *c, cog_queue *q, uint64_t now_ns);
cog_queue_item *cog_queue_next(cog_queue_cursor *c); /* NULL: none left */

#endif
