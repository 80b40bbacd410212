/* What the CPU backend makes of a checkpoint's tensors, and what it refuses. */
#include "tests/unit/unit.h"

#include "engine/cpu/cpu.h"
#include "tests/unit/cpu_rig.h"

#include <math.h>

static cog_tensor tensor(const char *name, cog_dtype dtype, const void *data, int rows, int cols)
{
    return (cog_tensor){ .name = name,
                         .dtype = dtype,
                         .n_dims = 2,
                         .dim = { rows, cols },
                         .data = data,
                         .bytes = (size_t)rows * (size_t)cols * cog_dtype_size(dtype) };
}

/* x [1, cols] times w^T through the head, which is the barest product: its norm has weight 1 and x
 * has root mean square 1. */
static void product(const rig *g, const cog_weight *w, const float *x, float *y)
{
    static int32_t zero = 0, row = 0, none = -1;
    rig *mutable = (rig *)(uintptr_t)g;
    cog_weight *one = rig_weight(mutable, COG_USE_VECTOR, 1, g->m.hidden, 1, 0);
    cog_head head = { .norm = one, .lm_head = (cog_weight *)(uintptr_t)w };
    cog_batch b = { .rows = 1,
                    .language_rows = 1,
                    .token = &zero,
                    .feature = &none,
                    .position = &zero,
                    .slot = &zero,
                    .seq = &zero,
                    .seqs = 1,
                    .block_table = &zero,
                    .max_blocks = 1,
                    .n_logits = 1,
                    .logits_row = &row };
    cog_act *a;

    assert_int_equal(cog_cpu_ops.act_new(g->be, &a, 1, g->m.hidden), 0);
    assert_int_equal(cog_cpu_ops.act_write(g->be, a, x, 0, 1), 0);
    assert_int_equal(cog_cpu_ops.step_begin(g->be, &b), 0);
    assert_int_equal(cog_cpu_ops.logits(g->be, a, &head), 0);
    assert_int_equal(cog_cpu_ops.logits_read(g->be, y), 0);
    cog_cpu_ops.act_free(g->be, a);
}

/* IEEE binary16 of a normal number that it holds exactly, or of 0. */
static uint16_t half(float x)
{
    int exponent;
    double m = frexp(fabs((double)x), &exponent);

    if (m == 0)
        return 0;
    return (uint16_t)((x < 0 ? 0x8000 : 0) + ((exponent + 14) << 10) + (int)((2 * m - 1) * 1024));
}

/* The same numbers as f32, bf16 and f16, one after the other as parts of one matrix. */
static void parts_of_any_type_stack(void **state)
{
    for (cog_dtype mode = COG_F32; mode <= COG_BF16; mode++) {
        rig g;
        rig_open(&g, mode, 2, ~0u);
        int cols = g.m.hidden;
        size_t n = (size_t)(70 * cols);
        float *f32 = cog_array(float, n), *x = cog_array(float, (size_t)cols), y[210];
        uint16_t *bf16 = cog_array(uint16_t, n);
        uint16_t *f16 = cog_array(uint16_t, n);
        for (size_t i = 0; i < n; i++) {
            /* 7 bits of mantissa: exact in every type */
            f32[i] = (float)((int)(cog_rng_at(1, i) % 255) - 127) / 64;
            bf16[i] = cog_f32_to_bf16(f32[i]);
            f16[i] = half(f32[i]);
        }
        cog_tensor t[] = { tensor("a", COG_F32, f32, 70, cols),
                           tensor("b", COG_BF16, bf16, 70, cols),
                           tensor("c", COG_F16, f16, 70, cols) };
        const cog_tensor *parts[] = { &t[0], &t[1], &t[2] };
        cog_weight *w;
        cog_err err = { 0 };
        assert_int_equal(cog_cpu_ops.weight(g.be, &w, parts, 3, COG_USE_MATRIX, &err), 0);
        for (int i = 0; i < cols; i++)
            x[i] = i % 2 ? 1 : -1;
        product(&g, w, x, y);
        for (int o = 0; o < 70; o++) {
            double want = 0;
            for (int i = 0; i < cols; i++)
                want += (double)(x[i] * f32[o * cols + i]);
            assert_true(fabs((double)y[o] - want) <= 0.01 * fabs(want) + 0.001);
            assert_true(y[o] == y[70 + o] && y[o] == y[140 + o]);
        }
        cog_cpu_ops.weight_free(g.be, w);
        cog_free(f32);
        cog_free(bf16);
        cog_free(f16);
        cog_free(x);
        rig_close(&g);
    }
}

/* Values made on the device are those of the function in backend.h. */
static void random_parameters_are_a_pure_function(void **state)
{
    for (cog_dtype mode = COG_F32; mode <= COG_BF16; mode++) {
        rig g;
        rig_open(&g, mode, 2, ~0u);
        int rows = g.m.vocab, cols = g.m.hidden;
        size_t n = (size_t)rows * (size_t)cols;
        float *f32 = cog_array(float, n), *x = cog_array(float, (size_t)cols), y[2][210];
        cog_weight *made, *given;
        cog_err err = { 0 };
        for (size_t i = 0; i < n; i++) {
            float unit = (float)(cog_rng_at(77, i) >> 40) / 16777216.0f;
            f32[i] = 0.5f + 0.25f * (2 * unit - 1);
        }
        cog_tensor t = tensor("t", COG_F32, f32, rows, cols);
        const cog_tensor *part = &t;
        for (int i = 0; i < cols; i++)
            x[i] = i % 2 ? 1 : -1;
        assert_int_equal(cog_cpu_ops.weight(g.be, &given, &part, 1, COG_USE_MATRIX, &err), 0);
        assert_int_equal(cog_cpu_ops.weight_random(g.be, &made, rows, cols, COG_USE_MATRIX, 77,
                                                   0.5f, 0.25f, &err),
                         0);
        product(&g, given, x, y[0]);
        product(&g, made, x, y[1]);
        assert_memory_equal(y[0], y[1], sizeof(y[0]));
        assert_memory_equal(given->data, made->data, n * cog_dtype_size(mode));
        cog_cpu_ops.weight_free(g.be, given);
        cog_cpu_ops.weight_free(g.be, made);
        assert_int_equal(
            cog_cpu_ops.weight_random(g.be, &made, 1, 90, COG_USE_VECTOR, 5, 1, 0, &err), 0);
        for (int i = 0; i < 90; i++)
            assert_true(made->vector[i] == 1);
        cog_cpu_ops.weight_free(g.be, made);
        assert_int_equal(cog_cpu_ops.weight_random(g.be, &made, 0, 90, COG_USE_ROWS, 5, 1, 0, &err),
                         COG_EINVAL);
        cog_free(f32);
        cog_free(x);
        rig_close(&g);
    }
}

/* Each draw is what the sampler gives for its row, and -1 where it gives nothing. */
static void draws_are_the_samplers(void **state)
{
    static const cog_sampling hot = { .temperature = 2, .top_p = 1, .repetition_penalty = 1 };
    static const cog_sampling greedy = { .top_p = 1, .repetition_penalty = 1 };
    int32_t token[] = { 3, 4 }, none[] = { -1, -1 }, zero[] = { 0, 0 }, slot[] = { 0, 1 };
    int32_t row[] = { 1, 0 }, got[4], want;
    cog_draw draw[] = { { 0, &hot, { .choice = 0 } },
                        { 0, &hot, { .choice = 1 } },
                        { 1, &greedy, { .choice = 0 } },
                        { 1, &hot, { .choice = 0, .n_output = 0 } } };
    cog_batch b = { .rows = 2,
                    .language_rows = 2,
                    .token = token,
                    .feature = none,
                    .position = zero,
                    .slot = slot,
                    .seq = zero,
                    .seqs = 1,
                    .block_table = zero,
                    .max_blocks = 1,
                    .n_logits = 2,
                    .logits_row = row,
                    .n_draws = 4,
                    .draw = draw };
    cog_sampler *s;
    float *logits, x[90];
    cog_act *a;
    rig g;

    rig_open(&g, COG_F32, 2, ~0u);
    logits = cog_array(float, 2 * (size_t)g.m.vocab);
    s = cog_sampler_new(g.m.vocab);
    assert_int_equal(cog_cpu_ops.act_new(g.be, &a, 2, g.m.hidden), 0);
    for (int spoilt = 0; spoilt < 2; spoilt++) {
        for (int r = 0; r < 2; r++) {
            for (int i = 0; i < g.m.hidden; i++)
                x[i] = r == 0 && spoilt ? NAN : rig_random(9, (uint64_t)(90 * r + i), 0, 1);
            assert_int_equal(cog_cpu_ops.act_write(g.be, a, x, r, 1), 0);
        }
        assert_int_equal(cog_cpu_ops.step_begin(g.be, &b), 0);
        assert_int_equal(cog_cpu_ops.logits(g.be, a, &g.head), 0);
        assert_int_equal(cog_cpu_ops.sample(g.be, got), 0);
        assert_int_equal(cog_cpu_ops.logits_read(g.be, logits), 0);
        for (int i = 0; i < 4; i++) {
            if (cog_sampler_pick(s, &want, logits + draw[i].row * g.m.vocab, draw[i].params,
                                 &draw[i].context) < 0)
                want = -1;
            assert_int_equal(got[i], want);
            assert_int_equal(got[i] < 0, spoilt && draw[i].row == 1);
        }
    }
    cog_cpu_ops.act_free(g.be, a);
    cog_sampler_free(s);
    cog_free(logits);
    rig_close(&g);
}

/* In bf16 an f32 table is rounded to nearest even, once, when it is loaded. */
static void rows_round_to_nearest_even(void **state)
{
    static const float stored[2][4] = { { 1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 1 + 0x1p-8f + 0x1p-20f, 1 },
                                        { -1 - 0x1p-8f, 3.1415926f, 1e-3f, 65504 } };
    static int32_t token[] = { 1, 0 }, none[] = { -1, -1 }, zero[] = { 0, 0 }, slot[] = { 0, 1 };
    float got[2 * 90], wide[2 * 90] = { 0 };
    cog_err err = { 0 };
    cog_weight *table;
    cog_act *x;
    rig g;

    rig_open(&g, COG_BF16, 1, ~0u);
    memcpy(wide, stored[0], sizeof(stored[0]));
    memcpy(wide + 90, stored[1], sizeof(stored[1]));
    cog_tensor t = tensor("table", COG_F32, wide, 2, 90);
    const cog_tensor *part = &t;
    assert_int_equal(cog_cpu_ops.weight(g.be, &table, &part, 1, COG_USE_ROWS, &err), 0);
    assert_int_equal(cog_cpu_ops.act_new(g.be, &x, 2, 90), 0);
    cog_batch b = { .rows = 2,
                    .language_rows = 2,
                    .token = token,
                    .feature = none,
                    .position = zero,
                    .slot = slot,
                    .seq = zero,
                    .seqs = 1,
                    .block_table = zero,
                    .max_blocks = 1 };
    assert_int_equal(cog_cpu_ops.step_begin(g.be, &b), 0);
    assert_int_equal(cog_cpu_ops.embed(g.be, x, table), 0);
    assert_int_equal(cog_cpu_ops.act_read(g.be, got, x, 0, 2), 0);
    for (int i = 0; i < 4; i++) {
        assert_true(got[i] == cog_round_bf16(stored[1][i]));
        assert_true(got[90 + i] == cog_round_bf16(stored[0][i]));
    }
    assert_true(got[90] == 1 && got[91] == 1 + 0x1p-6f && got[92] == 1 + 0x1p-7f);
    token[0] = 2;
    assert_int_equal(cog_cpu_ops.embed(g.be, x, table), COG_EINVAL);
    cog_cpu_ops.act_free(g.be, x);
    cog_cpu_ops.weight_free(g.be, table);
    rig_close(&g);
}

static void parts_that_do_not_fit_are_refused_by_name(void **state)
{
    float data[12] = { 0 };
    cog_tensor a = tensor("first", COG_F32, data, 2, 3), b = tensor("second", COG_F32, data, 2, 4);
    const cog_tensor *parts[] = { &a, &b };
    cog_weight *w = NULL;
    cog_err err = { 0 };
    rig g;

    rig_open(&g, COG_F32, 1, ~0u);
    assert_int_equal(cog_cpu_ops.weight(g.be, &w, parts, 2, COG_USE_MATRIX, &err), COG_EFORMAT);
    assert_non_null(strstr(err.text, "first"));
    assert_non_null(strstr(err.text, "second"));
    a.dim[0] = INT64_C(1) << 40;
    assert_int_equal(cog_cpu_ops.weight(g.be, &w, parts, 1, COG_USE_MATRIX, &err), COG_EFORMAT);
    assert_null(w);
    cog_cpu_ops.weight_free(g.be, NULL);
    rig_close(&g);
}

static void activations_check_their_bounds(void **state)
{
    float row[90];
    cog_act *x = NULL;
    rig g;

    rig_open(&g, COG_F32, 1, ~0u);
    assert_int_equal(cog_cpu_ops.act_new(g.be, &x, 0, 90), COG_EINVAL);
    assert_int_equal(cog_cpu_ops.act_new(g.be, &x, 1, -1), COG_EINVAL);
    assert_int_equal(cog_cpu_ops.act_new(g.be, &x, 2, 90), 0);
    assert_int_equal(cog_cpu_ops.act_read(g.be, row, x, 2, 1), COG_EINVAL);
    assert_int_equal(cog_cpu_ops.act_read(g.be, row, x, -1, 1), COG_EINVAL);
    assert_int_equal(cog_cpu_ops.act_write(g.be, x, row, 1, 2), COG_EINVAL);
    assert_int_equal(cog_cpu_ops.act_read(g.be, row, x, 2, 0), 0);
    cog_cpu_ops.act_free(g.be, x);
    cog_cpu_ops.act_free(g.be, NULL);
    rig_close(&g);
}

static void open_refuses_what_cannot_be(void **state)
{
    cog_backend *be = NULL;
    cog_err err = { 0 };
    rig g;

    rig_open(&g, COG_F32, 1, ~0u);
    cog_device_config c = g.cfg;
    c.block = 24;
    assert_int_equal(cog_cpu_ops.open(&be, &c, &err), COG_EINVAL);
    assert_non_null(strstr(err.text, "24"));
    c = g.cfg;
    c.dtype = COG_F16;
    assert_int_equal(cog_cpu_ops.open(&be, &c, &err), COG_EUNSUPPORTED);
    c = g.cfg;
    c.max_rows = 0;
    assert_int_equal(cog_cpu_ops.open(&be, &c, &err), COG_EINVAL);
    c = g.cfg;
    c.n_blocks = 0;
    assert_int_equal(cog_cpu_ops.open(&be, &c, &err), COG_EINVAL);
    c = g.cfg;
    c.block = 256;
    c.n_blocks = INT32_MAX; /* more bytes than can be addressed */
    g.m.layers = 1000000;
    assert_int_equal(cog_cpu_ops.open(&be, &c, &err), COG_ENOMEM);
    assert_null(be);
    cog_cpu_ops.close(NULL);
    g.m.layers = 2;
    rig_close(&g);
}

/* A batch that points outside is an error, not a wild access. */
static void step_begin_checks_the_batch(void **state)
{
    int32_t token = 0, feature = -1, position = 0, slot = 0, seq = 0, page = 0, row = 0;
    cog_draw draw = { .row = 1 };
    cog_batch b = { .rows = 1,
                    .language_rows = 1,
                    .token = &token,
                    .feature = &feature,
                    .position = &position,
                    .slot = &slot,
                    .seq = &seq,
                    .seqs = 1,
                    .block_table = &page,
                    .max_blocks = 1,
                    .n_logits = 1,
                    .logits_row = &row };
    struct {
        int32_t *field, wrong;
    } wrong[] = { { &position, RIG_POSITIONS },
                  { &position, -1 },
                  { &slot, 16 },
                  { &slot, -1 },
                  { &seq, 1 },
                  { &page, 64 },
                  { &page, -1 },
                  { &row, 1 } };
    rig g;

    rig_open(&g, COG_F32, 1, ~0u);
    assert_int_equal(cog_cpu_ops.step_begin(g.be, &b), 0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        int32_t right = *wrong[i].field;
        *wrong[i].field = wrong[i].wrong;
        assert_int_equal(cog_cpu_ops.step_begin(g.be, &b), COG_EINVAL);
        *wrong[i].field = right;
    }
    b.n_draws = 1;
    b.draw = &draw;
    assert_int_equal(cog_cpu_ops.step_begin(g.be, &b), COG_EINVAL);
    draw.row = 0;
    assert_int_equal(cog_cpu_ops.step_begin(g.be, &b), 0);
    b.n_logits = g.cfg.max_seqs + 1;
    assert_int_equal(cog_cpu_ops.step_begin(g.be, &b), COG_EINVAL);
    b.n_logits = 1;
    b.rows = g.cfg.max_rows + 1;
    assert_int_equal(cog_cpu_ops.step_begin(g.be, &b), COG_EINVAL);
    rig_close(&g);
}

static void describe_names_the_kernels(void **state)
{
    unsigned variant[4];
    int n = rig_variants(variant);
    rig g;

    rig_open(&g, COG_BF16, 2, 0);
    assert_non_null(strstr(cog_cpu_ops.describe(g.be), "ref"));
    assert_non_null(strstr(cog_cpu_ops.describe(g.be), "2 threads"));
    rig_close(&g);
    for (int i = 1; i < n; i++) {
        rig_open(&g, COG_BF16, 2, variant[i]);
        assert_null(strstr(cog_cpu_ops.describe(g.be), "ref"));
        rig_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_any_type_stack),
        cmocka_unit_test(random_parameters_are_a_pure_function),
        cmocka_unit_test(draws_are_the_samplers),
        cmocka_unit_test(rows_round_to_nearest_even),
        cmocka_unit_test(parts_that_do_not_fit_are_refused_by_name),
        cmocka_unit_test(activations_check_their_bounds),
        cmocka_unit_test(open_refuses_what_cannot_be),
        cmocka_unit_test(step_begin_checks_the_batch),
        cmocka_unit_test(describe_names_the_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
