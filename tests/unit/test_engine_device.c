/* The engine on a device that runs late and may fail. It is the CPU behind another table: vision
 * work takes a while, steps are replayed, memory is its own. This program brings its own
 * cog_cuda_ops. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "engine/backend.h"
#include "engine/load.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REQUESTS = 12, TOKENS = 10 };

typedef enum part { NOTHING, KV_COPY, ATTENTION, SAMPLE, VIT_BLOCK, VISION_POLL } part;

/* ------------------------------------------------------------------ the device */

static struct {
    int missing;        /* what asking for its memory fails with */
    uint64_t total_mib; /* of its memory */
    uint64_t code_mib;  /* that it keeps from the first opening on */
    int n_opened;
    int block; /* and is_invariant: a device is checked once for each kind of engine */
    bool is_invariant;
    bool is_wrong;     /* it computes something else */
    _Atomic int fails; /* a part that fails from now on */
    _Atomic bool is_serving;
    _Atomic bool holds_pictures; /* vision work does not end */
    _Atomic int n_waits;         /* for vision work, while serving */
    _Atomic int n_replayed, n_steps, n_late_allocations, n_busy_answers;
    int busy; /* answers without idle still to be given */
} device;

static bool is_failing(part p)
{
    return atomic_load(&device.fails) == (int)p;
}

static int memory(cog_memory_plan *out, const cog_device_config *cfg, cog_err *err)
{
    int rc = device.missing ? cog_err_set(err, device.missing, "no toy is plugged in")
                            : cog_cpu_ops.memory(out, cfg, err);

    if (rc == 0) {
        out->is_shared = false;
        out->total = device.total_mib << 20;
        out->used = device.n_opened ? device.code_mib << 20 : 0;
    }
    return rc;
}

static int open_device(cog_backend **out, const cog_device_config *cfg, cog_err *err)
{
    device.n_opened++;
    return cog_cpu_ops.open(out, cfg, err);
}

static void close_device(cog_backend *be)
{
    cog_cpu_ops.close(be);
}

static const char *describe(const cog_backend *be)
{
    return "a toy";
}

static int weight(cog_backend *be, cog_weight **out, const cog_tensor *const *parts, int n_parts,
                  cog_weight_use use, cog_err *err)
{
    return cog_cpu_ops.weight(be, out, parts, n_parts, use, err);
}

static int weight_random(cog_backend *be, cog_weight **out, int rows, int cols, cog_weight_use use,
                         uint64_t key, float center, float spread, cog_err *err)
{
    return cog_cpu_ops.weight_random(be, out, rows, cols, use, key, center, spread, err);
}

static void weight_free(cog_backend *be, cog_weight *w)
{
    cog_cpu_ops.weight_free(be, w);
}

static int act_new(cog_backend *be, cog_act **out, int rows, int cols)
{
    if (atomic_load(&device.is_serving))
        atomic_fetch_add(&device.n_late_allocations, 1);
    return cog_cpu_ops.act_new(be, out, rows, cols);
}

static void act_free(cog_backend *be, cog_act *a)
{
    cog_cpu_ops.act_free(be, a);
}

static int act_read(cog_backend *be, float *dst, const cog_act *a, int first, int rows)
{
    return cog_cpu_ops.act_read(be, dst, a, first, rows);
}

static int act_write(cog_backend *be, cog_act *a, const float *src, int first, int rows)
{
    return cog_cpu_ops.act_write(be, a, src, first, rows);
}

static int vit_embed(cog_backend *be, cog_act *x, const uint8_t *const *rgb, int n_images,
                     const cog_vit_embed *w)
{
    device.busy = 3;
    return cog_cpu_ops.vit_embed(be, x, rgb, n_images, w);
}

static int vit_block(cog_backend *be, cog_act *x, int n_images, const cog_vit_layer *w)
{
    device.busy = 3;
    return is_failing(VIT_BLOCK) ? COG_EDEVICE : cog_cpu_ops.vit_block(be, x, n_images, w);
}

static int vit_project(cog_backend *be, cog_act *const *features, const cog_act *x, int n_images,
                       const cog_adapter *w)
{
    device.busy = 3;
    return cog_cpu_ops.vit_project(be, features, x, n_images, w);
}

static int vision_poll(cog_backend *be, bool wait, bool *idle, uint64_t *busy_ns)
{
    if (is_failing(VISION_POLL))
        return COG_EDEVICE;
    if (wait && atomic_load(&device.is_serving))
        atomic_fetch_add(&device.n_waits, 1);
    if (!wait && device.busy > 0) {
        device.busy -= !atomic_load(&device.holds_pictures);
        atomic_fetch_add(&device.n_busy_answers, 1);
        *idle = false;
        return 0;
    }
    return cog_cpu_ops.vision_poll(be, wait, idle, busy_ns);
}

static int step_begin(cog_backend *be, const cog_batch *b)
{
    atomic_fetch_add(&device.n_steps, 1);
    return cog_cpu_ops.step_begin(be, b);
}

static int embed(cog_backend *be, cog_act *x, const cog_weight *table)
{
    return cog_cpu_ops.embed(be, x, table);
}

static int attention(cog_backend *be, cog_act *x, const cog_layer *w, int layer)
{
    return is_failing(ATTENTION) ? COG_EDEVICE : cog_cpu_ops.attention(be, x, w, layer);
}

static int ffn(cog_backend *be, cog_act *x, const cog_layer *w)
{
    return device.is_wrong ? 0 : cog_cpu_ops.ffn(be, x, w);
}

static int logits(cog_backend *be, const cog_act *x, const cog_head *w)
{
    return cog_cpu_ops.logits(be, x, w);
}

static int sample(cog_backend *be, int32_t *token)
{
    return is_failing(SAMPLE) ? COG_EDEVICE : cog_cpu_ops.sample(be, token);
}

static int logits_read(cog_backend *be, float *dst)
{
    return cog_cpu_ops.logits_read(be, dst);
}

static int logits_row(cog_backend *be, float *dst, int row)
{
    return cog_cpu_ops.logits_row(be, dst, row);
}

static int replay(cog_backend *be, int (*issue)(void *arg), void *arg)
{
    atomic_fetch_add(&device.n_replayed, 1);
    return issue(arg);
}

static int kv_copy(cog_backend *be, int dst, int src, int n_slots)
{
    return is_failing(KV_COPY) ? COG_EDEVICE : cog_cpu_ops.kv_copy(be, dst, src, n_slots);
}

const cog_backend_ops cog_cuda_ops = {
    .name = "cuda",
    .vision_batch = 2,
    .memory = memory,
    .open = open_device,
    .close = close_device,
    .describe = describe,
    .weight = weight,
    .weight_random = weight_random,
    .weight_free = weight_free,
    .act_new = act_new,
    .act_free = act_free,
    .act_read = act_read,
    .act_write = act_write,
    .vit_embed = vit_embed,
    .vit_block = vit_block,
    .vit_project = vit_project,
    .vision_poll = vision_poll,
    .step_begin = step_begin,
    .embed = embed,
    .attention = attention,
    .ffn = ffn,
    .logits = logits,
    .sample = sample,
    .logits_read = logits_read,
    .logits_row = logits_row,
    .replay = replay,
    .kv_copy = kv_copy,
};

/* ------------------------------------------------------------------ requests */

typedef struct outcome {
    cog_sha256 logits[TOKENS];
    int n_tokens, n_end, status;
} outcome;

typedef struct rig {
    cog_engine *e;
    outcome out[REQUESTS];
    int n_ended;
    part fails; /* what fails from request 0's first token on */
} rig;

static void on_logits(void *arg, uint64_t id, int choice, int index, const float *row, int vocab)
{
    rig *r = arg;

    if (choice == 0)
        r->out[id].logits[index] =
            cog_sha256_of(&(cog_span){ row, (size_t)vocab * sizeof(float) }, 1);
    if (id == 0 && index == 0)
        atomic_store(&device.fails, (int)r->fails);
}

static cog_engine_config config_of(const char *backend)
{
    static char dir[512];
    cog_engine_config cfg = cog_engine_defaults;

    snprintf(dir, sizeof(dir), "%s/tests/golden/fixtures/hd64-bf16", getenv("COG_SOURCE_ROOT"));
    cfg.model_dir = dir;
    cfg.backend = backend;
    cfg.dtype = "f32";
    cfg.threads = 1;
    cfg.max_seqs = 16; /* a forked answer always finds room */
    cfg.step_tokens = 40;
    cfg.block = device.block;
    cfg.batch_invariant = device.is_invariant;
    return cfg;
}

static int try_open(rig *r, const char *backend, cog_err *err)
{
    cog_engine_config cfg = config_of(backend);

    cfg.on_logits = on_logits;
    cfg.on_logits_arg = r;
    assert_int_equal(cog_engine_open(&r->e, &cfg, err), 0);
    return cog_engine_wait(r->e, err);
}

static void open_rig(rig *r, const char *backend)
{
    cog_err err = { 0 };

    memset(r, 0, sizeof(*r));
    if (try_open(r, backend, &err) < 0)
        fail_msg("%s", err.text);
    atomic_store(&device.is_serving, true);
}

static void close_rig(rig *r)
{
    atomic_store(&device.is_serving, false);
    cog_engine_close(r->e);
}

static int reset(void **state)
{
    memset(&device, 0, sizeof(device));
    device.total_mib = 512;
    device.block = cog_engine_defaults.block;
    return 0;
}

static cog_request *make(rig *r, int i)
{
    const cog_engine_info *info = cog_engine_get_info(r->e);
    size_t n = (size_t)info->image_side * (size_t)info->image_side * 3;
    cog_turn turn = { .query = "what is the big red cat 7", .query_len = 5 + (size_t)i };
    cog_request *q = cog_new(cog_request);
    cog_err err;

    assert_int_equal(
        cog_engine_prompt(&q->prompt, r->e, COG_TEMPLATE_CHAT, &turn, 1, i % 3 != 2, &err), 0);
    if (i % 3 != 2) {
        q->image = cog_new(cog_image);
        q->image->side = info->image_side;
        q->image->rgb = cog_alloc(n, 1);
        for (size_t p = 0; p < n; p++)
            q->image->rgb[p] = (uint8_t)cog_rng_at((uint64_t)(i % 5), p);
        q->image->hash = cog_sha256_of(&(cog_span){ q->image->rgb, n }, 1);
    }
    q->id = (uint64_t)i;
    q->n = i == 0 || i % 4 == 1 ? 2 : 1;
    q->max_tokens = TOKENS;
    q->sampling = (cog_sampling){
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = (uint64_t)i
    };
    q->deadline_ns = UINT64_MAX;
    return q;
}

static void run_all(rig *r)
{
    uint64_t give_up = cog_now_ns() + 100000000000u;
    cog_request *made[REQUESTS];
    cog_err err;

    for (int i = 0; i < REQUESTS; i++)
        made[i] = make(r, i);
    for (int i = 0; i < REQUESTS; i++) {
        if (cog_engine_submit(r->e, made[i], &err) < 0) { /* it has failed already */
            assert_int_equal(err.code, COG_EDEVICE);
            cog_request_free(made[i]);
            r->out[i].status = COG_EDEVICE;
            r->out[i].n_end = 1;
            r->n_ended++;
        }
    }
    while (r->n_ended < REQUESTS) {
        for (cog_event *ev = cog_engine_wait_events(r->e, 1000000000), *next; ev; ev = next) {
            outcome *o = &r->out[ev->id];
            next = (cog_event *)ev->link.next;
            assert_int_equal(o->n_end, 0);
            o->n_tokens += ev->type == COG_EVENT_TEXT && ev->choice == 0 ? ev->n_tokens : 0;
            if (ev->type == COG_EVENT_END) {
                o->n_end++;
                o->status = ev->status;
                r->n_ended++;
            }
            cog_event_free(ev);
        }
        assert_true(cog_now_ns() < give_up);
    }
}

/* ------------------------------------------------------------------ tests */

static void a_late_device_gives_the_same_answers(void **state)
{
    rig cpu, late;
    int n_steps;

    open_rig(&cpu, "cpu");
    run_all(&cpu);
    close_rig(&cpu);
    open_rig(&late, "auto");
    assert_string_equal(cog_engine_get_info(late.e)->backend, "cuda");
    assert_string_equal(cog_engine_get_info(late.e)->device, "a toy");
    n_steps = atomic_load(&device.n_steps) - atomic_load(&device.n_replayed);
    run_all(&late);
    for (int i = 0; i < REQUESTS; i++) {
        assert_int_equal(late.out[i].status, 0);
        assert_int_equal(late.out[i].n_tokens, cpu.out[i].n_tokens);
        assert_memory_equal(late.out[i].logits, cpu.out[i].logits, sizeof(cpu.out[i].logits));
    }
    assert_true(atomic_load(&device.n_busy_answers) > 0);
    assert_int_equal(atomic_load(&device.n_late_allocations), 0);
    /* every step of the engine went through replay */
    assert_int_equal(atomic_load(&device.n_steps) - atomic_load(&device.n_replayed), n_steps);
    close_rig(&late);
}

/* All requests end with the device's error, the engine says so and takes no more. */
static void a_failing_device_ends_every_request(void **state)
{
    static const part parts[] = { KV_COPY, ATTENTION, SAMPLE, VIT_BLOCK, VISION_POLL };

    for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++) {
        cog_engine_state s;
        cog_request *q;
        cog_err err;
        int n_failed = 0;
        rig r;

        reset(NULL);
        open_rig(&r, "cuda");
        r.fails = parts[p];
        q = make(&r, 0);
        run_all(&r);
        for (int i = 0; i < REQUESTS; i++) {
            assert_true(r.out[i].status == 0 || r.out[i].status == COG_EDEVICE);
            n_failed += r.out[i].status != 0;
        }
        assert_true(n_failed > 0);
        do
            cog_engine_get_state(r.e, &s);
        while (s.phase == COG_ENGINE_READY);
        assert_int_equal(s.phase, COG_ENGINE_FAILED);
        assert_int_equal(s.err.code, COG_EDEVICE);
        assert_int_equal(cog_engine_submit(r.e, q, &err), COG_EDEVICE);
        cog_request_free(q);
        close_rig(&r);
    }
}

/* The first letter of the level at which a log of "auto" says why the device is not taken. */
static int passed_over_at(void)
{
    FILE *log = tmpfile();
    int err_fd = dup(2), level = 0;
    char line[1024];
    rig r;

    assert_non_null(log);
    dup2(fileno(log), 2);
    open_rig(&r, "auto");
    dup2(err_fd, 2);
    close(err_fd);
    assert_string_equal(cog_engine_get_info(r.e)->backend, "cpu");
    close_rig(&r);
    rewind(log);
    while (fgets(line, sizeof(line), log))
        if (strstr(line, "event=backend_not_taken") && strstr(line, "no toy is plugged in"))
            level = strstr(line, "level=")[6];
    fclose(log);
    return level;
}

/* Whoever has a GPU should learn why it is idle. */
static void a_device_that_is_passed_over_is_a_warning(void **state)
{
    device.missing = COG_EDEVICE;
    assert_int_equal(passed_over_at(), 'w');
    device.missing = COG_ELIMIT;
    assert_int_equal(passed_over_at(), 'w');
}

static void a_missing_device_leaves_the_cpu(void **state)
{
    cog_err err = { 0 };
    rig r;

    device.missing = COG_EUNSUPPORTED;
    assert_int_equal(passed_over_at(), 'i');
    memset(&r, 0, sizeof(r));
    assert_int_equal(try_open(&r, "cuda", &err), COG_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "no toy is plugged in"));
    close_rig(&r);
}

static void a_small_device_is_refused_with_numbers(void **state)
{
    cog_err err = { 0 };
    rig r = { 0 };

    device.total_mib = 2;
    assert_int_equal(try_open(&r, "auto", &err), COG_ELIMIT);
    assert_non_null(strstr(err.text, "of its 2 MiB"));
    close_rig(&r);
}

/* The pool is what utilisation leaves: more than every sequence's whole context. */
static void a_large_device_is_used(void **state)
{
    const cog_engine_info *info;
    int n, page_kib;
    rig r;

    device.total_mib = 768;
    open_rig(&r, "cuda");
    info = cog_engine_get_info(r.e);
    page_kib = 2 * 2 * 128 * 4 * info->block / 1024;
    n = info->n_blocks;
    assert_true(n > 16 * (info->context / info->block));
    assert_true(n <= (768 * 9 / 10 - 256) * 1024 / page_kib);
    close_rig(&r);
    /* what the device keeps once it was in use is no room for pages */
    device.n_opened = 0;
    device.code_mib = 64;
    device.is_invariant = true; /* a kind that was not checked yet */
    open_rig(&r, "cuda");
    assert_int_equal(cog_engine_get_info(r.e)->n_blocks, n - 64 * 1024 / page_kib);
    close_rig(&r);
}

static int load_with_cache(cog_loaded *l, uint64_t image_cache_bytes)
{
    cog_engine_config cfg = config_of("cuda");
    cog_err err = { 0 };

    *l = (cog_loaded){ 0 };
    cfg.image_cache_bytes = image_cache_bytes;
    return cog_load(l, &cfg, NULL, NULL, &err);
}

/* Where there is room for one context of pages and no more, fewer pictures are kept. */
static void pictures_that_nobody_has_give_way_to_pages(void **state)
{
    const uint64_t cache = (uint64_t)256 << 20;
    int least;
    cog_loaded l;

    for (device.total_mib = 280; load_with_cache(&l, 0) < 0; device.total_mib++) {
        cog_unload(&l);
        assert_true(device.total_mib < 400);
    }
    assert_int_equal(l.max_cached, 0);
    least = l.max_features;
    assert_int_equal(least, 16 + l.max_images); /* of the running sequences and a pass */
    cog_unload(&l);
    assert_int_equal(load_with_cache(&l, cache), 0);
    assert_int_equal(l.max_features, least);
    assert_int_equal(l.max_cached, least);
    cog_unload(&l);
    device.total_mib += 64;
    assert_int_equal(load_with_cache(&l, cache), 0);
    assert_int_equal(l.max_features, COG_MAX_CACHED_PICTURES);
    assert_int_equal(l.max_cached, COG_MAX_CACHED_PICTURES);
    cog_unload(&l);
    /* a small one is kept among those of the running sequences */
    assert_int_equal(load_with_cache(&l, cache / 10000), 0);
    assert_int_equal(l.max_features, least);
    assert_true(l.max_cached < least);
    cog_unload(&l);
}

static void wait_for_end(rig *r, int i)
{
    uint64_t give_up = cog_now_ns() + 100000000000u;

    while (!r->out[i].n_end) {
        for (cog_event *ev = cog_engine_wait_events(r->e, 1000000000), *next; ev; ev = next) {
            next = (cog_event *)ev->link.next;
            if (ev->type == COG_EVENT_END) {
                r->out[ev->id].n_end++;
                r->out[ev->id].status = ev->status;
            }
            cog_event_free(ev);
        }
        assert_true(cog_now_ns() < give_up);
    }
}

static void send(rig *r, cog_request *q)
{
    cog_err err;

    assert_int_equal(cog_engine_submit(r->e, q, &err), 0);
}

/* Until the device was asked so many times more for its pictures. */
static void wait_for_answers(int more)
{
    uint64_t give_up = cog_now_ns() + 100000000000u;
    int n = atomic_load(&device.n_busy_answers) + more;

    while (atomic_load(&device.n_busy_answers) < n) {
        assert_true(cog_now_ns() < give_up);
        usleep(1000);
    }
}

/* The device is at work on a picture and nothing else: texts, cancels and deadlines have their turn
 * at once. */
static void pictures_hold_nobody_up(void **state)
{
    cog_engine_state s;
    cog_request *q;
    uint64_t beat;
    rig r;

    open_rig(&r, "cuda");
    atomic_store(&device.holds_pictures, true);
    send(&r, make(&r, 0));
    wait_for_answers(10);
    cog_engine_get_state(r.e, &s); /* a device that hangs looks dead */
    beat = s.heartbeat_ns;
    wait_for_answers(10);
    cog_engine_get_state(r.e, &s);
    assert_true(s.heartbeat_ns == beat);
    send(&r, make(&r, 2)); /* text */
    wait_for_end(&r, 2);
    assert_int_equal(r.out[2].status, 0);
    q = make(&r, 3);
    q->deadline_ns = cog_now_ns() + 20000000;
    send(&r, q);
    wait_for_end(&r, 3);
    assert_int_equal(r.out[3].status, COG_ETIMEOUT);
    cog_engine_cancel(r.e, 0);
    wait_for_end(&r, 0);
    assert_int_equal(r.out[0].status, COG_ECANCELED);
    send(&r, make(&r, 1));
    atomic_store(&device.holds_pictures, false);
    wait_for_end(&r, 1);
    assert_int_equal(r.out[1].status, 0);
    assert_int_equal(atomic_load(&device.n_waits), 0);
    close_rig(&r);
}

/* How often the device was opened at each moment when loading can be stopped. */
typedef struct stops {
    int left;
    int n_at[3];
} stops;

static bool stop_later(void *arg, double fraction)
{
    stops *s = arg;

    if (s->left-- > 0)
        return true;
    assert_true(device.n_opened < 3);
    s->n_at[device.n_opened]++;
    return false;
}

static void loading_stops_between_its_phases(void **state)
{
    cog_engine_config cfg = config_of("cuda");
    stops s = { 0 };

    for (int n = 0; n < 4; n++) {
        cog_loaded l = { 0 };
        cog_err err = { 0 };
        cfg.dtype = "bf16";
        cfg.block = 16 << n;
        s.left = n;
        device.n_opened = 0;
        assert_int_equal(cog_load(&l, &cfg, stop_later, &s, &err), COG_ECANCELED);
        cog_unload(&l);
    }
    assert_int_equal(s.n_at[0], 1); /* before the self-check */
    assert_int_equal(s.n_at[1], 1); /* before the device is opened to serve */
    assert_int_equal(s.n_at[2], 2); /* before and among the parameters */
}

static void a_device_that_computes_something_else_is_refused(void **state)
{
    cog_err err = { 0 };
    rig r = { 0 };

    device.is_wrong = true;
    device.block = 64;
    assert_int_equal(try_open(&r, "auto", &err), COG_EDEVICE);
    assert_non_null(strstr(err.text, "self-check failed: decoder layer"));
    close_rig(&r);
}

#define device_test(f) cmocka_unit_test_setup(f, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        device_test(a_late_device_gives_the_same_answers),
        device_test(a_failing_device_ends_every_request),
        device_test(a_missing_device_leaves_the_cpu),
        device_test(a_small_device_is_refused_with_numbers),
        device_test(a_large_device_is_used),
        device_test(a_device_that_is_passed_over_is_a_warning),
        device_test(a_device_that_computes_something_else_is_refused),
        device_test(pictures_that_nobody_has_give_way_to_pages),
        device_test(pictures_hold_nobody_up),
        device_test(loading_stops_between_its_phases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
