#include "tests/conform/device.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = CONFORM_GUARD, POISON = CONFORM_POISON };

void device_check(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return;
    printf("Bail out! %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

void device_done(conform *c, int rc)
{
    if (rc != 0) {
        printf("Bail out! %s: the launch failed\n", c->op);
        exit(1);
    }
    device_check(cudaStreamSynchronize(c->stream), c->op);
}

/* ---- arrays ---- */

device_array device_new_ld(conform *c, size_t size, int rows, int cols, size_t ld)
{
    device_array a = { .rows = rows, .cols = cols, .ld = ld, .size = size };
    void *base;

    a.bytes = (size_t)rows * ld * size + 2 * GUARD;
    a.mirror = cog_alloc_aligned(a.bytes, 64);
    a.host = a.mirror + GUARD;
    memset(a.mirror, POISON, a.bytes);
    device_check(cudaMalloc(&base, a.bytes), "cudaMalloc");
    a.base = base;
    a.data = a.base + GUARD;
    c->memories++;
    device_upload(c, &a);
    return a;
}

device_array device_new(conform *c, int rows, int cols)
{
    size_t step = 16 / conform_size(c), least = ((size_t)cols + step - 1) / step * step;

    return device_new_ld(c, conform_size(c), rows, cols,
                         least + step * (size_t)conform_between(c, 0, 5));
}

device_array device_vector(conform *c, size_t size, size_t n, const void *values)
{
    device_array a = device_new_ld(c, size, 1, (int)n, n);

    if (values && n > 0) {
        memcpy(a.host, values, n * size);
        device_upload(c, &a);
    }
    return a;
}

device_array device_random(conform *c, int rows, int cols, float center, float spread)
{
    device_array a = device_new(c, rows, cols);

    for (int r = 0; r < rows; r++)
        for (int i = 0; i < cols; i++)
            device_set(c, &a, r, i, center + conform_random(c, spread));
    device_upload(c, &a);
    return a;
}

device_array device_copy(conform *c, const device_array *a)
{
    device_array b = device_new_ld(c, a->size, a->rows, a->cols, a->ld);

    memcpy(b.host, a->host, b.bytes - 2 * GUARD);
    device_upload(c, &b);
    return b;
}

void device_free(conform *c, device_array *a)
{
    char *now = cog_alloc(a->bytes, 1);

    device_check(cudaMemcpyAsync(now, a->base, a->bytes, cudaMemcpyDeviceToHost, c->stream),
                 "cudaMemcpyAsync");
    device_check(cudaStreamSynchronize(c->stream), c->op);
    if (memcmp(now, a->mirror, a->bytes) != 0)
        conform_fail(c, "wrote to what is not an output");
    device_check(cudaFree(a->base), "cudaFree");
    cog_free(now);
    cog_free(a->mirror);
    c->memories--;
}

float device_get(const conform *c, const device_array *a, int row, int col)
{
    return conform_get(c, device_host_row(a, row), (size_t)col);
}

float device_set(const conform *c, device_array *a, int row, int col, float value)
{
    return conform_set(c, device_host_row(a, row), (size_t)col, value);
}

void device_upload(conform *c, const device_array *a)
{
    device_check(cudaMemcpyAsync(a->base, a->mirror, a->bytes, cudaMemcpyHostToDevice, c->stream),
                 "cudaMemcpyAsync");
    device_check(cudaStreamSynchronize(c->stream), c->op);
}

static bool is_poison(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] != POISON)
            return false;
    return true;
}

void device_download(conform *c, device_array *a)
{
    size_t used = (size_t)a->cols * a->size, step = a->ld * a->size;
    bool is_clean;

    device_check(cudaMemcpyAsync(a->mirror, a->base, a->bytes, cudaMemcpyDeviceToHost, c->stream),
                 "cudaMemcpyAsync");
    device_check(cudaStreamSynchronize(c->stream), c->op);
    is_clean = is_poison(a->mirror, GUARD) && is_poison(a->mirror + a->bytes - GUARD, GUARD);
    for (int r = 0; is_clean && r < a->rows; r++)
        is_clean = is_poison((char *)device_host_row(a, r) + used, step - used);
    if (!is_clean)
        conform_fail(c, "wrote outside its output");
}

/* ---- comparing ---- */

void device_same(conform *c, const char *what, const device_array *got, const void *want)
{
    size_t row = (size_t)got->cols * got->size;
    char text[100];

    for (int r = 0; r < got->rows; r++) {
        snprintf(text, sizeof(text), "%s, row %d", what, r);
        conform_same(c, text, device_host_row(got, r), (const char *)want + (size_t)r * row, row);
    }
}

void device_near(conform *c, const device_array *got, const double *want, const double *bound)
{
    size_t n = (size_t)got->rows * (size_t)got->cols, at = 0;
    void *packed = conform_alloc(c, n, conform_size(c));
    void *rounded = conform_alloc(c, n, conform_size(c));

    for (int r = 0; r < got->rows; r++) {
        for (int i = 0; i < got->cols; i++, at++) {
            conform_set(c, packed, at, device_get(c, got, r, i));
            conform_set(c, rounded, at, (float)want[at]);
        }
    }
    conform_elements_near(c, packed, rounded, n, bound);
    conform_free(c, packed);
    conform_free(c, rounded);
}

void device_relative(conform *c, const device_array *got, const double *want, double limit,
                     double most)
{
    double off = 0, size = 0;
    size_t at = 0;
    char text[80];

    for (int r = 0; r < got->rows; r++) {
        for (int i = 0; i < got->cols; i++, at++) {
            float g = device_get(c, got, r, i);
            conform_near(c, at, g, (float)want[at], most);
            off += ((double)g - want[at]) * ((double)g - want[at]);
            size += want[at] * want[at];
        }
    }
    if (!(off <= limit * limit * size)) {
        snprintf(text, sizeof(text), "off by %.3g relatively, %.3g is allowed", sqrt(off / size),
                 limit);
        conform_fail(c, text);
    }
}

/* ---- pages ---- */

static void shuffle(conform *c, int32_t *p, int n)
{
    for (int i = n - 1; i > 0; i--) {
        int j = conform_between(c, 0, i);
        int32_t x = p[i];
        p[i] = p[j];
        p[j] = x;
    }
}

device_pages device_pages_new(conform *c, int layers, int kv_heads, int block, int head_dim,
                              int seqs, const int *slots)
{
    device_pages p = { .seqs = seqs, .max_blocks = 1 };
    int needed = 0, next = 0;
    int32_t *page;

    for (int s = 0; s < seqs; s++) {
        int n = (slots[s] + block - 1) / block;
        needed += n;
        p.max_blocks = n > p.max_blocks ? n : p.max_blocks;
    }
    p.max_blocks += conform_between(c, 0, 2);
    p.kv = (cog_cuda_kv){ .layers = layers,
                          .n_blocks = needed > 0 ? 2 * needed : 1,
                          .kv_heads = kv_heads,
                          .block = block,
                          .head_dim = head_dim,
                          .ld = (head_dim + 7) / 8 * 8 };
    while (1 << p.kv.block_shift < block)
        p.kv.block_shift++;
    p.pool = device_new_ld(c, conform_size(c), layers * p.kv.n_blocks * 2 * kv_heads * block,
                           head_dim, (size_t)p.kv.ld);
    p.kv.data = p.pool.data;
    p.table = device_new_ld(c, sizeof(int32_t), seqs, p.max_blocks, (size_t)p.max_blocks);

    page = cog_array(int32_t, (size_t)p.kv.n_blocks);
    for (int i = 0; i < p.kv.n_blocks; i++)
        page[i] = i;
    shuffle(c, page, p.kv.n_blocks);
    for (int s = 0; s < seqs; s++)
        for (int i = 0; i * block < slots[s]; i++)
            ((int32_t *)device_host_row(&p.table, s))[i] = page[next++];
    cog_free(page);
    device_upload(c, &p.table);
    return p;
}

void device_pages_free(conform *c, device_pages *p)
{
    device_free(c, &p->pool);
    device_free(c, &p->table);
}

int device_key_row(const device_pages *p, int layer, int seq, int head, int slot)
{
    const int32_t *pages = device_host_row(&p->table, seq);
    size_t at = cog_kv_at(&p->kv, layer, pages[slot / p->kv.block], head, slot % p->kv.block);

    return (int)(at / (size_t)p->kv.ld);
}

int device_value_row(const device_pages *p, int layer, int seq, int head, int slot)
{
    return device_key_row(p, layer, seq, head, slot) +
           (int)(cog_kv_value_offset(&p->kv) / (size_t)p->kv.ld);
}

void device_pages_fill(conform *c, device_pages *p, int layer, int seq, int n, float spread)
{
    for (int slot = 0; slot < n; slot++) {
        for (int head = 0; head < p->kv.kv_heads; head++) {
            int key = device_key_row(p, layer, seq, head, slot);
            int value = device_value_row(p, layer, seq, head, slot);
            for (int d = 0; d < p->kv.head_dim; d++) {
                device_set(c, &p->pool, key, d, conform_random(c, spread));
                device_set(c, &p->pool, value, d, conform_random(c, spread));
            }
        }
    }
}
