#include "engine/queue.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <assert.h>

enum { MIN_BUCKETS = 16, MAX_DEPARTED = 1024 };

typedef struct cog_queue_list { /* of one tenant and priority, or of who was preempted; by order */
    int priority;
    cog_queue_item *head, *tail;
    cog_queue_item *at; /* the walk's next */
    struct cog_queue_list *next;
} cog_queue_list;

typedef struct tenant_list {
    cog_tenant *head, *tail;
    int n;
} tenant_list;

struct cog_tenant {
    uint64_t id;
    cog_tenant *same_bucket;
    cog_tenant *prev, *next; /* among those that wait, or that departed with a debt */
    int n_live, n_waiting;   /* sequences; waiting: without the preempted */
    uint64_t served;
    cog_queue_list *lists; /* by priority */
    uint64_t taken;        /* what the walk has counted beyond served */
    cog_queue_list *first; /* whose `at` is the tenant's next item in the walk */
};

struct cog_queue {
    cog_tenant **bucket; /* [n_buckets], a power of two and at least n_tenants */
    int n_buckets, n_tenants, n_live, n_items;
    tenant_list waiting, departed;
    cog_queue_list preempted;
    uint64_t level, level_rest; /* where a tenant starts; rows that were not enough for one more */

    /* the walk */
    bool is_walking;         /* past the preempted */
    cog_tenant **heap;       /* [n_buckets]: who has an item of the best class left */
    int n_heap;              /* the smallest (served + taken, order) on top */
    int smallest;            /* the best class's priority */
    int n_smallest;          /* lists of that priority with items left */
    cog_queue_item *last;    /* returned, still waiting */
    uint64_t last_cost;      /* what was taken for it */
    cog_tenant *last_tenant; /* on top of the heap, its key out of date */
};

cog_queue *cog_queue_new(void)
{
    cog_queue *q = cog_new(cog_queue);

    q->n_buckets = MIN_BUCKETS;
    q->bucket = cog_array(cog_tenant *, MIN_BUCKETS);
    q->heap = cog_array(cog_tenant *, MIN_BUCKETS);
    return q;
}

void cog_queue_free(cog_queue *q)
{
    if (!q)
        return;
    assert(q->n_items == 0 && q->n_tenants == 0);
    cog_free(q->bucket);
    cog_free(q->heap);
    cog_free(q);
}

/* ------------------------------------------------------------------ tenants */

static void link_tenant(tenant_list *l, cog_tenant *t)
{
    t->prev = l->tail;
    t->next = NULL;
    *(l->tail ? &l->tail->next : &l->head) = t;
    l->tail = t;
    l->n++;
}

static void unlink_tenant(tenant_list *l, cog_tenant *t)
{
    *(t->next ? &t->next->prev : &l->tail) = t->prev;
    *(t->prev ? &t->prev->next : &l->head) = t->next;
    l->n--;
}

static cog_tenant **bucket_of(cog_queue *q, uint64_t id)
{
    return &q->bucket[cog_rng_mix(id) & (uint64_t)(q->n_buckets - 1)];
}

static void grow(cog_queue *q)
{
    cog_tenant **old = q->bucket;
    int n_old = q->n_buckets;

    q->n_buckets *= 2;
    q->bucket = cog_array(cog_tenant *, (size_t)q->n_buckets);
    for (int i = 0; i < n_old; i++)
        for (cog_tenant *t = old[i], *next; t; t = next) {
            cog_tenant **to = bucket_of(q, t->id);
            next = t->same_bucket;
            t->same_bucket = *to;
            *to = t;
        }
    cog_free(old);
    cog_free(q->heap);
    q->heap = cog_array(cog_tenant *, (size_t)q->n_buckets);
}

static void forget(cog_queue *q, cog_tenant *t)
{
    cog_tenant **link = bucket_of(q, t->id);

    while (*link != t)
        link = &(*link)->same_bucket;
    *link = t->same_bucket;
    for (cog_queue_list *l = t->lists, *next; l; l = next) {
        next = l->next;
        cog_free(l);
    }
    cog_free(t);
    q->n_tenants--;
}

static void forget_departed(cog_queue *q, cog_tenant *t)
{
    unlink_tenant(&q->departed, t);
    forget(q, t);
}

/* Debts are kept while somebody is there to whom they are owed and until the level has passed them.
 * Two are looked at for each that comes, so that the list does not outlast them. */
static void settle_departed(cog_queue *q)
{
    for (int i = 0; i < 2 && q->departed.head; i++) {
        cog_tenant *t = q->departed.head;
        if (t->served <= q->level || q->departed.n > MAX_DEPARTED) {
            forget_departed(q, t);
        } else {
            unlink_tenant(&q->departed, t);
            link_tenant(&q->departed, t);
        }
    }
    if (q->n_live > 0)
        return;
    while (q->departed.head)
        forget_departed(q, q->departed.head);
    q->level = q->level_rest = 0;
}

cog_tenant *cog_queue_join(cog_queue *q, uint64_t id)
{
    cog_tenant *t = *bucket_of(q, id);

    while (t && t->id != id)
        t = t->same_bucket;
    if (!t) {
        if (q->n_tenants == q->n_buckets)
            grow(q);
        t = cog_new(cog_tenant);
        t->id = id;
        t->same_bucket = *bucket_of(q, id);
        *bucket_of(q, id) = t;
        q->n_tenants++;
    } else if (t->n_live == 0) {
        unlink_tenant(&q->departed, t);
    }
    t->n_live++;
    q->n_live++;
    return t;
}

void cog_queue_leave(cog_queue *q, cog_tenant *t)
{
    assert(t->n_live > 0);
    q->n_live--;
    if (--t->n_live > 0)
        return;
    assert(t->n_waiting == 0);
    link_tenant(&q->departed, t);
    settle_departed(q);
}

void cog_queue_charge(cog_queue *q, cog_tenant *t, int rows)
{
    (void)q;
    t->served += (uint64_t)rows;
}

/* ------------------------------------------------------------------ items */

static cog_queue_list *list_of(cog_tenant *t, int priority)
{
    cog_queue_list **link = &t->lists, *l;

    while (*link && (*link)->priority < priority)
        link = &(*link)->next;
    if (*link && (*link)->priority == priority)
        return *link;
    l = cog_new(cog_queue_list);
    l->priority = priority;
    l->next = *link;
    *link = l;
    return l;
}

/* Most arrive last; an answer that splits off a running one comes before all. So the place is
 * looked for from both ends at once. */
static void insert(cog_queue_list *l, cog_queue_item *item)
{
    cog_queue_item *after = l->tail, *before = l->head;

    while (after && after->order > item->order && before && before->order <= item->order) {
        after = after->prev;
        before = before->next;
    }
    if (after && after->order <= item->order)
        before = after->next;
    else if (before)
        after = before->prev;
    item->list = l;
    item->prev = after;
    item->next = before;
    *(before ? &before->prev : &l->tail) = item;
    *(after ? &after->next : &l->head) = item;
}

void cog_queue_add(cog_queue *q, cog_queue_item *item)
{
    cog_tenant *t = item->tenant;

    q->n_items++;
    if (item->was_preempted) {
        insert(&q->preempted, item);
        return;
    }
    insert(list_of(t, item->priority), item);
    if (t->n_waiting++ > 0)
        return;
    link_tenant(&q->waiting, t);
    if (t->served < q->level)
        t->served = q->level;
}

void cog_queue_remove(cog_queue *q, cog_queue_item *item)
{
    cog_queue_list *l = item->list;

    *(item->next ? &item->next->prev : &l->tail) = item->prev;
    *(item->prev ? &item->prev->next : &l->head) = item->next;
    item->prev = item->next = NULL;
    item->list = NULL;
    q->n_items--;
    if (q->last == item)
        q->last = NULL;
    if (l != &q->preempted && --item->tenant->n_waiting == 0)
        unlink_tenant(&q->waiting, item->tenant);
}

static void raise_level(cog_queue *q, uint64_t cost, uint64_t start)
{
    uint64_t n = (uint64_t)q->waiting.n;

    q->level_rest += cost;
    q->level += q->level_rest / n;
    q->level_rest %= n;
    if (q->level < start) {
        q->level = start;
        q->level_rest = 0;
    }
}

void cog_queue_admit(cog_queue *q, cog_queue_item *item)
{
    cog_tenant *t = item->tenant;

    if (item->list != &q->preempted) {
        raise_level(q, (uint64_t)item->cost, t->served);
        if (q->last == item)
            t->taken -= q->last_cost;
        t->served += (uint64_t)item->cost;
    }
    cog_queue_remove(q, item);
}

int cog_queue_count(const cog_queue *q)
{
    return q->n_items;
}

/* ------------------------------------------------------------------ the walk */

/* The tenant's next item of the best class. */
static bool find_first(const cog_queue_cursor *c, cog_tenant *t)
{
    const cog_queue_item *best = NULL;

    for (cog_queue_list *l = t->lists; l; l = l->next) {
        const cog_queue_item *item = l->at;
        if (!item || (best && best->order <= item->order))
            continue;
        if (l->priority == c->queue->smallest ||
            item->arrived_ns + COG_QUEUE_PATIENCE_NS <= c->now_ns) {
            best = item;
            t->first = l;
        }
    }
    return best;
}

static bool is_before(const cog_tenant *a, const cog_tenant *b)
{
    uint64_t key_a = a->served + a->taken, key_b = b->served + b->taken;

    return key_a != key_b ? key_a < key_b : a->first->at->order < b->first->at->order;
}

static void sift_down(cog_queue *q, int i)
{
    cog_tenant *t = q->heap[i];

    for (int child; (child = 2 * i + 1) < q->n_heap; i = child) {
        if (child + 1 < q->n_heap && is_before(q->heap[child + 1], q->heap[child]))
            child++;
        if (!is_before(q->heap[child], t))
            break;
        q->heap[i] = q->heap[child];
    }
    q->heap[i] = t;
}

static void count_smallest(cog_queue *q)
{
    q->n_smallest = 0;
    for (const cog_tenant *t = q->waiting.head; t; t = t->next)
        for (const cog_queue_list *l = t->lists; l; l = l->next) {
            if (!l->at || (q->n_smallest && l->priority > q->smallest))
                continue;
            if (!q->n_smallest || l->priority < q->smallest)
                q->n_smallest = 0;
            q->smallest = l->priority;
            q->n_smallest++;
        }
}

static void build_heap(const cog_queue_cursor *c)
{
    cog_queue *q = c->queue;

    count_smallest(q);
    q->n_heap = 0;
    q->last_tenant = NULL;
    for (cog_tenant *t = q->waiting.head; t; t = t->next)
        if (find_first(c, t))
            q->heap[q->n_heap++] = t;
    for (int i = q->n_heap / 2 - 1; i >= 0; i--)
        sift_down(q, i);
}

static void begin_tenants(const cog_queue_cursor *c)
{
    cog_queue *q = c->queue;

    q->is_walking = true;
    for (cog_tenant *t = q->waiting.head; t; t = t->next) {
        t->taken = 0;
        for (cog_queue_list *l = t->lists; l; l = l->next)
            l->at = l->head;
    }
    build_heap(c);
}

/* Brings the heap up to date with what was returned last and what became of it. */
static void update_heap(const cog_queue_cursor *c)
{
    cog_queue *q = c->queue;

    if (!q->last_tenant)
        return;
    if (q->n_smallest == 0) {
        build_heap(c);
        return;
    }
    if (!find_first(c, q->last_tenant))
        q->heap[0] = q->heap[--q->n_heap];
    if (q->n_heap > 0)
        sift_down(q, 0);
}

void cog_queue_begin(cog_queue_cursor *c, cog_queue *q, uint64_t now_ns)
{
    *c = (cog_queue_cursor){ .queue = q, .now_ns = now_ns };
    q->preempted.at = q->preempted.head;
    q->is_walking = false;
    q->last = NULL;
}

cog_queue_item *cog_queue_next(cog_queue_cursor *c)
{
    cog_queue *q = c->queue;
    cog_queue_item *item = q->preempted.at;
    cog_tenant *t;

    if (item) {
        q->preempted.at = item->next;
        return item;
    }
    if (q->is_walking)
        update_heap(c);
    else
        begin_tenants(c);
    if (q->n_heap == 0)
        return NULL;
    t = q->heap[0];
    item = t->first->at;
    t->first->at = item->next;
    q->n_smallest -= !item->next && t->first->priority == q->smallest;
    t->taken += (uint64_t)item->cost;
    q->last = item;
    q->last_cost = (uint64_t)item->cost;
    q->last_tenant = t;
    return item;
}
