/* What a device has left becomes KV pages; what does not fit is refused with numbers. */
#include "tests/unit/unit.h"

#include "engine/memory_plan.h"

#include <string.h>

#define MIB ((uint64_t)1 << 20)

static const cog_model_config model = {
    .max_positions = 100, .layers = 1, .kv_heads = 1, .head_dim = 2
};

/* A device of 1000 MiB; a page is 1 MiB in f32 and half of it in bf16. */
static int memory(cog_memory_plan *out, const cog_device_config *cfg, cog_err *err)
{
    uint64_t elem = cog_dtype_size(cfg->dtype);

    *out = (cog_memory_plan){ .total = 1000 * MIB,
                              .used = 50 * MIB,
                              .weights = cfg->weight_bytes,
                              .activations = 20 * MIB * elem,
                              .workspace = 10 * MIB,
                              .page = MIB / 4 * elem };
    return 0;
}

static const cog_backend_ops ops = { .name = "toy", .memory = memory };

static int pages(int *n, cog_dtype dtype, uint64_t weights_mib, uint64_t kv_mib, double share,
                 cog_err *err)
{
    cog_device_config d = { .model = &model,
                            .dtype = dtype,
                            .max_seqs = 4,
                            .block = 16,
                            .weight_bytes = weights_mib * MIB };
    cog_memory_plan p;

    assert_int_equal(ops.memory(&p, &d, err), 0);
    return cog_memory_pages(n, &ops, &d, &p, kv_mib * MIB, share, err);
}

static void a_device_gives_what_it_has_left(void **state)
{
    cog_err err;
    int n;

    assert_int_equal(pages(&n, COG_F32, 400, 0, 0.9, &err), 0);
    assert_int_equal(n, 900 - 50 - 400 - 80 - 10 - 256);
    assert_int_equal(pages(&n, COG_BF16, 100, 0, 0.5, &err), 0);
    assert_int_equal(n, 2 * (500 - 50 - 100 - 40 - 10 - 256));
    assert_int_equal(pages(&n, COG_F32, 400, 30, 0.01, &err), 0); /* asked for */
    assert_int_equal(n, 30);
}

static void one_context_must_fit(void **state)
{
    cog_err err;
    int n = -1;

    assert_int_equal(pages(&n, COG_F32, 497, 0, 0.9, &err), 0); /* 7 pages */
    assert_int_equal(n, 7);
    n = -1;
    assert_int_equal(pages(&n, COG_F32, 498, 0, 0.9, &err), COG_ELIMIT);
    assert_non_null(strstr(err.text, "1000 MiB"));
    assert_non_null(strstr(err.text, "50 are taken"));
    assert_non_null(strstr(err.text, "498 MiB"));
    assert_non_null(strstr(err.text, "activations 80"));
    assert_non_null(strstr(err.text, "workspace 10"));
    assert_non_null(strstr(err.text, "runtime 256"));
    assert_non_null(strstr(err.text, "one context 7;"));
    assert_non_null(strstr(err.text, "bf16 would fit"));
    assert_int_equal(pages(&n, COG_F32, 2000, 0, 0.9, &err), COG_ELIMIT);
    assert_non_null(strstr(err.text, "no type of this build fits"));
    assert_int_equal(pages(&n, COG_BF16, 1000, 0, 0.9, &err), COG_ELIMIT);
    assert_non_null(strstr(err.text, "no type of this build fits"));
    assert_int_equal(n, -1);
}

static void a_cache_that_was_asked_for_must_fit(void **state)
{
    cog_err err;
    int n;

    assert_int_equal(pages(&n, COG_F32, 400, 6, 0.9, &err), COG_ELIMIT);
    assert_non_null(strstr(err.text, "at least 7 MiB"));
    assert_int_equal(pages(&n, COG_F32, 400, 204, 0.9, &err), 0);
    assert_int_equal(n, 204);
    assert_int_equal(pages(&n, COG_F32, 400, 205, 0.9, &err), COG_ELIMIT);
    assert_non_null(strstr(err.text, "asked for 205; bf16 would fit"));
}

static void shared_memory_is_taken_modestly(void **state)
{
    cog_device_config d = { .model = &model, .dtype = COG_F32, .max_seqs = 4, .block = 16 };
    cog_memory_plan p = { .total = 1000 * MIB, .is_shared = true, .page = MIB };
    cog_err err;
    int n;

    assert_int_equal(cog_memory_pages(&n, &ops, &d, &p, 0, 0.05, &err), 0);
    assert_int_equal(n, 4 * 7); /* every sequence's whole context */
    p.weights = 920 * MIB;
    assert_int_equal(cog_memory_pages(&n, &ops, &d, &p, 0, 0.05, &err), 0);
    assert_int_equal(n, 20); /* a quarter of what is left */
    p.weights = 2000 * MIB;
    assert_int_equal(cog_memory_pages(&n, &ops, &d, &p, 0, 0.05, &err), 0);
    assert_int_equal(n, 7); /* or else no request could run */
    assert_int_equal(cog_memory_pages(&n, &ops, &d, &p, 100 * MIB, 0.05, &err), 0);
    assert_int_equal(n, 100);
}

static void backends_are_found_by_name(void **state)
{
    const cog_backend_ops *found[COG_MAX_BACKENDS];
    cog_err err = { 0 };

    assert_int_equal(cog_backend_find(found, "cpu", &err), 1);
    assert_ptr_equal(found[0], &cog_cpu_ops);
    assert_true(cog_backend_is_built(found[0]));
    assert_int_equal(cog_backend_find(found, "cuda", &err), 1);
    assert_ptr_equal(found[0], &cog_cuda_ops);
    assert_int_equal(cog_backend_find(found, "auto", &err), 2);
    assert_ptr_equal(found[1], &cog_cpu_ops); /* the last resort */
    assert_int_equal(cog_backend_find(found, "abacus", &err), COG_EINVAL);
    assert_non_null(strstr(err.text, "'abacus'"));
    assert_non_null(strstr(err.text, "auto"));
    assert_non_null(strstr(err.text, "cpu"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_gives_what_it_has_left),
        cmocka_unit_test(one_context_must_fit),
        cmocka_unit_test(a_cache_that_was_asked_for_must_fit),
        cmocka_unit_test(shared_memory_is_taken_modestly),
        cmocka_unit_test(backends_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
