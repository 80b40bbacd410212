/* bench_ceiling.c - ceilings of a CUDA device: best of some repeats, by events. */
#include "tools/bench_ceiling.h"

#include "engine/cuda/gemm.h"
#include "engine/cuda/kernels.h"
#include "tools/bench_ceiling_kernels.h"

#include <string.h>

enum { REPEATS = 10, NODES = 200, WORKSPACE = 64 << 20 };

typedef struct rig {
    cudaStream_t stream;
    cudaEvent_t begin, end;
    char *a, *b, *sum, *host; /* bytes each; sum: blocks * 256 words */
    size_t bytes;
    int blocks, side; /* of the product */
    cog_cuda_gemm *gemm;
    char *workspace;
    cudaGraphExec_t chain;
} rig;

static int read_all(rig *r)
{
    return bench_read_stream(r->stream, (uint32_t *)r->sum, r->a, r->bytes, r->blocks);
}

static int copy_all(rig *r)
{
    return cog_cuda_check(
        cudaMemcpyAsync(r->b, r->a, r->bytes, cudaMemcpyDeviceToDevice, r->stream), "copy");
}

static int send(rig *r)
{
    return cog_cuda_check(
        cudaMemcpyAsync(r->a, r->host, r->bytes / 8, cudaMemcpyHostToDevice, r->stream),
        "host to device");
}

static int multiply(rig *r)
{
    size_t ld = (size_t)r->side;
    cog_cuda_product p = { .a = r->a,
                           .lda = ld,
                           .w = r->a + r->bytes / 2,
                           .ldw = ld,
                           .dst = r->b,
                           .ldd = ld,
                           .rows = r->side,
                           .n = r->side,
                           .k = r->side };
    return cog_cuda_gemm_run(r->gemm, r->stream, &p);
}

static int run_chain(rig *r)
{
    return cog_cuda_check(cudaGraphLaunch(r->chain, r->stream), "chain of empty kernels");
}

/* Seconds of the quickest of the repeats. */
static int best(rig *r, double *seconds, int (*run)(rig *r))
{
    float least = 0, ms;

    for (int i = 0; i < REPEATS; i++) {
        if (cog_cuda_check(cudaEventRecord(r->begin, r->stream), "event") < 0 || run(r) < 0 ||
            cog_cuda_check(cudaEventRecord(r->end, r->stream), "event") < 0 ||
            cog_cuda_check(cudaEventSynchronize(r->end), "ceiling") < 0 ||
            cog_cuda_check(cudaEventElapsedTime(&ms, r->begin, r->end), "event") < 0)
            return COG_EDEVICE;
        if (i == 0 || ms < least)
            least = ms;
    }
    *seconds = (least > 0 ? (double)least : 1e-6) * 1e-3;
    return 0;
}

static int record_chain(rig *r)
{
    cudaGraph_t graph;
    int rc = cog_cuda_check(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal),
                            "recording");

    for (int i = 0; rc == 0 && i < NODES; i++)
        rc = bench_do_nothing(r->stream);
    if (rc == 0)
        rc = cog_cuda_check(cudaStreamEndCapture(r->stream, &graph), "recording");
    if (rc < 0)
        return rc;
    rc = cog_cuda_check(cudaGraphInstantiate(&r->chain, graph, 0), "recording");
    cudaGraphDestroy(graph);
    return rc;
}

static int reserve(rig *r, int scale, cog_err *err)
{
    int sms = 0;

    r->side = 8192 / scale < 64 ? 64 : 8192 / scale;
    r->bytes = ((size_t)2 << 30) / (size_t)scale;
    if (r->bytes < (size_t)r->side * (size_t)r->side * 4)
        r->bytes = (size_t)r->side * (size_t)r->side * 4;
    if (cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0) != cudaSuccess)
        return cog_err_set(err, COG_EUNSUPPORTED, "there is no CUDA device");
    r->blocks = sms * 8;
    if (cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking) != cudaSuccess ||
        cudaEventCreate(&r->begin) != cudaSuccess || cudaEventCreate(&r->end) != cudaSuccess ||
        cudaMalloc((void **)&r->a, r->bytes) != cudaSuccess ||
        cudaMalloc((void **)&r->b, r->bytes) != cudaSuccess ||
        cudaMalloc((void **)&r->sum, (size_t)r->blocks * 256 * 4) != cudaSuccess ||
        cudaMalloc((void **)&r->workspace, WORKSPACE) != cudaSuccess ||
        cudaHostAlloc((void **)&r->host, r->bytes / 8, cudaHostAllocDefault) != cudaSuccess)
        return cog_err_set(err, COG_ENOMEM, "no memory for the ceilings");
    memset(r->host, 0x3c, r->bytes / 8);
    if (cog_cuda_random(r->stream, COG_BF16, r->a, 1024, (int)(r->bytes / 2048), 1024, 1, 0, 1) < 0)
        return cog_err_set(err, COG_EDEVICE, "the device failed");
    return cog_cuda_gemm_open(&r->gemm, COG_BF16, r->workspace, WORKSPACE, false, err);
}

static void release(rig *r)
{
    cog_cuda_gemm_close(r->gemm);
    if (r->chain)
        cudaGraphExecDestroy(r->chain);
    cudaFree(r->a);
    cudaFree(r->b);
    cudaFree(r->sum);
    cudaFree(r->workspace);
    if (r->host)
        cudaFreeHost(r->host);
    if (r->begin)
        cudaEventDestroy(r->begin);
    if (r->end)
        cudaEventDestroy(r->end);
    if (r->stream)
        cudaStreamDestroy(r->stream);
}

static int tune(rig *r)
{
    cog_cuda_product p = { .a = r->a,
                           .lda = (size_t)r->side,
                           .w = r->a + r->bytes / 2,
                           .ldw = (size_t)r->side,
                           .dst = r->b,
                           .ldd = (size_t)r->side,
                           .rows = r->side,
                           .n = r->side,
                           .k = r->side };
    return cog_cuda_gemm_tune(r->gemm, r->stream, &p, r->side);
}

int bench_ceiling_measure(bench_ceiling *out, const char *name, int scale, cog_err *err)
{
    rig r = { 0 };
    double read, copy, product, chain, sent;
    int rc;

    if (strcmp(name, "cuda") != 0)
        return cog_err_set(err, COG_EUNSUPPORTED, "this build knows none for '%s'", name);
    rc = reserve(&r, scale, err);
    if (rc == 0 && (tune(&r) < 0 || record_chain(&r) < 0 || best(&r, &read, read_all) < 0 ||
                    best(&r, &copy, copy_all) < 0 || best(&r, &product, multiply) < 0 ||
                    best(&r, &chain, run_chain) < 0 || best(&r, &sent, send) < 0))
        rc = cog_err_set(err, COG_EDEVICE, "the device failed");
    if (rc == 0)
        *out = (bench_ceiling){ .read = (double)r.bytes / read,
                                .copy = 2.0 * (double)r.bytes / copy,
                                .gemm = 2.0 * r.side * (double)r.side * r.side / product,
                                .node = chain / NODES,
                                .h2d = (double)(r.bytes / 8) / sent };
    release(&r);
    return rc;
}
