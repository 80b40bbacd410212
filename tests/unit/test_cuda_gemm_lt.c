/* engine/cuda/gemm_*.c against a cuBLASLt made for it.
 *
 * What a process has decided stays decided: each test has a shape of its own. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "engine/cuda/gemm.h"
#include "engine/cuda/kernels.h"
#include "tests/cudaemu/include/cudaemu.h"
#include "tests/unit/fake_cublaslt.h"
#include "tests/unit/fake_library.h"

#include <math.h>
#include <string.h>

enum { BROKEN = 2, QUICKEST = 3, L2 = 4096 }; /* algorithms, bytes */

typedef struct bed {
    cog_cuda_gemm *g;
    cudaStream_t stream;
    cog_dtype type;
    cog_cuda_product p;  /* device memory for max_rows rows */
    float *a, *w, *bias; /* [max_rows, k], [n, k], [n], as the device has them */
    int max_rows;
} bed;

static void *upload(cog_dtype type, const float *v, int rows, int cols, size_t ld)
{
    size_t elem = cog_dtype_size(type);
    char *host = cog_alloc((size_t)rows * ld, elem);
    void *device = NULL;

    for (size_t r = 0; r < (size_t)rows; r++)
        for (size_t i = 0; i < (size_t)cols; i++) {
            uint16_t bits = cog_f32_to_bf16(v[r * (size_t)cols + i]);
            memcpy(host + (r * ld + i) * elem,
                   type == COG_BF16 ? (const void *)&bits : &v[r * (size_t)cols + i], elem);
        }
    assert_int_equal(cudaMalloc(&device, (size_t)rows * ld * elem), cudaSuccess);
    assert_int_equal(cudaMemcpy(device, host, (size_t)rows * ld * elem, cudaMemcpyHostToDevice),
                     cudaSuccess);
    cog_free(host);
    return device;
}

static float *small_numbers(int n)
{
    float *v = cog_array(float, (size_t)n);

    for (int i = 0; i < n; i++)
        v[i] = (float)((i * 7 + 3) % 11 - 5); /* products and sums are exact */
    return v;
}

static bed bed_open(cog_dtype type, int max_rows, int n, int k, bool has_bias, bool invariant)
{
    bed b = { .type = type, .max_rows = max_rows };
    size_t ldk = ((size_t)k + 7) / 8 * 8, ldn = ((size_t)n + 7) / 8 * 8;
    cog_err err = { 0 };

    memset(&lib, 0, sizeof(lib));
    lib.l2 = L2;
    for (int i = 0; i < N_ALGOS; i++)
        lib.ms[i] = i == QUICKEST ? 1 : i == 1 ? 2 : 5;
    lib.broken[BROKEN] = ALL_ROWS;
    assert_int_equal(cudaMalloc(&lib.workspace, WORKSPACE), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cog_cuda_gemm_open(&b.g, type, lib.workspace, WORKSPACE, invariant, &err), 0);
    b.a = small_numbers(max_rows * k);
    b.w = small_numbers(n * k);
    b.bias = small_numbers(n);
    b.p = (cog_cuda_product){ .a = upload(type, b.a, max_rows, k, ldk),
                              .lda = ldk,
                              .w = upload(type, b.w, n, k, ldk),
                              .ldw = ldk,
                              .bias = has_bias ? upload(type, b.bias, 1, n, ldn) : NULL,
                              .ldd = ldn,
                              .rows = max_rows,
                              .n = n,
                              .k = k };
    assert_int_equal(cudaMalloc(&b.p.dst, (size_t)max_rows * ldn * cog_dtype_size(type)),
                     cudaSuccess);
    assert_int_equal(
        cudaMemsetAsync(b.p.dst, 0xff, (size_t)max_rows * ldn * cog_dtype_size(type), b.stream),
        cudaSuccess);
    return b;
}

static void bed_close(bed *b)
{
    cog_cuda_gemm_close(b->g);
    assert_int_equal(fake_alive, 0);
    cudaFree((void *)(uintptr_t)b->p.a);
    cudaFree((void *)(uintptr_t)b->p.w);
    cudaFree((void *)(uintptr_t)b->p.bias);
    cudaFree(b->p.dst);
    cudaFree(lib.workspace);
    cudaStreamDestroy(b->stream);
    cog_free(b->a);
    cog_free(b->w);
    cog_free(b->bias);
}

static void run(bed *b, int rows)
{
    b->p.rows = rows;
    assert_int_equal(cog_cuda_gemm_run(b->g, b->stream, &b->p), 0);
}

static void expect(bed *b, int rows)
{
    size_t elem = cog_dtype_size(b->type), bytes = (size_t)rows * b->p.ldd * elem;
    char *got = cog_alloc(bytes + 1, 1);

    assert_int_equal(cudaStreamSynchronize(b->stream), cudaSuccess);
    assert_int_equal(cudaMemcpy(got, b->p.dst, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < b->p.n; o++) {
            float want = b->p.bias ? b->bias[o] : 0;
            for (int i = 0; i < b->p.k; i++)
                want += b->a[r * b->p.k + i] * b->w[o * b->p.k + i];
            assert_true(fake_get(b->type == COG_F32 ? CUDA_R_32F : CUDA_R_16BF, got,
                                 (size_t)r * b->p.ldd + (size_t)o) ==
                        (b->type == COG_F32 ? want : cog_round_bf16(want)));
        }
    cog_free(got);
}

static void a_product_is_what_the_contract_says(void **state)
{
    for (int how = 0; how < 8; how++) {
        bed b = bed_open(how & 1 ? COG_BF16 : COG_F32, 9, 13, 21, how & 2, how & 4);
        static const int rows[] = { 9, 0, 1, 5, 9 };
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
            run(&b, rows[i]);
            expect(&b, rows[i]);
        }
        bed_close(&b);
    }
}

/* Two products of one shape and different memory, then a graph of both. */
static void a_tuned_product_may_be_recorded(void **state)
{
    bed b = bed_open(COG_BF16, 40, 8, 16, true, false);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    int asked;

    assert_int_equal(cog_cuda_gemm_tune(b.g, b.stream, &b.p, 40), 0);
    asked = lib.asked;
    cog_alloc_guard_begin("recording");
    assert_int_equal(cudaStreamBeginCapture(b.stream, cudaStreamCaptureModeThreadLocal),
                     cudaSuccess);
    run(&b, 33);
    assert_int_equal(cudaStreamEndCapture(b.stream, &graph), cudaSuccess);
    cog_alloc_guard_end();
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(b.p.dst, 0xff, 40 * b.p.ldd * 2, b.stream), cudaSuccess);
    assert_int_equal(cudaGraphLaunch(exec, b.stream), cudaSuccess);
    expect(&b, 33);
    assert_int_equal(lib.asked, asked);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    bed_close(&b);
}

static void tune(bed *b, int max_rows)
{
    assert_int_equal(cog_cuda_gemm_tune(b->g, b->stream, &b->p, max_rows), 0);
}

static cog_cuda_gemm *another(const bed *b, bool invariant)
{
    cog_cuda_gemm *g = NULL;
    cog_err err = { 0 };

    assert_int_equal(cog_cuda_gemm_open(&g, b->type, lib.workspace, WORKSPACE, invariant, &err), 0);
    return g;
}

static void the_quickest_that_runs_is_kept_for_its_rows(void **state)
{
    static const int rows[][2] = { { 1, 1 },     { 2, 2 },    { 3, 4 },     { 17, 24 },
                                   { 65, 96 },   { 97, 128 }, { 128, 128 }, { 129, 256 },
                                   { 257, 384 }, { 300, 384 } };
    bed b = bed_open(COG_BF16, 300, 8, 8, false, false);
    int asked;

    tune(&b, 300);
    assert_int_equal(lib.scheme, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    asked = lib.asked;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        run(&b, rows[i][0]);
        assert_int_equal(lib.algo, QUICKEST);
        assert_int_equal(lib.rows, rows[i][1]);
    }
    tune(&b, 200);
    assert_int_equal(lib.asked, asked);
    bed_close(&b);
}

/* One of a bucket's numbers is refused, also one above this object's most. */
static void a_choice_does_all_of_its_rows(void **state)
{
    static const struct {
        int refused, run, algo;
    } cases[] = { { 20, 17, 1 }, { 20, 24, 1 }, { 20, 16, QUICKEST }, { 384, 300, 1 } };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        bed b = bed_open(COG_BF16, 300, 8, 16 + (int)i, false, false);
        lib.refused[QUICKEST] = cases[i].refused;
        tune(&b, 300);
        run(&b, cases[i].run);
        assert_int_equal(lib.algo, cases[i].algo);
        expect(&b, cases[i].run);
        bed_close(&b);
    }
}

/* No candidate does all of a bucket: each number there has the library's choice for it. */
static void a_bucket_without_a_choice_asks_for_each_number(void **state)
{
    bed b = bed_open(COG_BF16, 32, 8, 20, false, false);
    int asked;

    for (int i = 0; i < N_ALGOS; i++)
        lib.refused[i] = 20;
    tune(&b, 32);
    asked = lib.asked;
    run(&b, 21);
    assert_int_equal(lib.algo, 0);
    assert_int_equal(lib.rows, 21);
    run(&b, 25);
    assert_int_equal(lib.algo, QUICKEST);
    run(&b, 21);
    assert_int_equal(lib.rows, 21);
    assert_int_equal(lib.asked, asked + 1);
    bed_close(&b);
}

/* In a step: nothing is allocated. */
static void what_fails_is_done_as_the_library_says(void **state)
{
    bed b = bed_open(COG_BF16, 32, 8, 21, true, false);
    int asked;

    tune(&b, 32);
    asked = lib.asked;
    lib.broken[QUICKEST] = 30;
    cog_alloc_guard_begin("step");
    run(&b, 30);
    cog_alloc_guard_end();
    assert_int_equal(lib.algo, 0);
    assert_int_equal(lib.rows, 30);
    expect(&b, 30);
    lib.products = 0;
    run(&b, 30);
    assert_int_equal(lib.products, 1);
    assert_int_equal(lib.asked, asked + 1);
    run(&b, 29);
    assert_int_equal(lib.algo, QUICKEST);
    lib.broken[0] = lib.broken[QUICKEST] = ALL_ROWS;
    for (b.p.rows = 28; b.p.rows <= 30; b.p.rows++)
        assert_int_equal(cog_cuda_gemm_run(b.g, b.stream, &b.p), COG_EDEVICE);
    bed_close(&b);
}

static void an_untuned_shape_takes_the_first_choice_once(void **state)
{
    bed b = bed_open(COG_F32, 700, 8, 8, false, false);

    run(&b, 700);
    assert_int_equal(lib.algo, 0);
    assert_int_equal(lib.rows, 700);
    expect(&b, 700);
    for (int pass = 0; pass < 2; pass++)
        for (int rows = 1; rows <= 200; rows++)
            run(&b, rows);
    assert_int_equal(lib.asked, 201);
    for (int rows = 201; rows <= 600; rows++) { /* more than are kept */
        run(&b, rows);
        assert_int_equal(lib.rows, rows);
    }
    run(&b, 600);
    assert_int_equal(lib.asked, 601);
    tune(&b, 600);
    run(&b, 600);
    assert_int_equal(lib.algo, QUICKEST);
    run(&b, 700);
    run(&b, 600);
    assert_int_equal(lib.algo, QUICKEST);
    bed_close(&b);
}

/* The clock says otherwise by the time that the second object is there. */
static void one_process_decides_once(void **state)
{
    bed b = bed_open(COG_BF16, 200, 8, 22, false, false);
    cog_cuda_gemm *first = b.g;

    tune(&b, 40);
    b.g = another(&b, false);
    lib.ms[1] = 0.5f;
    lib.asked = lib.products = 0;
    tune(&b, 40);
    assert_int_equal(lib.asked + lib.products, 0);
    run(&b, 33);
    assert_int_equal(lib.algo, QUICKEST);
    tune(&b, 200); /* more rows: those that nobody decided about */
    assert_int_equal(lib.asked, 4);
    run(&b, 48);
    assert_int_equal(lib.algo, QUICKEST);
    run(&b, 49);
    assert_int_equal(lib.algo, 1);
    expect(&b, 49);
    cog_cuda_gemm_close(first);

    first = b.g;
    b.g = another(&b, true);
    lib.asked = 0;
    tune(&b, 48); /* an invariant object decides for itself */
    assert_int_equal(lib.asked, 1);
    cog_cuda_gemm_close(first);
    bed_close(&b);
}

/* The first that qualifies, though another is quicker. */
static void invariant_takes_the_first_that_keeps_the_bits(void **state)
{
    bed b = bed_open(COG_BF16, 200, 8, 23, true, true);

    lib.refused[0] = 17;
    lib.splits[1] = true;
    lib.off[QUICKEST] = 100;
    tune(&b, 200);
    assert_int_equal(lib.timed, 0);
    assert_int_equal(lib.scheme, CUBLASLT_REDUCTION_SCHEME_NONE);
    for (int rows = 1; rows <= 200; rows += 33) {
        run(&b, rows);
        assert_int_equal(lib.algo, 4);
        assert_int_equal(lib.rows, 128); /* whatever the most is */
        expect(&b, rows);
    }
    bed_close(&b);
}

static void invariant_refuses_what_cannot_be(void **state)
{
    bed b = bed_open(COG_BF16, 200, 8, 24, true, true);

    for (int i = 0; i < N_ALGOS; i++)
        lib.off[i] = 200; /* only among all of them */
    assert_int_equal(cog_cuda_gemm_tune(b.g, b.stream, &b.p, 200), COG_EUNSUPPORTED);
    lib.splits[0] = true;
    tune(&b, 199);
    run(&b, 150);
    assert_int_equal(lib.algo, 1);
    lib.broken[1] = 150; /* no other would have its bits */
    assert_int_equal(cog_cuda_gemm_run(b.g, b.stream, &b.p), COG_EDEVICE);
    bed_close(&b);
}

static void an_untuned_invariant_shape_has_one_algorithm(void **state)
{
    bed b = bed_open(COG_BF16, 200, 8, 25, false, true);

    lib.splits[0] = true;
    lib.refused[1] = 100;
    lib.broken[BROKEN] = 0;
    for (int rows = 5; rows <= 200; rows += 65) {
        run(&b, rows);
        assert_int_equal(lib.algo, 2);
        assert_int_equal(lib.rows, 128);
        expect(&b, rows);
    }
    assert_int_equal(lib.asked, 1);
    bed_close(&b);
    b = bed_open(COG_BF16, 1, 8, 26, false, true);
    for (int i = 0; i < N_ALGOS; i++)
        lib.splits[i] = true;
    b.p.rows = 1;
    assert_int_equal(cog_cuda_gemm_run(b.g, b.stream, &b.p), COG_EDEVICE);
    bed_close(&b);
}

/* A slow device: every bucket still gets its first choice, and not much more. */
static void tuning_ends(void **state)
{
    bed b = bed_open(COG_BF16, 300, 8, 27, false, false);
    enum { BUCKETS = 13, RUNS = 4 };

    lib.product_ns = 100 * UINT64_C(1000000);
    tune(&b, 300);
    assert_in_range(lib.products, BUCKETS * 2, BUCKETS * RUNS);
    run(&b, 300);
    assert_int_equal(lib.algo, 0);
    bed_close(&b);
}

/* As much as the cache holds is written before each, or what there is. */
static void a_timed_product_finds_a_cold_cache(void **state)
{
    static const size_t l2[][2] = { { L2, L2 },
                                    { WORKSPACE / 2, WORKSPACE },
                                    { (size_t)INT32_MAX, WORKSPACE } };
    size_t before, after, total;

    cudaemu_set(CUDAEMU_MEMORY_MIB, 64);
    for (size_t i = 0; i < sizeof(l2) / sizeof(*l2); i++) {
        bed b = bed_open(COG_BF16, 20, 8, 28 + (int)i, false, false);
        cog_cuda_gemm_close(b.g);
        lib.l2 = l2[i][0];
        b.g = another(&b, false);
        lib.least_flushed = SIZE_MAX;
        assert_int_equal(cudaMemGetInfo(&before, &total), cudaSuccess);
        tune(&b, 20);
        assert_int_equal(cudaMemGetInfo(&after, &total), cudaSuccess);
        assert_int_equal(after, before);
        assert_int_not_equal(lib.timed, 0);
        assert_int_equal(lib.least_flushed, l2[i][1]);
        assert_int_equal(cudaGetLastError(), cudaSuccess);
        bed_close(&b);
    }
}

static void what_is_missing_is_named(void **state)
{
    static const char *const names[] = { "libcublasLt.so.13", "libcublasLt.so.12",
                                         "libcublasLt.so" };
    cog_cuda_gemm *g = NULL;
    cog_err err = { 0 };

    memset(&lib, 0, sizeof(lib));
    lib.is_missing = true;
    assert_int_equal(cog_cuda_gemm_open(&g, COG_F32, NULL, 0, false, &err), COG_EUNSUPPORTED);
    assert_string_equal(lib.tried, CUDART_VERSION >= 13000
                                       ? "libcublasLt.so.13libcublasLt.so.12libcublasLt.so"
                                       : "libcublasLt.so.12libcublasLt.so.13libcublasLt.so");
    for (int i = 0; i < 3; i++)
        assert_non_null(strstr(err.text, names[i]));
    assert_int_equal(cog_cuda_gemm_available(&err), COG_EUNSUPPORTED);
    lib.is_missing = false;
    assert_int_equal(cog_cuda_gemm_available(&err), 0);
    lib.lacks = "cublasLtMatmulAlgoCheck";
    assert_int_equal(cog_cuda_gemm_open(&g, COG_F32, NULL, 0, false, &err), COG_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "cublasLtMatmulAlgoCheck"));
    assert_int_equal(cog_cuda_gemm_available(&err), COG_EUNSUPPORTED);
    lib.lacks = NULL;
    lib.fails_to_start = true;
    assert_int_equal(cog_cuda_gemm_available(&err), 0); /* there may be no device */
    assert_int_equal(cog_cuda_gemm_open(&g, COG_F32, NULL, 0, false, &err), COG_EDEVICE);
    assert_non_null(strstr(err.text, "as told"));
    assert_null(g);
    assert_int_equal(fake_alive, 0);
    cog_cuda_gemm_close(NULL);
}

static void the_next_library_is_tried(void **state)
{
    cog_cuda_gemm *g = NULL;
    cog_err err = { 0 };

    memset(&lib, 0, sizeof(lib));
    lib.has_own = true;
    assert_int_equal(cog_cuda_gemm_open(&g, COG_F32, NULL, WORKSPACE, false, &err), 0);
    assert_string_equal(lib.tried, CUDART_VERSION >= 13000 ? "libcublasLt.so.13libcublasLt.so.12"
                                                           : "libcublasLt.so.12");
    cog_cuda_gemm_close(g);
    assert_int_equal(fake_alive, 0);
}

static int end_device(void **state)
{
    cudaemu_reset();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_is_what_the_contract_says),
        cmocka_unit_test(a_tuned_product_may_be_recorded),
        cmocka_unit_test(the_quickest_that_runs_is_kept_for_its_rows),
        cmocka_unit_test(a_choice_does_all_of_its_rows),
        cmocka_unit_test(a_bucket_without_a_choice_asks_for_each_number),
        cmocka_unit_test(what_fails_is_done_as_the_library_says),
        cmocka_unit_test(an_untuned_shape_takes_the_first_choice_once),
        cmocka_unit_test(one_process_decides_once),
        cmocka_unit_test(invariant_takes_the_first_that_keeps_the_bits),
        cmocka_unit_test(invariant_refuses_what_cannot_be),
        cmocka_unit_test(an_untuned_invariant_shape_has_one_algorithm),
        cmocka_unit_test(tuning_ends),
        cmocka_unit_test(a_timed_product_finds_a_cold_cache),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(the_next_library_is_tried),
    };

    return cmocka_run_group_tests(tests, NULL, end_device);
}
