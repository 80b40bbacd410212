#include "server/picture/quarantine.h"

#include <string.h>

static int find(const cog_quarantine *q, const cog_sha256 *file)
{
    for (int i = 0; i < q->n; i++) {
        if (memcmp(&q->entry[i].file, file, sizeof(*file)) == 0)
            return i;
    }
    return -1;
}

static int least_recent(const cog_quarantine *q)
{
    int oldest = 0;

    for (int i = 1; i < q->n; i++) {
        if (q->entry[i].asked_ns < q->entry[oldest].asked_ns)
            oldest = i;
    }
    return oldest;
}

void cog_quarantine_add(cog_quarantine *q, const cog_sha256 *file, uint64_t now_ns)
{
    int i = find(q, file);

    if (q->keep_ns == 0)
        return;
    if (i < 0)
        i = q->n < COG_QUARANTINE_MAX ? q->n++ : least_recent(q);
    q->entry[i].file = *file;
    q->entry[i].added_ns = q->entry[i].asked_ns = now_ns;
}

bool cog_quarantine_has(cog_quarantine *q, const cog_sha256 *file, uint64_t now_ns)
{
    int i = find(q, file);

    if (i < 0)
        return false;
    if (now_ns - q->entry[i].added_ns >= q->keep_ns) {
        q->entry[i] = q->entry[--q->n];
        return false;
    }
    q->entry[i].asked_ns = now_ns;
    return true;
}
