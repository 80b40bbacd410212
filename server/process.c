#include "server/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { START_FIELD = 22 }; /* of /proc/self/stat, counted from 1: ticks from boot to the start */

/* Unix time of the start, from the clock that runs since boot. 0 when /proc does not tell. */
static double read_start(void)
{
    char text[1024];
    struct timespec boot, now;
    const char *at;
    ssize_t n;
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    at = strrchr(text, ')'); /* the second field may hold spaces */
    for (int field = 2; at && field < START_FIELD; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return 0;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)(now.tv_sec - boot.tv_sec) + (double)(now.tv_nsec - boot.tv_nsec) * 1e-9 +
           (double)strtoull(at + 1, NULL, 10) / (double)sysconf(_SC_CLK_TCK);
}

void cog_process_open(cog_process *p)
{
    p->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    p->fds = opendir("/proc/self/fd");
    p->start_s = read_start();
}

void cog_process_close(cog_process *p)
{
    if (p->statm_fd >= 0)
        close(p->statm_fd);
    if (p->fds)
        closedir(p->fds);
    p->statm_fd = -1;
    p->fds = NULL;
}

static uint64_t read_rss(const cog_process *p)
{
    unsigned long long size, resident;
    char text[128];
    ssize_t n = p->statm_fd >= 0 ? pread(p->statm_fd, text, sizeof(text) - 1, 0) : 0;

    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%llu %llu", &size, &resident) != 2)
        return 0;
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t count_fds(const cog_process *p)
{
    const struct dirent *entry;
    struct stat st;
    uint64_t n = 0;

    if (!p->fds)
        return 0;
    if (fstat(dirfd(p->fds), &st) == 0 && st.st_size > 0)
        return (uint64_t)st.st_size; /* since Linux 6.2 */
    rewinddir(p->fds);
    while ((entry = readdir(p->fds)) != NULL)
        n += entry->d_name[0] != '.';
    return n;
}

static double seconds(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec * 1e-6;
}

void cog_process_read(cog_process *p, cog_process_facts *out)
{
    struct rusage usage = { 0 };
    struct rlimit limit = { 0 };

    getrusage(RUSAGE_SELF, &usage);
    getrlimit(RLIMIT_NOFILE, &limit);
    *out = (cog_process_facts){
        .cpu_s = seconds(&usage.ru_utime) + seconds(&usage.ru_stime),
        .start_s = p->start_s,
        .rss_bytes = read_rss(p),
        .n_fds = count_fds(p),
        .max_fds = limit.rlim_cur,
    };
}
