/* A backend with one fault is refused, and the message says where. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "engine/cpu/cpuflags.h"
#include "engine/self_check.h"

#include <math.h>
#include <string.h>

/* The published shapes: heads of 128 in the decoder, of 112 in the tower. */
static const cog_model_config published = {
    .vocab = 32000,
    .hidden = 4096,
    .inter = 11008,
    .layers = 32,
    .heads = 32,
    .kv_heads = 32,
    .head_dim = 128,
    .max_positions = 2048,
    .rms_eps = 1e-5f,
    .vision = { .hidden = 1792,
                .heads = 16,
                .head_dim = 112,
                .layers = 63,
                .inter = 15360,
                .image_side = 490,
                .patch = 14,
                .grid = 35,
                .tokens = 1226,
                .eps = 1e-6f },
    .patches = 1225,
    .image_tokens = 1227,
};

static int check(const cog_backend_ops *ops, const cog_model_config *m, cog_dtype dtype, int block,
                 bool invariant, cog_err *err)
{
    cog_device_config real = { .model = m,
                               .dtype = dtype,
                               .threads = 2,
                               .max_rows = 256,
                               .max_seqs = 32,
                               .max_images = 1,
                               .max_features = 33,
                               .block = block,
                               .n_blocks = 100,
                               .batch_invariant = invariant };

    return cog_self_check(ops, &real, err);
}

/* ------------------------------------------------------------------ what is right passes */

static int open_scalar(cog_backend **out, const cog_device_config *cfg, cog_err *err)
{
    int rc;

    cog_cpu_set_mask(0);
    rc = cog_cpu_ops.open(out, cfg, err);
    cog_cpu_set_mask(~0u);
    return rc;
}

static int replay_all(cog_backend *be, int (*issue)(void *arg), void *arg)
{
    return issue(arg);
}

/* Other kernels, other orders of summation: what the limits must let through. */
static void another_right_device_passes(void **state)
{
    cog_backend_ops scalar = cog_cpu_ops;

    scalar.open = open_scalar;
    scalar.replay = replay_all;
    for (cog_dtype dtype = COG_F32; dtype <= COG_BF16; dtype++) {
        cog_err err = { 0 };
        if (check(&scalar, &published, dtype, 32, false, &err) < 0)
            fail_msg("%s", err.text);
    }
}

static void any_shape_can_be_checked(void **state)
{
    static const struct {
        int heads, kv_heads, head_dim, vision_heads, vision_dim, patch;
    } shape[] = {
        { 32, 8, 128, 16, 112, 14 }, { 5, 5, 18, 2, 33, 5 },  { 1, 1, 2, 1, 1, 1 },
        { 3, 1, 20, 3, 7, 2 },       { 8, 2, 80, 4, 64, 14 },
    };

    for (size_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++) {
        cog_model_config m = published;
        cog_err err = { 0 };
        m.heads = shape[i].heads;
        m.kv_heads = shape[i].kv_heads;
        m.head_dim = shape[i].head_dim;
        m.vision.heads = shape[i].vision_heads;
        m.vision.head_dim = shape[i].vision_dim;
        m.vision.patch = shape[i].patch;
        if (check(&cog_cpu_ops, &m, COG_F32, 16 << i, true, &err) < 0)
            fail_msg("shape %zu: %s", i, err.text);
    }
}

static int n_opened;

static int count_open(cog_backend **out, const cog_device_config *cfg, cog_err *err)
{
    n_opened++;
    return cog_cpu_ops.open(out, cfg, err);
}

/* A little off, and differently in each instance. */
static int logits_read_by_instance(cog_backend *be, float *dst)
{
    int rc = cog_cpu_ops.logits_read(be, dst);

    for (int i = 0; i < 320; i++) /* of every step */
        dst[i] *= 1 + (float)n_opened * 1e-6f;
    return rc;
}

/* Products that are tuned by the clock: no bits are compared across instances. */
static void instances_may_differ(void **state)
{
    cog_backend_ops tuned = cog_cpu_ops;

    tuned.open = count_open;
    tuned.logits_read = logits_read_by_instance;
    tuned.replay = replay_all;
    for (cog_dtype dtype = COG_F32; dtype <= COG_BF16; dtype++) {
        cog_err err = { 0 };
        n_opened = 0;
        if (check(&tuned, &published, dtype, 32, false, &err) < 0)
            fail_msg("%s", err.text);
        assert_int_equal(n_opened, 1);
    }
}

static int full_open(cog_backend **out, const cog_device_config *cfg, cog_err *err)
{
    return cog_err_set(err, COG_ENOMEM, "the card is full");
}

static int lacking_open(cog_backend **out, const cog_device_config *cfg, cog_err *err)
{
    return cog_err_set(err, COG_EUNSUPPORTED, "there is no libproduct.so");
}

/* Nothing is wrong with the device. */
static void what_keeps_it_from_opening_is_passed_on(void **state)
{
    cog_backend_ops ops = cog_cpu_ops;
    cog_err err = { 0 };

    ops.open = full_open;
    assert_int_equal(check(&ops, &published, COG_F32, 32, false, &err), COG_ENOMEM);
    assert_int_equal(err.code, COG_ENOMEM);
    assert_string_equal(err.text, "the card is full");
    ops.open = lacking_open;
    assert_int_equal(check(&ops, &published, COG_F32, 32, false, &err), COG_EUNSUPPORTED);
    assert_int_equal(err.code, COG_EUNSUPPORTED);
    assert_string_equal(err.text, "there is no libproduct.so");
}

/* ------------------------------------------------------------------ faults */

static const cog_batch *batch; /* of the step under way */

static int remember(cog_backend *be, const cog_batch *b)
{
    batch = b;
    return cog_cpu_ops.step_begin(be, b);
}

static int failing_open(cog_backend **out, const cog_device_config *cfg, cog_err *err)
{
    return cog_err_set(err, COG_EDEVICE, "the card fell off");
}

/* A row of a matrix is lost. */
static int bad_weight(cog_backend *be, cog_weight **out, const cog_tensor *const *parts,
                      int n_parts, cog_weight_use use, cog_err *err)
{
    const cog_tensor *changed[2] = { parts[0], n_parts > 1 ? parts[1] : NULL };
    cog_tensor t = *parts[n_parts - 1];
    void *data = memcpy(cog_alloc(t.bytes, 1), t.data, t.bytes);
    int rc;

    t.data = data;
    changed[n_parts - 1] = &t;
    if (use == COG_USE_MATRIX)
        memset(data, 0, t.bytes / (size_t)t.dim[0]);
    rc = cog_cpu_ops.weight(be, out, changed, n_parts, use, err);
    cog_free(data);
    return rc;
}

static int bad_act_read(cog_backend *be, float *dst, const cog_act *a, int first, int rows)
{
    int rc = cog_cpu_ops.act_read(be, dst, a, first, rows);

    dst[0] += 100;
    return rc;
}

static int bad_vit_embed(cog_backend *be, cog_act *x, const uint8_t *const *rgb, int n,
                         const cog_vit_embed *w)
{
    const uint8_t *swapped[] = { rgb[1], rgb[0] };

    return cog_cpu_ops.vit_embed(be, x, swapped, n, w);
}

static int bad_vit_block(cog_backend *be, cog_act *x, int n, const cog_vit_layer *w)
{
    return cog_cpu_ops.vit_block(be, x, n - 1, w); /* not the last picture */
}

static int bad_vit_project(cog_backend *be, cog_act *const *features, const cog_act *x, int n,
                           const cog_adapter *w)
{
    cog_act *swapped[] = { features[1], features[0] };

    return cog_cpu_ops.vit_project(be, swapped, x, n, w);
}

static int bad_vision_poll(cog_backend *be, bool wait, bool *idle, uint64_t *busy_ns)
{
    *idle = false;
    return 0;
}

/* All rows go to one expert. */
static int bad_step_begin(cog_backend *be, const cog_batch *b)
{
    static cog_batch wrong;

    wrong = *b;
    wrong.language_rows = b->rows;
    return cog_cpu_ops.step_begin(be, &wrong);
}

static int bad_embed(cog_backend *be, cog_act *x, const cog_weight *table)
{
    static const float zero[4096];
    int rc = cog_cpu_ops.embed(be, x, table);

    return rc ? rc : cog_cpu_ops.act_write(be, x, zero, 1, 1);
}

static int bad_attention(cog_backend *be, cog_act *x, const cog_layer *w, int layer)
{
    return 0;
}

static int failing_attention(cog_backend *be, cog_act *x, const cog_layer *w, int layer)
{
    return COG_EDEVICE;
}

static int bad_ffn(cog_backend *be, cog_act *x, const cog_layer *w)
{
    return 0;
}

static int small_ffn(cog_backend *be, cog_act *x, const cog_layer *w)
{
    return batch->rows == 4 ? 0 : cog_cpu_ops.ffn(be, x, w);
}

static int large_ffn(cog_backend *be, cog_act *x, const cog_layer *w)
{
    return batch->rows > 200 && batch->n_logits > 4 ? 0 : cog_cpu_ops.ffn(be, x, w);
}

/* One value of one row is no number. */
static int nan_ffn(cog_backend *be, cog_act *x, const cog_layer *w)
{
    float row[4096];
    int rc = cog_cpu_ops.ffn(be, x, w);

    if (rc == 0 && batch->rows == 20) {
        cog_cpu_ops.act_read(be, row, x, 7, 1);
        row[3] = NAN;
        cog_cpu_ops.act_write(be, x, row, 7, 1);
    }
    return rc;
}

static int bad_logits(cog_backend *be, const cog_act *x, const cog_head *w)
{
    cog_head other = *w;
    cog_tensor one = { .name = "one", .dtype = COG_F32, .n_dims = 1 };
    float *value = cog_array(float, 64);
    const cog_tensor *part = &one;
    int rc;

    one.dim[0] = 64; /* two heads of 32 */
    one.bytes = 64 * sizeof(float);
    one.data = value;
    for (int i = 0; i < 64; i++)
        value[i] = 1;
    rc = cog_cpu_ops.weight(be, &other.norm, &part, 1, COG_USE_VECTOR, NULL);
    if (rc == 0)
        rc = cog_cpu_ops.logits(be, x, &other); /* the norm's weight is not used */
    cog_cpu_ops.weight_free(be, other.norm);
    cog_free(value);
    return rc;
}

static int bad_sample(cog_backend *be, int32_t *token)
{
    int rc = cog_cpu_ops.sample(be, token);

    for (int i = 0; i < batch->n_draws; i++)
        token[i] = (token[i] + 1) % 320;
    return rc;
}

static int bad_logits_read(cog_backend *be, float *dst)
{
    int rc = cog_cpu_ops.logits_read(be, dst);

    if (batch->n_logits == 20)
        dst[19 * 320] += 100;
    return rc;
}

/* In f32 within what is forgiven, and not the same bits. */
static int variant_logits_read(cog_backend *be, float *dst)
{
    int rc = cog_cpu_ops.logits_read(be, dst);

    if (batch->n_logits == 20)
        for (int i = 0; i < 20 * 320; i++)
            dst[i] *= 1.000001f;
    return rc;
}

static int bad_kv_copy(cog_backend *be, int dst, int src, int n_slots)
{
    return 0;
}

/* Repeats the step before. */
static int bad_replay(cog_backend *be, int (*issue)(void *arg), void *arg)
{
    return batch->rows == 4 ? 0 : issue(arg);
}

/* The second time, when it is a replay. */
static int late_replay(cog_backend *be, int (*issue)(void *arg), void *arg)
{
    static int n;

    return n++ > 6 ? 0 : issue(arg);
}

static int n_read;

/* Right in the first pass. */
static int forgetful_logits_read(cog_backend *be, float *dst)
{
    int rc = cog_cpu_ops.logits_read(be, dst);

    if (n_read++ >= 6)
        dst[0] *= 1.000001f;
    return rc;
}

static void every_fault_is_named(void **state)
{
#define FAULT(op, fn, where_)                                                                  \
    {                                                                                          \
        .name = #fn, .ops = { .op = fn }, .at = offsetof(cog_backend_ops, op), .where = where_ \
    }
    static const struct {
        const char *name;
        cog_backend_ops ops;
        size_t at;
        const char *where;
    } fault[] = {
        FAULT(open, failing_open, "the card fell off"),
        FAULT(weight, bad_weight, "patch embedding of two pictures"),
        FAULT(act_read, bad_act_read, "patch embedding of two pictures"),
        FAULT(vit_embed, bad_vit_embed, "patch embedding of two pictures"),
        FAULT(vit_block, bad_vit_block, "tower layer of two pictures"),
        FAULT(vit_project, bad_vit_project, "adapter features of two pictures"),
        FAULT(vision_poll, bad_vision_poll, "two pictures ended with EDEVICE"),
        FAULT(step_begin, bad_step_begin, "decoder layer of a first chunk"),
        FAULT(embed, bad_embed, "embedding of a first chunk: row 1 "),
        FAULT(attention, bad_attention, "decoder layer of a first chunk"),
        FAULT(attention, failing_attention, "a first chunk ended with EDEVICE"),
        FAULT(ffn, bad_ffn, "decoder layer of a first chunk"),
        FAULT(ffn, small_ffn, "decoder layer of a decode step of 4 rows"),
        FAULT(ffn, large_ffn, "decoder layer of a next chunk"),
        FAULT(ffn, nan_ffn, "decoder layer of a decode step of 20 rows: row 7 "),
        FAULT(logits, bad_logits, "logits of a first chunk"),
        FAULT(sample, bad_sample, "sampling from logits of a first chunk"),
        FAULT(logits_read, bad_logits_read, "logits of a decode step of 20 rows: row 19 "),
        FAULT(logits_read, variant_logits_read, "batch invariance"),
        FAULT(logits_read, forgetful_logits_read, "direct calls: the logits of a first chunk"),
        FAULT(kv_copy, bad_kv_copy, "decoder layer of a decode step of 1 row"),
        FAULT(replay, bad_replay, "replay: the logits of a decode step of 4 rows"),
        FAULT(replay, late_replay, "replay: the logits of"),
    };

    cog_model_config m = published;

    m.head_dim = m.vision.head_dim = 32; /* quicker */
    m.vision.patch = 2;
    for (cog_dtype dtype = COG_F32; dtype <= COG_BF16; dtype++) {
        for (size_t i = 0; i < sizeof(fault) / sizeof(fault[0]); i++) {
            cog_backend_ops ops = cog_cpu_ops;
            cog_err err = { 0 };
            n_read = 0;
            ops.step_begin = remember;
            memcpy((char *)&ops + fault[i].at, (const char *)&fault[i].ops + fault[i].at,
                   sizeof(void (*)(void)));
            if (check(&ops, &m, dtype, 32, true, &err) != COG_EDEVICE)
                fail_msg("%s in %s was not noticed", fault[i].name, cog_dtype_name(dtype));
            if (!strstr(err.text, fault[i].where) || !strstr(err.text, "do not serve"))
                fail_msg("%s in %s: %s", fault[i].name, cog_dtype_name(dtype), err.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_right_device_passes),
        cmocka_unit_test(any_shape_can_be_checked),
        cmocka_unit_test(instances_may_differ),
        cmocka_unit_test(what_keeps_it_from_opening_is_passed_on),
        cmocka_unit_test(every_fault_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
