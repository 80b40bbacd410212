/* Every mistake of bugs.cu is found, and named with its kernel, block and thread; without the
 * mistake nothing is found. Then what kernels compute, streams, graphs. */
extern "C" {
#include "tests/unit/unit.h"
}

#include "tests/cudaemu/bugs.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <string>
#include <vector>

extern "C" {
#include "base/err.h"
#include "engine/cuda/kernels.h"
}

int cog_cuda_check(cudaError_t error, const char *what)
{
    return error == cudaSuccess ? 0 : COG_EDEVICE;
}

struct found {
    std::string what, kernel, other, text;
    unsigned block, thread;
};

static std::vector<found> reports;

static void keep(void *user, const cudaemu_report *r)
{
    if (reports.size() < 10000)
        reports.push_back(
            { r->what, r->kernel, r->other ? r->other : "", r->text, r->block[0], r->thread[0] });
}

static void expect_silence(const char *where)
{
    if (!reports.empty())
        fail_msg("%s: %s", where, reports[0].text.c_str());
}

static bool has(const struct bug *b)
{
    for (const found &f : reports)
        if (f.what == b->what && f.kernel == b->name && f.block == b->block &&
            f.thread == b->thread && f.other == (b->other ? b->other : ""))
            return true;
    return false;
}

static void run_all(long late, long seed, bool right)
{
    for (int i = 0; i < n_bugs; i++) {
        const struct bug *b = &bugs[i];

        cudaemu_reset();
        cudaemu_set(CUDAEMU_LATE, late);
        cudaemu_set(CUDAEMU_SEED, seed);
        reports.clear();
        b->run(right);
        /* what runs at once has read its memory */
        if (late == 2 && !strcmp(b->what, "pinned memory reused"))
            continue;
        if (right)
            expect_silence(b->name);
        else if (reports.empty())
            fail_msg("%s: %s was not found", b->name, b->what);
        else if (!seed && !has(b))
            fail_msg("%s: %s was to be found, but there is\n%s", b->name, b->what,
                     reports[0].text.c_str());
    }
    cudaemu_set(CUDAEMU_LATE, 0);
    cudaemu_set(CUDAEMU_SEED, 0);
}

static void every_mistake_is_found(void **state)
{
    run_all(0, 0, false);
}

static void every_mistake_is_found_in_any_order(void **state)
{
    for (long seed = 1; seed < 6; seed++)
        run_all(seed % 3, seed, false);
}

static void nothing_is_found_without_the_mistakes(void **state)
{
    for (long seed = 0; seed < 6; seed++)
        run_all(seed % 3, seed, true);
}

/* ---- what the runtime refuses ---- */

static void body(int *)
{
}

static cudaError_t launch(cudaStream_t s, size_t shared, unsigned threads, bool dependent)
{
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute = {};

    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3(1);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = s;
    config.attrs = &attribute;
    config.numAttrs = dependent;
    return cudaLaunchKernelEx(&config, body, static_cast<int *>(nullptr));
}

static void launches_beyond_the_limits_fail(void **state)
{
    cudaStream_t s;

    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    assert_int_equal(launch(s, 48 * 1024, 32, false), cudaSuccess);
    assert_int_equal(launch(s, 48 * 1024 + 16, 32, false), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(
        cudaFuncSetAttribute(body, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024),
        cudaSuccess);
    assert_int_equal(launch(s, 64 * 1024, 32, false), cudaSuccess);
    assert_int_equal(
        cudaFuncSetAttribute(body, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 * 1024),
        cudaErrorInvalidValue);
    assert_int_equal(launch(s, 0, 1025, false), cudaErrorInvalidConfiguration);
    assert_int_equal(launch(s, 0, 0, false), cudaErrorInvalidConfiguration);
    cudaemu_set(CUDAEMU_CAPABILITY, 80);
    assert_int_equal(launch(s, 0, 32, true), cudaErrorNotSupported);
    cudaemu_set(CUDAEMU_CAPABILITY, 90);
    assert_int_equal(cudaStreamDestroy(s), cudaSuccess);
}

static void a_recording_forbids_what_waits(void **state)
{
    cudaStream_t s;
    cudaGraph_t g;
    void *p;

    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    for (int what = 0; what < 4; what++) {
        assert_int_equal(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal), cudaSuccess);
        assert_int_equal(launch(s, 0, 32, false), cudaSuccess);
        cudaError_t error = what == 0   ? cudaStreamSynchronize(s)
                            : what == 1 ? cudaMalloc(&p, 16)
                            : what == 2 ? cudaDeviceSynchronize()
                                        : cudaStreamQuery(s);
        assert_int_equal(error, cudaErrorStreamCaptureUnsupported);
        assert_int_equal(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
        assert_null(g);
    }
    assert_int_equal(cudaStreamDestroy(s), cudaSuccess);
}

static void a_fork_must_join(void **state)
{
    cudaStream_t s, t;
    cudaEvent_t e;
    cudaGraph_t g;
    size_t n;

    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&t, cudaStreamNonBlocking);
    cudaEventCreate(&e);
    for (int join = 0; join < 2; join++) {
        cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
        launch(s, 0, 32, false);
        cudaEventRecord(e, s);
        cudaStreamWaitEvent(t, e);
        launch(t, 0, 32, false);
        cudaEventRecord(e, t);
        if (join)
            cudaStreamWaitEvent(s, e);
        assert_int_equal(cudaStreamEndCapture(s, &g),
                         join ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
    }
    assert_int_equal(cudaGraphGetNodes(g, nullptr, &n), cudaSuccess);
    assert_int_equal(n, 2);
    cudaGraphDestroy(g);
    cudaEventDestroy(e);
    cudaStreamDestroy(s);
    cudaStreamDestroy(t);
}

static void a_failed_device_stays_failed(void **state)
{
    cudaStream_t s;
    void *p;

    cudaemu_reset();
    cudaemu_set(CUDAEMU_FAIL_AFTER, 2);
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    assert_int_equal(launch(s, 0, 32, false), cudaSuccess);
    assert_int_equal(launch(s, 0, 32, false), cudaSuccess);
    assert_int_equal(launch(s, 0, 32, false), cudaErrorIllegalAddress);
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorIllegalAddress);
    assert_int_equal(cudaMalloc(&p, 16), cudaErrorIllegalAddress);
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
    cudaemu_set(CUDAEMU_FAIL_AFTER, 0);
    cudaemu_reset();
}

static void memory_has_an_end(void **state)
{
    size_t available, total;
    void *p, *q;

    cudaemu_reset();
    cudaemu_set(CUDAEMU_MEMORY_MIB, 16);
    assert_int_equal(cudaMalloc(&p, 10 << 20), cudaSuccess);
    assert_int_equal(cudaMalloc(&q, 10 << 20), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMemGetInfo(&available, &total), cudaSuccess);
    assert_int_equal(available, 6 << 20);
    assert_int_equal(total, 16 << 20);
    assert_int_equal(cudaFree(p), cudaSuccess);
    assert_int_equal(cudaFree(p), cudaErrorInvalidValue);
    assert_int_equal(cudaMalloc(&q, 10 << 20), cudaSuccess);
    cudaFree(q);
    cudaemu_set(CUDAEMU_MEMORY_MIB, 4096);
}

/* ---- results ---- */

struct rig {
    cudaStream_t s;

    rig()
    {
        cudaemu_reset();
        cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    }
    ~rig()
    {
        cudaemu_reset();
    }
    template <typename T> T *up(const std::vector<T> &v)
    {
        void *p = nullptr;

        cudaMalloc(&p, v.size() * sizeof(T));
        cudaMemcpyAsync(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice, s);
        return static_cast<T *>(p);
    }
    template <typename T> std::vector<T> down(const T *p, size_t n)
    {
        std::vector<T> v(n);

        assert_int_equal(cudaMemcpyAsync(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost, s),
                         cudaSuccess);
        assert_int_equal(cudaStreamSynchronize(s), cudaSuccess);
        return v;
    }
};

static float value(uint16_t bits)
{
    uint32_t u = static_cast<uint32_t>(bits) << 16;
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}

static void mma_is_a_product(void **state)
{
    rig r;
    std::vector<uint16_t> a(16 * 16), b(16 * 8);
    std::vector<float> zero(16 * 8);

    for (size_t i = 0; i < a.size(); i++)
        a[i] = static_cast<uint16_t>(0x3f00 + i * 37 % 256 + (i % 3 ? 0 : 0x8000));
    for (size_t i = 0; i < b.size(); i++)
        b[i] = static_cast<uint16_t>(0x3e80 + i * 91 % 256 + (i % 5 ? 0 : 0x8000));
    float *d = r.up(zero);
    run_mma(r.s, d, r.up(a), r.up(b));
    std::vector<float> got = r.down(d, 16 * 8);
    for (size_t m = 0; m < 16; m++)
        for (size_t n = 0; n < 8; n++) {
            float sum = 1.0f;

            for (size_t k = 0; k < 16; k++)
                sum += value(a[m * 16 + k]) * value(b[k * 8 + n]);
            assert_memory_equal(&got[m * 8 + n], &sum, sizeof sum);
        }
}

static void ldmatrix_follows_its_layout(void **state)
{
    rig r;
    std::vector<uint16_t> m(32 * 8);
    std::vector<uint32_t> zero(32 * 4);

    for (size_t i = 0; i < m.size(); i++)
        m[i] = static_cast<uint16_t>(i * 259);
    for (int trans = 0; trans < 2; trans++) {
        uint32_t *out = r.up(zero);

        run_ldmatrix(r.s, out, r.up(m), trans);
        std::vector<uint32_t> got = r.down(out, 32 * 4);
        for (size_t lane = 0; lane < 32; lane++)
            for (size_t i = 0; i < 4; i++)
                for (size_t h = 0; h < 2; h++) {
                    size_t row = lane / 4, col = 2 * (lane % 4) + h;
                    uint16_t want = trans ? m[(8 * i + col) * 8 + row] : m[(8 * i + row) * 8 + col];

                    assert_int_equal(got[lane * 4 + i] >> 16 * h & 0xffff, want);
                }
    }
}

static void warps_exchange_values(void **state)
{
    rig r;
    unsigned *out = r.up(std::vector<unsigned>(32 * 16));

    run_warp(r.s, out);
    std::vector<unsigned> got = r.down(out, 32 * 16);
    for (unsigned l = 0; l < 32; l++) {
        const unsigned want[16] = { 5,
                                    l < 3 ? l : l - 3,
                                    l > 28 ? l : l + 3,
                                    l ^ 6,
                                    (l & ~7u) + 1,
                                    0x49249249,
                                    1,
                                    0,
                                    496,
                                    31,
                                    l < 16 ? 0xffffu : 0xffff0000u,
                                    l ^ 1,
                                    7,
                                    1,
                                    0,
                                    l ^ 1 };
        assert_memory_equal(&got[l * 16], want, sizeof want);
    }
}

static void atomics_count(void **state)
{
    rig r;
    unsigned *out = r.up(std::vector<unsigned>(8));
    float half = 48.0f;
    unsigned bits;

    run_atomics(r.s, out);
    std::vector<unsigned> got = r.down(out, 8);
    memcpy(&bits, &half, sizeof bits);
    const unsigned want[8] = { 96, 95, 96 % 5, bits, ~0u, 96, 9, static_cast<unsigned>(-95) };
    assert_memory_equal(got.data(), want, sizeof want);
}

static void a_graph_repeats(void **state)
{
    rig r;
    cudaGraph_t g;
    cudaGraphExec_t x;
    int *p = r.up(std::vector<int>(40));

    cudaStreamBeginCapture(r.s, cudaStreamCaptureModeThreadLocal);
    run_add(r.s, p, 40, 1);
    run_add(r.s, p, 39, 2);
    assert_int_equal(cudaStreamEndCapture(r.s, &g), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&x, g, 0), cudaSuccess);
    cudaGraphDestroy(g);
    for (int i = 0; i < 5; i++)
        assert_int_equal(cudaGraphLaunch(x, r.s), cudaSuccess);
    std::vector<int> got = r.down(p, 40);
    assert_int_equal(got[0], 15);
    assert_int_equal(got[39], 5);
    cudaGraphExecDestroy(x);
}

static void events_have_times_in_order(void **state)
{
    rig r;
    cudaEvent_t a, b;
    int *p = r.up(std::vector<int>(8));
    int least, greatest, priority;
    float ms;

    cudaEventCreate(&a);
    cudaEventCreate(&b);
    cudaEventRecord(a, r.s);
    run_add(r.s, p, 8, 1);
    cudaEventRecord(b, r.s);
    assert_int_equal(cudaEventElapsedTime(&ms, a, b), cudaErrorNotReady);
    assert_int_equal(cudaEventSynchronize(b), cudaSuccess);
    assert_int_equal(cudaEventElapsedTime(&ms, a, b), cudaSuccess);
    assert_true(ms > 0.0f);
    cudaEventDestroy(a);
    cudaEventDestroy(b);
    cudaDeviceGetStreamPriorityRange(&least, &greatest);
    assert_true(greatest < least);
    cudaStream_t t;
    cudaStreamCreateWithPriority(&t, cudaStreamNonBlocking, greatest);
    cudaStreamGetPriority(t, &priority);
    assert_int_equal(priority, greatest);
    cudaStreamDestroy(t);
}

/* As late as allowed: the host sees nothing before it waits, and what is in order stays so. */
static void late_streams_keep_their_order(void **state)
{
    for (long seed = 1; seed < 20; seed++) {
        rig r;
        cudaStream_t t;
        cudaEvent_t e;

        cudaemu_set(CUDAEMU_LATE, 1);
        cudaemu_set(CUDAEMU_SEED, seed);
        cudaStreamCreateWithFlags(&t, cudaStreamNonBlocking);
        cudaEventCreate(&e);
        int *p = r.up(std::vector<int>(4)), *h;
        cudaMallocHost(reinterpret_cast<void **>(&h), 4 * sizeof(int));
        memset(h, 0, 4 * sizeof(int));
        run_add(r.s, p, 4, 1);
        cudaEventRecord(e, r.s);
        cudaStreamWaitEvent(t, e);
        run_add(t, p, 4, 10);
        cudaMemcpyAsync(h, p, 4 * sizeof(int), cudaMemcpyDeviceToHost, t);
        assert_int_equal(h[0], 0);
        assert_int_equal(cudaStreamSynchronize(t), cudaSuccess);
        assert_int_equal(h[0], 11);
        cudaFreeHost(h);
        cudaEventDestroy(e);
    }
    cudaemu_set(CUDAEMU_LATE, 0);
    cudaemu_set(CUDAEMU_SEED, 0);
}

static void product(void *args)
{
    int *const *p = static_cast<int *const *>(args);

    cudaemu_reads(p[0], 4 * sizeof(int));
    cudaemu_writes(p[1], 4 * sizeof(int));
    for (int i = 0; i < 4; i++)
        p[1][i] = p[0][i] * 3;
}

static void stand_ins_are_work_like_any(void **state)
{
    rig r;
    int *p = r.up(std::vector<int>{ 1, 2, 3, 4 }), *args[2] = { p, r.up(std::vector<int>(4)) };

    assert_int_equal(cudaemu_enqueue(r.s, "product", product, args, sizeof args), 0);
    std::vector<int> got = r.down(args[1], 4);
    assert_int_equal(got[3], 12);
    expect_silence("product");

    cudaStream_t t;
    cudaStreamCreateWithFlags(&t, cudaStreamNonBlocking);
    cudaemu_enqueue(r.s, "product", product, args, sizeof args);
    run_add(t, args[1], 4, 1);
    cudaDeviceSynchronize();
    assert_false(reports.empty());
    assert_string_equal(reports[0].what.c_str(), "race between streams");
    assert_string_equal(reports[0].other.c_str(), "product");
    reports.clear();
}

/* Code that is not instrumented. */
static void the_host_cannot_touch_device_memory(void **state)
{
    rig r;
    volatile int *p = r.up(std::vector<int>{ 1, 2, 3 });

    cudaStreamSynchronize(r.s);
    assert_int_equal(p[1], 2);
    assert_int_equal(reports.size(), 1);
    assert_string_equal(reports[0].what.c_str(), "device memory touched by the host");
    reports.clear();
}

static int silent(void **state)
{
    reports.clear();
    cudaemu_on_report(keep, nullptr);
    return 0;
}

static int was_silent(void **state)
{
    expect_silence("at the end");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_mistake_is_found, silent),
        cmocka_unit_test_setup(every_mistake_is_found_in_any_order, silent),
        cmocka_unit_test_setup(nothing_is_found_without_the_mistakes, silent),
#define QUIET(name) cmocka_unit_test_setup_teardown(name, silent, was_silent)
        QUIET(launches_beyond_the_limits_fail),
        QUIET(a_recording_forbids_what_waits),
        QUIET(a_fork_must_join),
        QUIET(a_failed_device_stays_failed),
        QUIET(memory_has_an_end),
        QUIET(mma_is_a_product),
        QUIET(ldmatrix_follows_its_layout),
        QUIET(warps_exchange_values),
        QUIET(atomics_count),
        QUIET(a_graph_repeats),
        QUIET(events_have_times_in_order),
        QUIET(late_streams_keep_their_order),
        QUIET(the_host_cannot_touch_device_memory),
        QUIET(stand_ins_are_work_like_any),
#undef QUIET
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
