#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>

/* The number in a file of one line; "max" and absent files are no number. */
static int read_number(uint64_t *out, const char *path)
{
    FILE *f = fopen(path, "r");
    int n;

    if (!f)
        return 0;
    n = fscanf(f, "%" SCNu64, out);
    fclose(f);
    return n == 1;
}

static uint64_t kernel_available(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    uint64_t kib = 0;
    char line[128];

    if (!f)
        return 0;
    while (fgets(line, sizeof(line), f) && sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) != 1)
        ;
    fclose(f);
    return kib * 1024;
}

uint64_t cog_memory_available(void)
{
    static const struct {
        const char *limit, *used;
    } group[] = {
        { "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current" },
        { "/sys/fs/cgroup/memory/memory.limit_in_bytes",
          "/sys/fs/cgroup/memory/memory.usage_in_bytes" },
    };
    uint64_t least = kernel_available();

    for (int i = 0; i < 2; i++) {
        uint64_t limit, used;
        if (!read_number(&limit, group[i].limit) || !read_number(&used, group[i].used))
            continue;
        limit = limit > used ? limit - used : 0;
        if (least == 0 || limit < least)
            least = limit;
    }
    return least;
}
