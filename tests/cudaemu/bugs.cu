/* bugs.cu - kernels with one mistake each, to be found; with right they are without it. */
#include "engine/cuda/kernels.h"
#include "engine/cuda/launch.cuh"

#include "tests/cudaemu/bugs.h"

enum { N = 64 }; /* threads of most blocks, and numbers of most buffers */

struct shared_ints {
    int v[N];
};

/* Two blocking-free streams and zeroed device memory; freed at the end. */
struct rig {
    cudaStream_t s, t;
    cudaEvent_t e;
    int *p, *q;

    rig()
    {
        cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
        cudaStreamCreateWithFlags(&t, cudaStreamNonBlocking);
        cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
        cudaMalloc(&p, N * sizeof(int));
        cudaMalloc(&q, N * sizeof(int));
        cudaMemsetAsync(p, 0, N * sizeof(int), s);
        cudaStreamSynchronize(s);
    }
    ~rig()
    {
        cudaDeviceSynchronize();
        cudaFree(p);
        cudaFree(q);
        cudaEventDestroy(e);
        cudaStreamDestroy(s);
        cudaStreamDestroy(t);
    }
};

template <typename... P, typename... A>
static void go(const char *name, cudaStream_t s, unsigned blocks, unsigned threads, size_t shared,
               void (*kernel)(P...), A... args)
{
    cog_launch(name, { s, dim3(blocks), dim3(threads), shared, false }, kernel, args...);
}

template <typename... P, typename... A>
static void go_dependent(const char *name, cudaStream_t s, void (*kernel)(P...), A... args)
{
    cog_launch(name, { s, dim3(1), dim3(N), 0, true }, kernel, args...);
}

/* ---- a block's threads ---- */

static __global__ void missing_barrier_kernel(int *p, bool right)
{
    shared_ints &s = cog_shared<shared_ints>();
    int i = static_cast<int>(threadIdx.x);

    s.v[i] = i;
    if (right)
        __syncthreads();
    p[i] = s.v[N - 1 - i];
}

static void missing_barrier(bool right)
{
    rig r;
    go("missing_barrier", r.s, 1, N, sizeof(shared_ints), missing_barrier_kernel, r.p, right);
}

/* Read, then overwritten by the neighbour. */
static __global__ void overwritten_kernel(int *p, bool right)
{
    shared_ints &s = cog_shared<shared_ints>();
    int i = static_cast<int>(threadIdx.x);

    s.v[i] = i;
    __syncthreads();
    p[i] = s.v[(i + 32) % N];
    if (right)
        __syncthreads();
    s.v[i] = p[i];
}

static void overwritten(bool right)
{
    rig r;
    go("overwritten", r.s, 1, N, sizeof(shared_ints), overwritten_kernel, r.q, right);
}

static __global__ void warp_order_kernel(int *p, bool right)
{
    shared_ints &s = cog_shared<shared_ints>();
    int i = static_cast<int>(threadIdx.x);

    s.v[i] = i;
    __shfl_xor_sync(~0u, i, 1); /* orders no memory */
    if (right)
        __syncwarp();
    p[i] = s.v[i ^ 1];
}

static void warp_order(bool right)
{
    rig r;
    go("warp_order", r.s, 1, N, sizeof(shared_ints), warp_order_kernel, r.p, right);
}

/* 16 bytes at the end of what is written, which other lanes wrote. */
static __global__ void warp_order_wide_kernel(unsigned *out, bool right)
{
    shared_ints &s = cog_shared<shared_ints>();
    int i = static_cast<int>(threadIdx.x);

    s.v[i] = i;
    if (right)
        __syncwarp();
    uint4 v = *reinterpret_cast<const uint4 *>(&s.v[i / 4 * 4]);
    out[i] = v.x + v.w;
}

static void warp_order_wide(bool right)
{
    rig r;
    go("warp_order_wide", r.s, 1, 32, sizeof(shared_ints), warp_order_wide_kernel,
       reinterpret_cast<unsigned *>(r.q), right);
}

static __global__ void divergence_kernel(int *p, bool right)
{
    int i = static_cast<int>(threadIdx.x);

    if (!right && i == 5)
        return;
    __syncthreads();
    p[i] = i;
}

static void divergence(bool right)
{
    rig r;
    go("divergence", r.s, 1, N, 0, divergence_kernel, r.p, right);
}

static __global__ void two_barriers_kernel(int *p, bool right)
{
    int i = static_cast<int>(threadIdx.x);

    if (right || i < 32)
        __syncthreads();
    else
        __syncthreads();
    p[i] = i;
}

static void two_barriers(bool right)
{
    rig r;
    go("two_barriers", r.s, 1, N, 0, two_barriers_kernel, r.p, right);
}

static __global__ void mask_kernel(int *p, bool right)
{
    int i = static_cast<int>(threadIdx.x), x = i;

    if (i < 16)
        x = __shfl_xor_sync(right ? 0xffffu : 0xff00u, x, 1);
    p[i] = x;
}

static void mask(bool right)
{
    rig r;
    go("mask", r.s, 1, 32, 0, mask_kernel, r.p, right);
}

static __global__ void lane_gone_kernel(int *p, bool right)
{
    int i = static_cast<int>(threadIdx.x);

    if (i == 3)
        return;
    p[i] = static_cast<int>(__ballot_sync(right ? ~8u : ~0u, i & 1));
}

static void lane_gone(bool right)
{
    rig r;
    go("lane_gone", r.s, 1, 32, 0, lane_gone_kernel, r.p, right);
}

static __global__ void lane_elsewhere_kernel(int *p, bool right)
{
    int i = static_cast<int>(threadIdx.x);

    if (right || i != 7)
        p[i] = __any_sync(~0u, i == 1);
    __syncthreads();
}

static void lane_elsewhere(bool right)
{
    rig r;
    go("lane_elsewhere", r.s, 1, 32, 0, lane_elsewhere_kernel, r.p, right);
}

/* ---- addresses ---- */

static __global__ void write_past_kernel(int *p, bool right)
{
    int i = static_cast<int>(threadIdx.x);

    p[right ? i : i + 1] = i;
}

static void write_past(bool right)
{
    rig r;
    go("write_past", r.s, 1, N, 0, write_past_kernel, r.p, right);
}

static __global__ void read_before_kernel(int *q, const int *p, bool right)
{
    int i = static_cast<int>(threadIdx.x);

    q[i] = p[right ? i : i - 1];
}

static void read_before(bool right)
{
    rig r;
    go("read_before", r.s, 1, N, 0, read_before_kernel, r.q, r.p, right);
}

static __global__ void shared_past_kernel(int *p, bool right)
{
    shared_ints &s = cog_shared<shared_ints>();
    int i = static_cast<int>(threadIdx.x);

    s.v[i] = i;
    __syncthreads();
    p[i] = s.v[right ? N - 1 - i : N - i];
}

static void shared_past(bool right)
{
    rig r;
    go("shared_past", r.s, 1, N, sizeof(shared_ints), shared_past_kernel, r.p, right);
}

static void shared_small(bool right)
{
    rig r;
    go("shared_small", r.s, 1, N, sizeof(shared_ints) - (right ? 0 : 4), missing_barrier_kernel,
       r.p, true);
}

static void freed(bool right)
{
    rig r;
    int *gone;

    cudaMalloc(&gone, N * sizeof(int));
    cudaMemsetAsync(gone, 0, N * sizeof(int), r.s);
    if (!right)
        cudaFree(gone);
    go("freed", r.s, 1, N, 0, read_before_kernel, r.q, gone, true);
    cudaStreamSynchronize(r.s);
    if (right)
        cudaFree(gone);
}

static void host_memory(bool right)
{
    rig r;
    static int *mine;

    mine = new int[N]();
    go("host_memory", r.s, 1, N, 0, read_before_kernel, r.q, right ? r.p : mine, true);
    cudaStreamSynchronize(r.s);
    delete[] mine;
}

static __global__ void misaligned_kernel(float *q, const int *p, bool right)
{
    const float4 *v = reinterpret_cast<const float4 *>(p + (right ? 4 : 1));

    if (threadIdx.x == 9)
        q[0] = v->x;
}

static void misaligned(bool right)
{
    rig r;
    go("misaligned", r.s, 1, N, 0, misaligned_kernel, reinterpret_cast<float *>(r.q), r.p, right);
}

static __global__ void misaligned_stream_kernel(uint4 *q, const int *p, bool right)
{
    q[threadIdx.x] = cog_load_stream(p + (right ? 4 : 1));
}

static void misaligned_stream(bool right)
{
    rig r;
    go("misaligned_stream", r.s, 1, 1, 0, misaligned_stream_kernel, reinterpret_cast<uint4 *>(r.q),
       r.p, right);
}

/* ---- what nobody wrote ---- */

static void unwritten(bool right)
{
    rig r;
    go("unwritten", r.s, 1, N, 0, read_before_kernel, r.p, right ? r.p : r.q, true);
}

static __global__ void unwritten_shared_kernel(int *p, bool right)
{
    shared_ints &s = cog_shared<shared_ints>();
    int i = static_cast<int>(threadIdx.x);

    if (right || i != 4)
        s.v[i] = i;
    __syncthreads();
    p[i] = s.v[i];
}

static void unwritten_shared(bool right)
{
    rig r;
    /* the second block must not see what the first wrote */
    go("unwritten_shared", r.s, 1, N, sizeof(shared_ints), unwritten_shared_kernel, r.p, true);
    go("unwritten_shared", r.s, 1, N, sizeof(shared_ints), unwritten_shared_kernel, r.p, right);
}

static void unwritten_to_host(bool right)
{
    rig r;
    int h[N];
    cudaMemcpyAsync(h, right ? r.p : r.q, sizeof h, cudaMemcpyDeviceToHost, r.s);
}

/* ---- cp.async ---- */

struct shared_tile {
    uint4 v[N];
};

static __global__ void copies_kernel(unsigned *out, const uint4 *p, int waits, bool barrier)
{
    shared_tile &s = cog_shared<shared_tile>();
    int i = static_cast<int>(threadIdx.x);

    cog_cp_async_16(&s.v[i], p + i % 16, i % 2 == 0);
    cog_cp_async_commit();
    if (waits)
        cog_cp_async_wait<0>();
    if (barrier)
        __syncthreads();
    out[i] = s.v[i ? i - 1 : 0].x;
}

static void no_copy_wait(bool right)
{
    rig r;
    go("no_copy_wait", r.s, 1, N, sizeof(shared_tile), copies_kernel,
       reinterpret_cast<unsigned *>(r.q), reinterpret_cast<const uint4 *>(r.p), right, true);
}

static void no_copy_barrier(bool right)
{
    rig r;
    go("no_copy_barrier", r.s, 1, N, sizeof(shared_tile), copies_kernel,
       reinterpret_cast<unsigned *>(r.q), reinterpret_cast<const uint4 *>(r.p), true, right);
}

/* The next copy may come while others still read. */
static __global__ void copy_too_soon_kernel(unsigned *out, const uint4 *p, bool right)
{
    shared_tile &s = cog_shared<shared_tile>();
    int i = static_cast<int>(threadIdx.x);
    unsigned sum = 0;

    for (int turn = 0; turn < 2; turn++) {
        cog_cp_async_16(&s.v[i], p + i % 16, true);
        cog_cp_async_commit();
        cog_cp_async_wait<0>();
        __syncthreads();
        sum += s.v[(i + 1) % N].x;
        if (right)
            __syncthreads();
    }
    out[i] = sum;
}

static void copy_too_soon(bool right)
{
    rig r;
    go("copy_too_soon", r.s, 1, N, sizeof(shared_tile), copy_too_soon_kernel,
       reinterpret_cast<unsigned *>(r.q), reinterpret_cast<const uint4 *>(r.p), right);
}

/* ---- blocks ---- */

static __global__ void blocks_kernel(int *p, bool right)
{
    p[right ? blockIdx.x : 0] = static_cast<int>(blockIdx.x);
}

static void blocks(bool right)
{
    rig r;
    go("blocks", r.s, 3, 1, 0, blocks_kernel, r.p, right);
}

struct shared_flag {
    bool last;
};

/* Every block leaves a number; the last to come adds them up. */
static __global__ void last_block_kernel(int *part, unsigned *done, bool release, bool acquire)
{
    shared_flag &s = cog_shared<shared_flag>();

    part[blockIdx.x * 2 + threadIdx.x] = 1;
    if (release)
        __threadfence();
    __syncthreads();
    if (threadIdx.x == 0)
        s.last = atomicAdd(done, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!s.last)
        return;
    if (acquire)
        __threadfence();
    if (threadIdx.x == 0) {
        int sum = 0;

        for (unsigned i = 0; i < 2 * gridDim.x; i++)
            sum += part[i];
        part[0] = sum;
        *done = 0;
    }
}

static void no_release(bool right)
{
    rig r;
    go("no_release", r.s, 4, 2, sizeof(shared_flag), last_block_kernel, r.p + 8,
       reinterpret_cast<unsigned *>(r.p), right, true);
    go("no_release", r.s, right ? 4 : 0, 2, sizeof(shared_flag), last_block_kernel, r.p + 8,
       reinterpret_cast<unsigned *>(r.p), right, true);
}

static void no_acquire(bool right)
{
    rig r;
    go("no_acquire", r.s, 4, 2, sizeof(shared_flag), last_block_kernel, r.p + 8,
       reinterpret_cast<unsigned *>(r.p), true, right);
}

/* One thread's fence after the barrier releases what the whole block wrote before it; an atomic
 * before the barrier does not. */
static __global__ void fence_of_one_kernel(int *part, unsigned *done, bool right)
{
    shared_flag &s = cog_shared<shared_flag>();

    part[blockIdx.x * 2 + threadIdx.x] = 1;
    if (right)
        __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        s.last = atomicAdd(done, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (s.last && threadIdx.x == 0) {
        int sum = 0;

        for (unsigned i = 0; i < 2 * gridDim.x; i++)
            sum += part[i];
        part[0] = sum;
        *done = 0;
    }
}

static void fence_of_one(bool right)
{
    rig r;
    go("fence_of_one", r.s, 4, 2, sizeof(shared_flag), fence_of_one_kernel, r.p + 8,
       reinterpret_cast<unsigned *>(r.p), right);
}

/* ---- streams ---- */

static __global__ void add_kernel(int *p, int n, int add)
{
    int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);

    if (i < n)
        p[i] += add;
}

static void no_event(bool right)
{
    rig r;
    go("writer", r.t, 1, N, 0, add_kernel, r.p, static_cast<int>(N), 1);
    cudaEventRecord(r.e, r.t);
    if (right)
        cudaStreamWaitEvent(r.s, r.e);
    go("no_event", r.s, 1, N, 0, read_before_kernel, r.q, r.p, true);
}

static void no_event_for_writer(bool right)
{
    rig r;
    go("reader", r.t, 1, N, 0, read_before_kernel, r.q, r.p, true);
    cudaEventRecord(r.e, r.t);
    if (right)
        cudaStreamWaitEvent(r.s, r.e);
    go("no_event_for_writer", r.s, 1, N, 0, add_kernel, r.p, static_cast<int>(N), 1);
}

/* A fork of a recording that reads what the other branch writes. */
static void graph_fork(bool right)
{
    rig r;
    cudaGraph_t g;
    cudaGraphExec_t x;

    cudaStreamBeginCapture(r.s, cudaStreamCaptureModeThreadLocal);
    if (!right)
        cudaEventRecord(r.e, r.s);
    go("writer", r.s, 1, N, 0, add_kernel, r.p, static_cast<int>(N), 1);
    if (right)
        cudaEventRecord(r.e, r.s);
    cudaStreamWaitEvent(r.t, r.e);
    go("graph_fork", r.t, 1, N, 0, read_before_kernel, r.q, r.p, true);
    cudaEventRecord(r.e, r.t);
    cudaStreamWaitEvent(r.s, r.e);
    cudaStreamEndCapture(r.s, &g);
    cudaGraphInstantiate(&x, g, 0);
    for (int i = 0; i < 3; i++)
        cudaGraphLaunch(x, r.s);
    cudaStreamSynchronize(r.s);
    cudaGraphExecDestroy(x);
    cudaGraphDestroy(g);
}

static void pinned_reused(bool right)
{
    rig r;
    int *h;

    cudaMallocHost(&h, N * sizeof(int));
    for (int i = 0; i < N; i++)
        h[i] = i;
    cudaMemcpyAsync(r.p, h, N * sizeof(int), cudaMemcpyHostToDevice, r.s);
    if (right)
        cudaStreamSynchronize(r.s);
    h[3] = 77;
    cudaStreamSynchronize(r.s);
    cudaFreeHost(h);
}

static void host_touches(bool right)
{
    rig r;
    if (!right)
        r.p[1] = 2;
}

/* ---- dependent launch ---- */

static __global__ void dependent_kernel(int *q, const int *p, bool early)
{
    int i = static_cast<int>(threadIdx.x), x = 0;

    if (early)
        x = p[i];
    cog_dependency_wait();
    cog_dependency_trigger();
    q[i] = x + p[i];
}

static void dependent(bool right)
{
    rig r;
    go("writer", r.s, 1, N, 0, add_kernel, r.p, static_cast<int>(N), 1);
    go_dependent("dependent", r.s, dependent_kernel, r.q, r.p, !right);
}

static __global__ void early_trigger_kernel(int *q, bool right)
{
    if (!right)
        cog_dependency_trigger();
    cog_dependency_wait();
    q[threadIdx.x] = 1;
}

static __global__ void weights_early_kernel(int *q, const int *p)
{
    int x = p[threadIdx.x];

    cog_dependency_wait();
    q[threadIdx.x] = x;
}

/* The kernel between lets the third start before the first has ended. */
static void early_trigger(bool right)
{
    rig r;
    go("writer", r.s, 1, N, 0, add_kernel, r.p, static_cast<int>(N), 1);
    go_dependent("between", r.s, early_trigger_kernel, r.q, right);
    go_dependent("early_trigger", r.s, weights_early_kernel, r.q, r.p);
}

static void never_waits(bool right)
{
    rig r;
    if (right)
        go_dependent("never_waits", r.s, dependent_kernel, r.q, r.p, true);
    else
        go_dependent("never_waits", r.s, add_kernel, r.p, static_cast<int>(N), 1);
}

/* PTX for 8.0, translated for a later device. */
static void older_code(bool right)
{
    cudaemu_set(CUDAEMU_CODE, right ? 90 : 80);
    {
        rig r;
        go_dependent("older_code", r.s, dependent_kernel, r.q, r.p, true);
    }
    cudaemu_set(CUDAEMU_CODE, 0);
}

const struct bug bugs[] = {
    { "missing_barrier", missing_barrier, "missing barrier", 0, 32, "missing_barrier" },
    { "overwritten", overwritten, "missing barrier", 0, 0, "overwritten" },
    { "warp_order", warp_order, "missing barrier", 0, 1, "warp_order" },
    { "warp_order_wide", warp_order_wide, "missing barrier", 0, 1, "warp_order_wide" },
    { "divergence", divergence, "barrier divergence", 0, 0, "divergence" },
    { "two_barriers", two_barriers, "barrier divergence", 0, 0, "two_barriers" },
    { "mask", mask, "wrong mask", 0, 0, NULL },
    { "lane_gone", lane_gone, "wrong mask", 0, 0, "lane_gone" },
    { "lane_elsewhere", lane_elsewhere, "wrong mask", 0, 0, "lane_elsewhere" },
    { "write_past", write_past, "out of bounds", 0, 63, NULL },
    { "read_before", read_before, "out of bounds", 0, 0, NULL },
    { "shared_past", shared_past, "out of bounds", 0, 0, NULL },
    { "shared_small", shared_small, "out of bounds", 0, 63, NULL },
    { "freed", freed, "use after free", 0, 0, NULL },
    { "host_memory", host_memory, "out of bounds", 0, 0, NULL },
    { "misaligned", misaligned, "misaligned", 0, 9, NULL },
    { "misaligned_stream", misaligned_stream, "misaligned", 0, 0, NULL },
    { "unwritten", unwritten, "unwritten memory", 0, 0, NULL },
    { "unwritten_shared", unwritten_shared, "unwritten memory", 0, 4, NULL },
    { "cudaMemcpyAsync", unwritten_to_host, "unwritten memory", 0, 0, NULL },
    { "no_copy_wait", no_copy_wait, "copy under way", 0, 0, "no_copy_wait" },
    { "no_copy_barrier", no_copy_barrier, "missing barrier", 0, 1, "no_copy_barrier" },
    { "copy_too_soon", copy_too_soon, "missing barrier", 0, 1, "copy_too_soon" },
    { "blocks", blocks, "race between blocks", 1, 0, "blocks" },
    { "no_release", no_release, "race between blocks", 3, 0, "no_release" },
    { "no_acquire", no_acquire, "race between blocks", 3, 0, "no_acquire" },
    { "fence_of_one", fence_of_one, "race between blocks", 3, 0, "fence_of_one" },
    { "no_event", no_event, "race between streams", 0, 0, "writer" },
    { "no_event_for_writer", no_event_for_writer, "race between streams", 0, 0, "reader" },
    { "graph_fork", graph_fork, "race between streams", 0, 0, "writer" },
    { "cudaMemcpyAsync", pinned_reused, "pinned memory reused", 0, 0, "host" },
    { "host", host_touches, "device memory touched by the host", 0, 0, NULL },
    { "dependent", dependent, "before dependency wait", 0, 0, "writer" },
    { "early_trigger", early_trigger, "before dependency wait", 0, 0, "writer" },
    { "never_waits", never_waits, "no dependency wait", 0, 0, NULL },
    { "older_code", older_code, "no dependency wait", 0, 0, NULL },
};
const int n_bugs = sizeof bugs / sizeof *bugs;

/* ---- right ones, for their results ---- */

static __global__ void mma_kernel(float *d, const uint16_t *a, const uint16_t *b)
{
    int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
    float sum[4] = { 1.0f, 1.0f, 1.0f, 1.0f };
    uint32_t ra[4], rb[2];

    for (int i = 0; i < 4; i++) {
        const uint16_t *p = a + (g + 8 * (i & 1)) * 16 + 2 * t + 8 * (i >> 1);
        ra[i] = static_cast<uint32_t>(p[1]) << 16 | p[0];
    }
    for (int i = 0; i < 2; i++) {
        const uint16_t *p = b + (2 * t + 8 * i) * 8 + g;
        rb[i] = static_cast<uint32_t>(p[8]) << 16 | p[0];
    }
    cog_mma_bf16(sum, ra, rb);
    for (int i = 0; i < 4; i++)
        d[(g + 8 * (i >> 1)) * 8 + 2 * t + (i & 1)] = sum[i];
}

void run_mma(cudaStream_t s, float *d, const uint16_t *a, const uint16_t *b)
{
    go("mma", s, 1, 32, 0, mma_kernel, d, a, b);
}

struct shared_matrices {
    alignas(16) uint16_t v[32][8];
};

static __global__ void ldmatrix_kernel(uint32_t *out, const uint16_t *m, bool trans)
{
    shared_matrices &s = cog_shared<shared_matrices>();
    int lane = static_cast<int>(threadIdx.x);
    uint32_t r[4];

    for (int i = 0; i < 8; i++)
        s.v[lane][i] = m[lane * 8 + i];
    __syncthreads();
    if (trans)
        cog_ldmatrix_x4_trans(r, s.v[lane]);
    else
        cog_ldmatrix_x4(r, s.v[lane]);
    for (int i = 0; i < 4; i++)
        out[lane * 4 + i] = r[i];
}

void run_ldmatrix(cudaStream_t s, uint32_t *out, const uint16_t *m, bool trans)
{
    go("ldmatrix", s, 1, 32, sizeof(shared_matrices), ldmatrix_kernel, out, m, trans);
}

static __global__ void warp_kernel(unsigned *out)
{
    unsigned lane = threadIdx.x, *o = out + lane * 16;

    o[0] = __shfl_sync(~0u, lane, 5);
    o[1] = __shfl_up_sync(~0u, lane, 3);
    o[2] = __shfl_down_sync(~0u, lane, 3);
    o[3] = __shfl_xor_sync(~0u, lane, 6);
    o[4] = __shfl_sync(~0u, lane, 1, 8);
    o[5] = __ballot_sync(~0u, lane % 3 == 0);
    o[6] = static_cast<unsigned>(__any_sync(~0u, lane == 9));
    o[7] = static_cast<unsigned>(__all_sync(~0u, lane < 31));
    o[8] = __reduce_add_sync(~0u, lane);
    o[9] = __reduce_max_sync(~0u, lane ^ 7);
    o[10] = __match_any_sync(~0u, lane / 16);
    o[11] = static_cast<unsigned>(__shfl_xor_sync(~0u, 0x100000000ull * lane, 1) >> 32);
    o[12] = static_cast<unsigned>(__syncthreads_count(lane < 7));
    o[13] = static_cast<unsigned>(__syncthreads_or(lane == 3));
    o[14] = static_cast<unsigned>(__syncthreads_and(lane == 3));
    o[15] = lane < 8 ? static_cast<unsigned>(__shfl_xor_sync(0xffu, static_cast<float>(lane), 1))
                     : __shfl_xor_sync(0xffffff00u, lane, 1);
}

void run_warp(cudaStream_t s, unsigned *out)
{
    go("warp", s, 1, 32, 0, warp_kernel, out);
}

static __global__ void atomics_kernel(unsigned *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;

    atomicAdd(out, 1u);
    atomicMax(out + 1, i);
    atomicInc(out + 2, 4u);
    atomicAdd(reinterpret_cast<float *>(out + 3), 0.5f);
    atomicOr(out + 4, 1u << i % 32);
    atomicCAS(out + 5, i, i + 1);
    atomicExch(out + 6, 9u);
    atomicMin(reinterpret_cast<int *>(out + 7), -static_cast<int>(i));
}

void run_atomics(cudaStream_t s, unsigned *out)
{
    go("atomics", s, 2, 48, 0, atomics_kernel, out);
}

void run_add(cudaStream_t s, int *p, int n, int add)
{
    go("add", s, static_cast<unsigned>((n + 31) / 32), 32, 0, add_kernel, p, n, add);
}
