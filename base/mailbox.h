/* mailbox.h - a queue of linked messages: many producers, one consumer.
 *
 * A message embeds a cog_link as its first member; the queue never allocates. The lock is held only
 * while pointers move. Order is the order of posts. */
#ifndef COG_BASE_MAILBOX_H
#define COG_BASE_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct cog_link {
    struct cog_link *next;
} cog_link;

typedef struct cog_mailbox {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    cog_link *head, **tail;
} cog_mailbox;

void cog_mailbox_init(cog_mailbox *m);
void cog_mailbox_fini(cog_mailbox *m); /* the caller has taken every message */

/* Any thread. The message belongs to the queue until taken. True when the queue was empty before:
 * the moment to wake a consumer that does not wait in cog_mailbox_wait. */
bool cog_mailbox_post(cog_mailbox *m, cog_link *message);

/* The consumer: detaches all messages, oldest first, linked by next; NULL when there are none. */
cog_link *cog_mailbox_take(cog_mailbox *m);

/* Same, waiting for a message until deadline_ns on CLOCK_MONOTONIC (UINT64_MAX: for ever). */
cog_link *cog_mailbox_wait(cog_mailbox *m, uint64_t deadline_ns);

#endif
