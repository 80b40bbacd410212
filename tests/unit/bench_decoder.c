/* What a helper costs: the time of one picture at a time through the decoder, in helpers and in
 * threads by turns, and the memory of an idle helper.
 *
 *     bench_decoder FILE...
 *
 * No test: it prints medians. */
#include "tests/unit/decoder_rig.h"

#include "base/buf.h"

#include <errno.h>

enum { ROUNDS = 15, SIDE = 490 };

static cog_buf read_file(const char *path)
{
    cog_buf out = { 0 };
    FILE *f = fopen(path, "rb");
    char part[65536];
    size_t n;

    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
    while ((n = fread(part, 1, sizeof(part), f)) > 0)
        cog_buf_add(&out, part, n);
    fclose(f);
    return out;
}

/* From the file's bytes to the picture, everything that a request pays; milliseconds. */
static double decode(rig *r, const cog_buf *file)
{
    uint64_t start = cog_now_ns();
    cog_decode *d = cog_new(cog_decode);

    cog_decode_init(d, r->decoder, file->len, SIDE, NULL);
    memcpy(d->memory.base, file->data, file->len);
    d->file_len = file->len;
    d->user = r;
    d->done = rig_done;
    d->deadline_ns = UINT64_MAX;
    cog_decode_ready(d, r->decoder);
    cog_decoder_submit(r->decoder, d);
    while (d->is_submitted)
        uv_run(&r->loop, UV_RUN_ONCE);
    if (d->status != COG_DECODE_DONE)
        fprintf(stderr, "status %d: %s\n", (int)d->status, d->err.text);
    cog_decode_fini(d);
    cog_free(d);
    return (double)(cog_now_ns() - start) * 1e-6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), compare);
    return v[n / 2];
}

static void print_memory(void)
{
    pid_t pid[RIG_MAX_HELPERS];
    int n = rig_helpers(getpid(), pid);
    char path[64], line[256];

    for (int i = 0; i < n; i++) {
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid[i]);
        f = fopen(path, "r");
        while (f && fgets(line, sizeof(line), f)) {
            if (strncmp(line, "Rss", 3) == 0 || strncmp(line, "Pss:", 4) == 0 ||
                strncmp(line, "Private_Dirty", 13) == 0)
                printf("helper %d: %s", i, line);
        }
        if (f)
            fclose(f);
    }
}

int main(int argc, char **argv)
{
    rig *helpers = rig_new(), *threads = rig_new();

    threads->cfg.image_sandbox = COG_SANDBOX_OFF;
    rig_open(helpers);
    rig_open(threads);
    print_memory();
    for (int i = 1; i < argc; i++) {
        cog_buf file = read_file(argv[i]);
        double in_helper[ROUNDS], in_thread[ROUNDS];

        decode(helpers, &file);
        decode(threads, &file);
        for (int k = 0; k < ROUNDS; k++) {
            in_helper[k] = decode(helpers, &file);
            in_thread[k] = decode(threads, &file);
        }
        printf("%s: %zu bytes, helper %.3f ms, thread %.3f ms\n", argv[i], file.len,
               median(in_helper, ROUNDS), median(in_thread, ROUNDS));
        cog_buf_fini(&file);
    }
    print_memory();
    rig_free(helpers);
    rig_free(threads);
    return 0;
}
