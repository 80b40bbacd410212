/* bench.c - "bench kernels": what this machine can do, and how much of it each kernel gets.
 *
 * Samples of a kernel and of its ceiling alternate. A rate is amount * threads / processor time of
 * the process, median over the samples: who else runs on the machine does not count, nor does
 * waiting for the slowest thread; the last column is the rate by the clock on the wall, where both
 * do. */
#include "engine/cpu/cpu.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/cpu/cpuflags.h"
#include "engine/engine.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    REPEATS = 5,
    STREAM_BYTES = 256 << 20, /* what a decode kernel or the bandwidth loop reads per sample */
    PIECE_BYTES = 1 << 20,
    MAX_ROWS = 1227,
};

typedef struct bench {
    FILE *out;
    bool as_json;
    cog_backend be; /* the parts a kernel needs: kernels, pool, thread memory */
    char *stream;   /* STREAM_BYTES */
    int results;
} bench;

typedef struct sample {
    double amount; /* bytes or floating-point operations */
    int threads;
    void (*run)(bench *b, void *arg);
    void *arg;
} sample;

/* ---- ceilings ---- */

static void read_piece(void *arg, int item, int thread)
{
    typedef uint64_t lanes __attribute__((vector_size(16)));
    bench *b = arg;
    const lanes *p = (const lanes *)(b->stream + (size_t)item * PIECE_BYTES);
    lanes s0 = { 0 }, s1 = s0, s2 = s0, s3 = s0;

    for (size_t i = 0; i < PIECE_BYTES / sizeof(lanes); i += 4) {
        s0 ^= p[i];
        s1 ^= p[i + 1];
        s2 ^= p[i + 2];
        s3 ^= p[i + 3];
    }
    s0 ^= s1 ^ s2 ^ s3;
    b->be.thread[thread].acc[0] = (float)(s0[0] ^ s0[1]);
}

static void read_stream(bench *b, void *arg)
{
    cog_pool_run(b->be.pool, read_piece, b, STREAM_BYTES / PIECE_BYTES);
}

enum { PEAK_STEPS = 300000 };

static void peak_item(void *arg, int item, int thread)
{
    bench *b = arg;

    b->be.thread[thread].acc[0] = b->be.kern.peak(PEAK_STEPS);
}

static void run_peak(bench *b, void *arg)
{
    cog_pool_run(b->be.pool, peak_item, b, cog_pool_threads(b->be.pool));
}

/* ---- measuring ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *v)
{
    qsort(v, REPEATS, sizeof(*v), by_value);
    return v[REPEATS / 2];
}

static double processor_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Billions per second of processor time; *wall: of real time. */
static double rate(bench *b, const sample *s, double *wall)
{
    uint64_t start = cog_now_ns();
    double used = processor_ns();

    s->run(b, s->arg);
    used = processor_ns() - used;
    *wall = s->amount / (double)(cog_now_ns() - start);
    return s->amount * s->threads / used;
}

static void report(bench *b, const char *kernel, const char *shape, const char *unit, double value,
                   double ceiling, double wall)
{
    const char *dtype = cog_dtype_name(b->be.kern.dtype);

    if (b->as_json)
        fprintf(b->out,
                "%s\n  {\"kernel\": \"%s\", \"variant\": \"%s\", \"dtype\": \"%s\", \"shape\": "
                "\"%s\", \"value\": %.2f, \"unit\": \"%s\", \"ceiling\": %.2f, \"share\": %.3f, "
                "\"wall\": %.2f}",
                b->results ? "," : "", kernel, b->be.kern.isa, dtype, shape, value, unit, ceiling,
                value / ceiling, wall);
    else
        fprintf(b->out, "%-16s %-13s %-4s %-32s %7.1f %7.1f %-7s %4.0f %% %7.1f\n", kernel,
                b->be.kern.isa, dtype, shape, value, ceiling, unit, 100 * value / ceiling, wall);
    fflush(b->out);
    b->results++;
}

static void measure(bench *b, const char *kernel, const char *shape, const char *unit,
                    const sample *s, const sample *ceiling)
{
    double value[REPEATS], limit[REPEATS], wall[REPEATS], ignored;

    s->run(b, s->arg);
    for (int i = 0; i < REPEATS; i++) {
        limit[i] = rate(b, ceiling, &ignored);
        value[i] = rate(b, s, &wall[i]);
    }
    report(b, kernel, shape, unit, median(value), median(limit), median(wall));
}

static sample bandwidth(const bench *b)
{
    return (sample){ .amount = STREAM_BYTES,
                     .threads = cog_pool_threads(b->be.pool),
                     .run = read_stream };
}

static void read_alone(bench *b, void *arg)
{
    for (int i = 0; i < STREAM_BYTES / PIECE_BYTES; i++)
        read_piece(b, i, 0);
}

static sample peak(const bench *b)
{
    return (sample){ .amount =
                         (double)PEAK_STEPS * b->be.kern.peak_flop * cog_pool_threads(b->be.pool),
                     .threads = cog_pool_threads(b->be.pool),
                     .run = run_peak };
}

static void measure_ceilings(bench *b)
{
    sample read = bandwidth(b), flop = peak(b);
    sample alone = { .amount = STREAM_BYTES, .threads = 1, .run = read_alone };

    measure(b, "read, 1 thread", "256 MiB", "GB/s", &alone, &read);
    measure(b, "read", "256 MiB", "GB/s", &read, &read);
    measure(b, "peak", "registers", "GFLOP/s", &flop, &flop);
}

/* ---- products ---- */

typedef struct gemm_case {
    cog_weight w;
    cog_gemm g;
    int layers; /* matrices behind each other, each used once */
} gemm_case;

static void run_gemm(bench *b, void *arg)
{
    gemm_case *c = arg;
    size_t bytes = (size_t)((c->w.rows + COG_PANEL - 1) / COG_PANEL) * c->w.panel_bytes;

    for (int l = 0; l < c->layers; l++) {
        c->w.data = b->stream + (size_t)l * bytes;
        cog_cpu_gemm(&b->be, &c->g, 1);
    }
}

static void bench_gemm(bench *b, int rows, int n, int k, bool by_bandwidth)
{
    size_t panel = cog_panel_elements(k, b->be.kern.dtype) * b->be.elem;
    size_t bytes = (size_t)((n + COG_PANEL - 1) / COG_PANEL) * panel;
    gemm_case c = { .w = { .use = COG_USE_MATRIX, .rows = n, .cols = k, .panel_bytes = panel },
                    .layers = by_bandwidth ? (int)(STREAM_BYTES / bytes) : 1 };
    sample s = { .threads = cog_pool_threads(b->be.pool), .run = run_gemm, .arg = &c },
           ceiling = by_bandwidth ? bandwidth(b) : peak(b);
    cog_act *a = NULL, *dst = NULL;
    char shape[64];

    if (cog_cpu_act_new(&b->be, &a, rows, k) == 0 && cog_cpu_act_new(&b->be, &dst, rows, n) == 0) {
        for (int r = 0; r < rows; r++)
            memcpy(cog_cpu_at(&b->be, a, r, 0), b->stream, (size_t)k * b->be.elem);
        c.g = (cog_gemm){
            .w = &c.w, .a = a->data, .lda = a->ld, .dst = dst->data, .ldd = dst->ld, .rows = rows
        };
        s.amount = by_bandwidth ? (double)bytes * c.layers : 2.0 * rows * n * k;
        snprintf(shape, sizeof(shape), "%d x %d x %d", rows, k, n);
        measure(b, by_bandwidth ? "decode product" : "product", shape,
                by_bandwidth ? "GB/s" : "GFLOP/s", &s, &ceiling);
    }
    cog_cpu_act_free(&b->be, a);
    cog_cpu_act_free(&b->be, dst);
}

/* ---- attention ---- */

typedef struct attn_case {
    bench *b;
    const cog_act *q, *out;
    int rows, heads, head_dim, slots;
    bool is_decode; /* each row has keys and values of its own */
} attn_case;

static void attn_item(void *arg, int item, int thread)
{
    const attn_case *c = arg;
    cog_backend *be = &c->b->be;
    size_t tile = cog_tile_elements(c->head_dim) * be->elem;
    size_t run = (size_t)((c->slots + COG_TILE - 1) / COG_TILE) * tile;
    int first = item / c->heads * (c->is_decode ? 1 : COG_ATTN_ROWS), head = item % c->heads;
    size_t at = 2 * run * (size_t)(c->is_decode ? item : head);
    cog_kv_view kv = { .k = c->b->stream + at, .v = c->b->stream + at + run, .tile_bytes = tile };
    const void *q[COG_ATTN_ROWS];
    void *out[COG_ATTN_ROWS];
    int32_t slots[COG_ATTN_ROWS];
    int n = 0;

    for (; n < (c->is_decode ? 1 : COG_ATTN_ROWS) && first + n < c->rows; n++) {
        q[n] = cog_cpu_at(be, c->q, first + n, head * c->head_dim);
        out[n] = cog_cpu_at(be, c->out, first + n, head * c->head_dim);
        slots[n] = c->slots;
    }
    be->kern.attention(out, q, slots, n, c->head_dim, 0.01f, &kv, be->thread[thread].attn);
}

static void run_attn(bench *b, void *arg)
{
    attn_case *c = arg;
    int groups = c->is_decode ? c->rows : (c->rows + COG_ATTN_ROWS - 1) / COG_ATTN_ROWS;

    cog_pool_run(b->be.pool, attn_item, c, groups * c->heads);
}

static void bench_attention(bench *b, const char *name, attn_case c)
{
    double macs = 2.0 * c.rows * c.heads * c.head_dim * c.slots; /* scores and mixing */
    sample s = { .amount = c.is_decode ? macs * (double)b->be.elem : 2 * macs,
                 .threads = cog_pool_threads(b->be.pool),
                 .run = run_attn,
                 .arg = &c };
    sample ceiling = c.is_decode ? bandwidth(b) : peak(b);
    cog_act *q = NULL, *out = NULL;
    char shape[64];

    c.b = b;
    if (cog_cpu_act_new(&b->be, &q, c.rows, c.heads * c.head_dim) == 0 &&
        cog_cpu_act_new(&b->be, &out, c.rows, c.heads * c.head_dim) == 0) {
        for (int r = 0; r < c.rows; r++)
            memcpy(cog_cpu_at(&b->be, q, r, 0), b->stream, (size_t)q->cols * b->be.elem);
        c.q = q;
        c.out = out;
        snprintf(shape, sizeof(shape), "%d rows, %d slots, %d x %d", c.rows, c.slots, c.heads,
                 c.head_dim);
        measure(b, name, shape, c.is_decode ? "GB/s" : "GFLOP/s", &s, &ceiling);
    }
    cog_cpu_act_free(&b->be, q);
    cog_cpu_act_free(&b->be, out);
}

/* ---- rows ---- */

typedef enum row_kernel { RMSNORM, LAYERNORM, GELU, SILU_MUL } row_kernel;

typedef struct row_case {
    bench *b;
    row_kernel kernel;
    int n;
    float *w;
} row_case;

static void row_item(void *arg, int item, int thread)
{
    const row_case *c = arg;
    const cog_kernels *k = &c->b->be.kern;
    size_t bytes = (size_t)c->n * c->b->be.elem;
    char *x = c->b->stream + 2 * (size_t)item * bytes;
    void *dst = c->b->be.thread[thread].acc;

    switch (c->kernel) {
    case RMSNORM:
        k->rmsnorm(dst, x, c->w, c->n, 1e-5f);
        k->rmsnorm(dst, x + bytes, c->w, c->n, 1e-5f);
        break;
    case LAYERNORM:
        k->layernorm(dst, x, c->w, c->w, c->n, 1e-5f);
        k->layernorm(dst, x + bytes, c->w, c->w, c->n, 1e-5f);
        break;
    case GELU:
        k->gelu(dst, x, c->n);
        k->gelu(dst, x + bytes, c->n);
        break;
    case SILU_MUL:
        k->silu_mul(dst, x, x + bytes, c->n);
        break;
    }
}

static void run_rows(bench *b, void *arg)
{
    const row_case *c = arg;

    cog_pool_run(b->be.pool, row_item, arg, (int)(STREAM_BYTES / (2 * (size_t)c->n * b->be.elem)));
}

static void bench_rows(bench *b, row_kernel kernel, const char *name, int n)
{
    row_case c = { .b = b, .kernel = kernel, .n = n, .w = cog_array(float, (size_t)n) };
    sample s = { .amount = STREAM_BYTES,
                 .threads = cog_pool_threads(b->be.pool),
                 .run = run_rows,
                 .arg = &c },
           ceiling = bandwidth(b);
    char shape[32];

    assert(n <= COG_GEMM_ROWS * COG_PANEL); /* a thread's acc takes the results */
    for (int i = 0; i < n; i++)
        c.w[i] = 1;
    snprintf(shape, sizeof(shape), "rows of %d", n);
    measure(b, name, shape, "GB/s", &s, &ceiling);
    cog_free(c.w);
}

/* ---- the run ---- */

static void bench_variant(bench *b, cog_dtype dtype, unsigned flags, bool is_best)
{
    static const attn_case vit = { .rows = 1226, .heads = 16, .head_dim = 112, .slots = 1226 };
    static const attn_case decode = {
        .rows = 8, .heads = 32, .head_dim = 128, .slots = 1024, .is_decode = true
    };

    cog_kernels_get(&b->be.kern, dtype, flags);
    b->be.elem = cog_dtype_size(dtype);
    measure_ceilings(b);
    bench_gemm(b, 1, 11008, 4096, true);
    if (is_best) {
        bench_gemm(b, 4, 11008, 4096, true);
        bench_gemm(b, 8, 11008, 4096, true);
        bench_gemm(b, MAX_ROWS, 11008, 4096, false);
    }
    bench_gemm(b, is_best ? 1226 : 240, 5376, 1792, false);
    bench_attention(b, "vit attention", vit);
    bench_attention(b, "decode attention", decode);
    bench_rows(b, RMSNORM, "rmsnorm", 4096);
    bench_rows(b, LAYERNORM, "layernorm", 1792);
    bench_rows(b, GELU, "gelu", 15360);
    bench_rows(b, SILU_MUL, "silu * up", 11008);
}

/* Small finite numbers in either type: the exponents of 0.5 to 2 with random signs and mantissas.
 */
static void fill_stream(bench *b)
{
    uint32_t *word = (uint32_t *)b->stream, x = 12345;

    for (size_t i = 0; i < STREAM_BYTES / sizeof(*word); i++) {
        x = x * 1664525u + 1013904223u;
        word[i] = (x & 0x80ff80ffu) | 0x3f003f00u;
    }
}

static int open_bench(bench *b, int threads, cog_err *err)
{
    int rc = cog_pool_open(&b->be.pool, threads, err);

    if (rc < 0)
        return rc;
    b->stream = cog_cpu_mem(1, STREAM_BYTES);
    b->be.thread = cog_array(cog_cpu_thread, (size_t)cog_pool_threads(b->be.pool));
    for (int i = 0; i < cog_pool_threads(b->be.pool); i++) {
        b->be.thread[i].acc = cog_cpu_mem(COG_GEMM_ROWS * COG_PANEL, sizeof(float));
        b->be.thread[i].attn = cog_cpu_mem(cog_attn_scratch(128), sizeof(float));
        if (!b->be.thread[i].acc || !b->be.thread[i].attn)
            rc = COG_ENOMEM;
    }
    if (!b->stream || rc < 0)
        return cog_err_set(err, COG_ENOMEM, "no memory for the benchmark's buffers");
    fill_stream(b);
    return 0;
}

static void close_bench(bench *b)
{
    for (int i = 0; b->be.thread && i < cog_pool_threads(b->be.pool); i++) {
        free(b->be.thread[i].acc);
        free(b->be.thread[i].attn);
    }
    cog_free(b->be.thread);
    free(b->stream);
    cog_pool_close(b->be.pool);
}

int cog_bench_kernels(FILE *out, int threads, bool as_json, cog_err *err)
{
    static const struct {
        unsigned need, mask;
    } variant[] = {
        { COG_CPU_AVX2, COG_CPU_AVX2 },
        { COG_CPU_AVX512, COG_CPU_AVX2 | COG_CPU_AVX512 },
        { COG_CPU_AVX512_BF16, ~0u },
    };
    bench *b = cog_alloc_aligned(sizeof(*b), 64);
    unsigned flags = cog_cpu_flags();
    int rc = open_bench(b, threads, err);

    if (rc == 0 && !(flags & COG_CPU_AVX2))
        rc = cog_err_set(err, COG_EUNSUPPORTED, "this CPU has only the scalar reference kernels");
    if (rc < 0)
        goto fail;
    b->out = out;
    b->as_json = as_json;
    if (as_json)
        fprintf(out, "[");
    else
        fprintf(out, "%-16s %-13s %-4s %-32s %7s %7s %-7s %6s %7s\n", "kernel", "variant", "type",
                "shape", "rate", "ceiling", "", "share", "wall");
    for (size_t i = 0; i < sizeof(variant) / sizeof(variant[0]); i++) {
        bool is_best = i + 1 == sizeof(variant) / sizeof(variant[0]);
        if ((flags & variant[i].need) != variant[i].need)
            continue;
        for (cog_dtype dtype = COG_F32; dtype <= COG_BF16; dtype++)
            if (variant[i].need != COG_CPU_AVX512_BF16 || dtype == COG_BF16)
                bench_variant(b, dtype, flags & variant[i].mask, is_best || dtype == COG_F32);
    }
    if (as_json)
        fprintf(out, "\n]\n");

fail:
    close_bench(b);
    cog_free(b);
    return rc;
}
