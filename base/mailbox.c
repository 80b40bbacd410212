#include "base/mailbox.h"

#include <errno.h>
#include <time.h>

void cog_mailbox_init(cog_mailbox *m)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->arrived, &attr);
    pthread_condattr_destroy(&attr);
    m->head = NULL;
    m->tail = &m->head;
}

void cog_mailbox_fini(cog_mailbox *m)
{
    pthread_cond_destroy(&m->arrived);
    pthread_mutex_destroy(&m->lock);
}

bool cog_mailbox_post(cog_mailbox *m, cog_link *message)
{
    bool was_empty;

    message->next = NULL;
    pthread_mutex_lock(&m->lock);
    was_empty = m->head == NULL;
    *m->tail = message;
    m->tail = &message->next;
    if (was_empty)
        pthread_cond_signal(&m->arrived);
    pthread_mutex_unlock(&m->lock);
    return was_empty;
}

static cog_link *detach(cog_mailbox *m)
{
    cog_link *all = m->head;

    m->head = NULL;
    m->tail = &m->head;
    return all;
}

cog_link *cog_mailbox_take(cog_mailbox *m)
{
    cog_link *all;

    pthread_mutex_lock(&m->lock);
    all = detach(m);
    pthread_mutex_unlock(&m->lock);
    return all;
}

cog_link *cog_mailbox_wait(cog_mailbox *m, uint64_t deadline_ns)
{
    struct timespec at = { .tv_sec = (time_t)(deadline_ns / 1000000000u),
                           .tv_nsec = (long)(deadline_ns % 1000000000u) };
    cog_link *all;

    pthread_mutex_lock(&m->lock);
    while (!m->head) {
        if (deadline_ns == UINT64_MAX)
            pthread_cond_wait(&m->arrived, &m->lock);
        else if (pthread_cond_timedwait(&m->arrived, &m->lock, &at) == ETIMEDOUT)
            break;
    }
    all = detach(m);
    pthread_mutex_unlock(&m->lock);
    return all;
}
