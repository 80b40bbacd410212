/* process.h - what the system says about this process, for /metrics. The loop thread: it reads
 * /proc, which waits for nothing, through descriptors that are held, so that it also works when
 * they are out. */
#ifndef COG_SERVER_PROCESS_H
#define COG_SERVER_PROCESS_H

#include <stdint.h>

typedef struct cog_process {
    int statm_fd; /* -1: could not be opened */
    void *fds;    /* a DIR, or NULL */
    double start_s;
} cog_process;

typedef struct cog_process_facts {
    double cpu_s;            /* user and system */
    double start_s;          /* Unix time */
    uint64_t rss_bytes;      /* 0: not known */
    uint64_t n_fds, max_fds; /* n_fds 0: not known */
} cog_process_facts;

void cog_process_open(cog_process *p);
void cog_process_close(cog_process *p);
void cog_process_read(cog_process *p, cog_process_facts *out);

#endif
