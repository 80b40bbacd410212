/* What engine/cuda/weight.c puts on the device, bit by bit, under the emulator with copies that run
 * as late as they may. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/weight.h"

#include <cuda_runtime.h>
#include <string.h>

static const cog_model_config model = {
    .hidden = 64,
    .inter = 96,
    .heads = 4,
    .head_dim = 16,
    .vision = { .hidden = 48, .inter = 72, .patch = 14 },
};

/* The kernel of cog_cuda_weights_random has tests of its own; here it shows what it was asked. */
static struct {
    int calls, rows, cols;
    size_t ld;
    uint64_t key;
    float center, spread;
} asked;

int cog_cuda_random(cudaStream_t s, cog_dtype type, void *dst, size_t ld, int rows, int cols,
                    uint64_t key, float center, float spread)
{
    asked.calls++;
    asked.rows = rows;
    asked.cols = cols;
    asked.ld = ld;
    asked.key = key;
    asked.center = center;
    asked.spread = spread;
    return cudaMemsetAsync(dst, 0x3c, (size_t)rows * ld * cog_dtype_size(type), s) == cudaSuccess
               ? 0
               : COG_EDEVICE;
}

int cog_cuda_check(cudaError_t error, const char *what)
{
    return error == cudaSuccess ? 0 : COG_EDEVICE;
}

static cog_cuda_weights *open_weights(cog_dtype dtype, uint64_t weight_bytes)
{
    cog_device_config cfg = {
        .model = &model, .dtype = dtype, .threads = 2, .weight_bytes = weight_bytes, .n_weights = 8
    };
    cog_cuda_weights *ws = NULL;
    cog_err err = { 0 };

    assert_int_equal(cog_cuda_weights_open(&ws, &cfg, &err), 0);
    return ws;
}

/* Random bits: NaNs, infinities and subnormals among them; not aligned. */
static cog_tensor tensor(const char *name, cog_dtype dtype, int64_t rows, int64_t cols)
{
    size_t bytes = (size_t)rows * (size_t)cols * cog_dtype_size(dtype);
    unsigned char *data = (unsigned char *)cog_alloc(bytes + 1, 1) + 1;

    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t bits = cog_rng_at((uint64_t)rows * 31 + (uint64_t)cols, i);
        memcpy(data + i, &bits, bytes - i < 8 ? bytes - i : 8);
    }
    return (cog_tensor){ .name = name,
                         .dtype = dtype,
                         .n_dims = 2,
                         .dim = { rows, cols },
                         .data = data,
                         .bytes = bytes };
}

static void tensor_fini(cog_tensor *t)
{
    cog_free((unsigned char *)(uintptr_t)t->data - 1);
}

/* The device's bytes are those that conversion element by element gives. */
static void expect(cog_dtype type, const cog_weight *w, const cog_tensor *const *parts, int n_parts)
{
    size_t elem = cog_dtype_size(type), n = (size_t)w->rows * w->ld, row = 0;
    char *got = cog_alloc(n, elem), *want = cog_alloc(n, elem);

    for (int i = 0; i < n_parts; i++)
        for (int64_t r = 0; r < parts[i]->dim[0]; r++, row++)
            for (size_t k = 0; k < (size_t)w->cols; k++) {
                char *to = want + (row * w->ld + k) * elem;
                size_t at = (size_t)r * (size_t)w->cols + k;
                float value;
                uint16_t bits;
                cog_tensor_read(&value, parts[i], at, 1);
                bits = cog_f32_to_bf16(value);
                if (parts[i]->dtype == type)
                    memcpy(to, (const char *)parts[i]->data + at * elem, elem);
                else
                    memcpy(to, type == COG_BF16 ? (void *)&bits : (void *)&value, elem);
            }
    assert_int_equal(row, w->rows);
    assert_int_equal(cudaMemcpy(got, w->data, n * elem, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_memory_equal(got, want, n * elem);
    cog_free(got);
    cog_free(want);
}

/* Several weights of any type and odd sizes, some beyond a buffer, with one wait at the end and
 * their sources gone before it. */
static void any_type_and_size_arrives(void **state)
{
    static const struct {
        int rows[3], n_parts, cols;
        cog_weight_use use;
    } shape[] = {
        { { 1 }, 1, 1, COG_USE_VECTOR },           { { 1 }, 1, 13, COG_USE_VECTOR },
        { { 3, 2, 4 }, 3, 16, COG_USE_MATRIX },    { { 5, 1, 7 }, 3, 21, COG_USE_MATRIX },
        { { 1, 1 }, 2, 9, COG_USE_VECTOR },        { { 2 }, 1, 588, COG_USE_ROWS },
        { { 1100, 37 }, 2, 8003, COG_USE_MATRIX },
    };
    enum { N = sizeof(shape) / sizeof(*shape), LAST = N - 1 };

    for (int type = COG_F32; type <= COG_BF16; type++) {
        cog_cuda_weights *ws = open_weights((cog_dtype)type, 40 << 20);
        for (int from = COG_F32; from <= COG_F16; from++) {
            cog_weight *w[N];
            cog_tensor part[N][3];
            const cog_tensor *list[N][3];
            cog_err err = { 0 };
            for (int i = 0; i < N; i++) {
                for (int p = 0; p < shape[i].n_parts; p++) {
                    part[i][p] =
                        tensor("w", (cog_dtype)((from + p) % 3), shape[i].rows[p], shape[i].cols);
                    list[i][p] = &part[i][p];
                }
                assert_int_equal(cog_cuda_weights_upload(ws, &w[i], list[i], shape[i].n_parts,
                                                         shape[i].use, &err),
                                 0);
                assert_int_equal((uintptr_t)w[i]->data % 256, 0);
                assert_int_equal(w[i]->cols, shape[i].cols);
                assert_int_equal(w[i]->ld, shape[i].use == COG_USE_VECTOR
                                               ? shape[i].cols
                                               : (shape[i].cols + 7) / 8 * 8);
            }
            assert_int_equal(cog_cuda_weights_end(ws), 0);
            for (int i = 0; i < N; i++) {
                expect((cog_dtype)type, w[i], list[i], shape[i].n_parts);
                for (int p = 0; p < shape[i].n_parts; p++)
                    tensor_fini(&part[i][p]);
                cog_cuda_weights_free(ws, w[i]);
            }
        }
        cog_cuda_weights_close(ws);
    }
}

/* A call has read what it borrows: what happens to it afterwards does not matter. */
static void a_source_may_go_at_once(void **state)
{
    cog_cuda_weights *ws = open_weights(COG_BF16, 1 << 20);
    cog_tensor kept = tensor("w", COG_BF16, 30, 40), lost = tensor("w", COG_BF16, 30, 40);
    const cog_tensor *keep[] = { &kept }, *lose[] = { &lost };
    cog_weight *w;
    cog_err err = { 0 };

    assert_int_equal(cog_cuda_weights_upload(ws, &w, lose, 1, COG_USE_MATRIX, &err), 0);
    memset((void *)(uintptr_t)lost.data, 0x55, lost.bytes);
    tensor_fini(&lost);
    assert_int_equal(cog_cuda_weights_end(ws), 0);
    expect(COG_BF16, w, keep, 1);
    assert_int_equal(cog_cuda_weights_end(ws), 0);
    tensor_fini(&kept);
    cog_cuda_weights_free(ws, w);
    cog_cuda_weights_close(ws);
}

/* What was planned is enough for the model's weights, and all that is taken. */
static void memory_is_what_was_planned(void **state)
{
    static const int shape[8][2] = { { 192, 64 }, { 64, 64 },  { 192, 64 }, { 64, 96 },
                                     { 48, 588 }, { 144, 48 }, { 72, 48 },  { 48, 72 } };
    cog_device_config cfg = { .model = &model, .dtype = COG_BF16, .threads = 1, .n_weights = 8 };
    cog_cuda_weights *ws;
    cog_weight *w[8];
    size_t before, after, total;
    cog_err err = { 0 };

    for (int i = 0; i < 8; i++)
        cfg.weight_bytes += 2 * (uint64_t)shape[i][0] * (uint64_t)shape[i][1];
    assert_int_equal(cudaMemGetInfo(&before, &total), cudaSuccess);
    assert_int_equal(cog_cuda_weights_open(&ws, &cfg, &err), 0);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 8; i++)
            assert_int_equal(cog_cuda_weights_random(ws, &w[i], shape[i][0], shape[i][1],
                                                     COG_USE_MATRIX, 1, 0, 1, &err),
                             0);
        assert_int_equal(cog_cuda_weights_end(ws), 0);
        assert_int_equal(cudaMemGetInfo(&after, &total), cudaSuccess);
        assert_in_range(before - after, cfg.weight_bytes, cog_cuda_weights_bytes(&cfg) + 256);
        for (int i = 0; i < 8; i++)
            cog_cuda_weights_free(ws, w[i]);
    }
    assert_in_range(cog_cuda_weights_bytes(&cfg), cfg.weight_bytes, cfg.weight_bytes + 4096);
    cog_cuda_weights_close(ws);
    assert_int_equal(cudaMemGetInfo(&after, &total), cudaSuccess);
    assert_int_equal(after, before);
}

static void random_asks_for_the_elements_in_order(void **state)
{
    cog_cuda_weights *ws = open_weights(COG_F32, 1 << 20);
    cog_weight *w;
    unsigned char got[3 * 24 * 4], want[3 * 24 * 4];
    cog_err err = { 0 };

    memset(want, 0x3c, sizeof(want));
    memset(&asked, 0, sizeof(asked));
    assert_int_equal(cog_cuda_weights_random(ws, &w, 3, 21, COG_USE_MATRIX, 77, 0.5f, 0.25f, &err),
                     0);
    assert_int_equal(asked.rows, 3);
    assert_int_equal(asked.cols, 21);
    assert_int_equal(asked.ld, 24);
    assert_int_equal(asked.key, 77);
    assert_true(asked.center == 0.5f && asked.spread == 0.25f);
    assert_int_equal(cog_cuda_weights_end(ws), 0);
    assert_int_equal(cudaMemcpy(got, w->data, sizeof(got), cudaMemcpyDeviceToHost), cudaSuccess);
    assert_memory_equal(got, want, sizeof(got));
    cog_cuda_weights_free(ws, w);
    assert_int_equal(cog_cuda_weights_random(ws, &w, 3, 21, COG_USE_VECTOR, 77, 0, 1, &err), 0);
    assert_int_equal((size_t)asked.rows * asked.ld, 63);
    assert_int_equal(asked.rows * asked.cols, 63);
    assert_int_equal(asked.calls, 2);
    assert_int_equal(cog_cuda_weights_end(ws), 0);
    cog_cuda_weights_free(ws, w);
    cog_cuda_weights_close(ws);
}

static void errors_name_the_tensor(void **state)
{
    cog_cuda_weights *ws = open_weights(COG_BF16, 1 << 20);
    cog_tensor a = tensor("model.a", COG_F32, 2, 8), b = tensor("model.b", COG_F32, 2, 9);
    cog_tensor huge = { .name = "model.huge",
                        .dtype = COG_F16,
                        .n_dims = 2,
                        .dim = { INT64_C(1) << 32, 1 },
                        .data = a.data };
    cog_tensor large = { .name = "model.large",
                         .dtype = COG_BF16,
                         .n_dims = 2,
                         .dim = { 1 << 20, 1 << 20 },
                         .data = a.data };
    const cog_tensor *mixed[] = { &a, &b }, *one[] = { &huge }, *two[] = { &large };
    cog_weight *w = NULL;
    cog_err err = { 0 };

    assert_int_equal(cog_cuda_weights_upload(ws, &w, mixed, 2, COG_USE_MATRIX, &err), COG_EFORMAT);
    assert_non_null(strstr(err.text, "model.a"));
    assert_non_null(strstr(err.text, "model.b"));
    assert_int_equal(cog_cuda_weights_upload(ws, &w, one, 1, COG_USE_MATRIX, &err), COG_EFORMAT);
    assert_non_null(strstr(err.text, "model.huge"));
    assert_int_equal(cog_cuda_weights_upload(ws, &w, two, 1, COG_USE_MATRIX, &err), COG_ENOMEM);
    assert_non_null(strstr(err.text, "model.large"));
    assert_null(w);
    tensor_fini(&a);
    tensor_fini(&b);
    cog_cuda_weights_close(ws);
    cog_cuda_weights_close(NULL);
}

static int end_device(void **state)
{
    cudaemu_reset();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_type_and_size_arrives),
        cmocka_unit_test(a_source_may_go_at_once),
        cmocka_unit_test(memory_is_what_was_planned),
        cmocka_unit_test(random_asks_for_the_elements_in_order),
        cmocka_unit_test(errors_name_the_tensor),
    };

    cudaemu_set(CUDAEMU_LATE, 1);
    cudaemu_set(CUDAEMU_SEED, 7);
    return cmocka_run_group_tests(tests, NULL, end_device);
}
