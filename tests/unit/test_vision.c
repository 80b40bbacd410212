/* Vision passes on a device that runs late: what is enqueued when, and when a picture is ready. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/load.h"
#include "engine/vision.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_IMAGES = 2, MAX_FEATURES = 4, SEQS = 12, SLICE_NS = 50000000 };

/* The CPU backend that says it is busy for a while. */
static struct {
    int n_embed, n_block, n_project;
    int busy_polls; /* answers without idle after each piece of work */
    int left;
    uint64_t busy_ns; /* of each slice */
    bool is_broken, waited;
} late;

static int late_embed(cog_backend *be, cog_act *x, const uint8_t *const *rgb, int n,
                      const cog_vit_embed *w)
{
    late.n_embed++;
    late.left = late.busy_polls;
    return cog_cpu_ops.vit_embed(be, x, rgb, n, w);
}

static int late_block(cog_backend *be, cog_act *x, int n, const cog_vit_layer *w)
{
    late.n_block++;
    late.left = late.busy_polls;
    return cog_cpu_ops.vit_block(be, x, n, w);
}

static int late_project(cog_backend *be, cog_act *const *features, const cog_act *x, int n,
                        const cog_adapter *w)
{
    late.n_project++;
    late.left = late.busy_polls;
    return cog_cpu_ops.vit_project(be, features, x, n, w);
}

static int late_poll(cog_backend *be, bool wait, bool *idle, uint64_t *busy_ns)
{
    if (late.is_broken)
        return COG_EDEVICE;
    late.waited |= wait;
    *idle = wait || late.left-- <= 0;
    if (*idle)
        *busy_ns = late.busy_ns;
    return 0;
}

typedef struct rig {
    cog_loaded loaded;
    cog_backend_ops ops;
    cog_forward *forward;
    cog_vision vision;
    cog_scheduler sched;
    cog_sched_seq seq[SEQS];
    cog_vision_picture *picture[SEQS];
    int n;
    cog_histogram batch;
} rig;

static void open_rig(rig *r, int max_seqs, int max_cached)
{
    char dir[512];
    cog_engine_config cfg = cog_engine_defaults;
    cog_err err = { 0 };

    memset(r, 0, sizeof(*r));
    memset(&late, 0, sizeof(late));
    snprintf(dir, sizeof(dir), "%s/tests/golden/fixtures/hd64-bf16", getenv("COG_SOURCE_ROOT"));
    cfg.model_dir = dir;
    if (cog_load(&r->loaded, &cfg, NULL, NULL, &err) < 0)
        fail_msg("%s", err.text);
    r->ops = cog_cpu_ops;
    r->ops.vit_embed = late_embed;
    r->ops.vit_block = late_block;
    r->ops.vit_project = late_project;
    r->ops.vision_poll = late_poll;
    r->loaded.model->ops = &r->ops;
    assert_int_equal(
        cog_forward_open(&r->forward, r->loaded.model, 8, MAX_IMAGES, MAX_FEATURES, &err), 0);
    cog_vision_init(&r->vision, r->forward, r->loaded.model, MAX_IMAGES, MAX_FEATURES, max_cached);
    r->vision.batch = &r->batch;
    cog_scheduler_init(&r->sched, 64, 16, max_seqs, 64, false);
}

static void forget(rig *r, int i)
{
    cog_scheduler_remove(&r->sched, &r->seq[i]);
    cog_vision_unref(&r->vision, r->picture[i]);
    r->picture[i] = NULL;
}

static void close_rig(rig *r)
{
    for (int i = 0; i < r->n; i++) {
        if (r->picture[i])
            forget(r, i);
        cog_block_table_fini(&r->seq[i].table);
    }
    cog_vision_fini(&r->vision);
    cog_scheduler_fini(&r->sched);
    cog_forward_close(r->forward);
    cog_unload(&r->loaded);
}

static cog_image *make_image(rig *r, int which)
{
    int side = r->loaded.config.vision.image_side;
    cog_image *im = cog_new(cog_image);

    im->side = side;
    im->rgb = cog_alloc((size_t)side * (size_t)side, 3);
    for (size_t p = 0; p < (size_t)side * (size_t)side * 3; p++)
        im->rgb[p] = (uint8_t)cog_rng_at((uint64_t)which, p);
    im->hash.byte[0] = 7; /* all in one bucket */
    im->hash.byte[1] = (uint8_t)which;
    return im;
}

/* One more sequence, with that picture. */
static cog_picture *ask(rig *r, int which, uint8_t salt, bool is_private, bool is_new)
{
    const cog_sha256 s = { { salt } };
    int i = r->n++;
    bool was_new;

    assert_true(i < SEQS);
    r->picture[i] = cog_vision_take(&r->vision, make_image(r, which), &s, is_private, &was_new);
    assert_int_equal(was_new, is_new);
    r->seq[i] = (cog_sched_seq){ .item = { .order = (uint64_t)i },
                                 .n_tokens = 4,
                                 .n_visual = 3,
                                 .picture = &r->picture[i]->sched };
    cog_block_table_init(&r->seq[i].table, 4);
    cog_scheduler_add(&r->sched, &r->seq[i]);
    return &r->picture[i]->sched;
}

/* With a picture of its own. */
static cog_picture *add(rig *r)
{
    return ask(r, r->n, 0, false, true);
}

/* A step of up to so many rows. */
static void step(rig *r, int max_rows)
{
    cog_plan p;

    cog_plan_init(&p, r->sched.max_seqs);
    cog_scheduler_plan(&r->sched, &p, 0, max_rows);
    cog_scheduler_commit(&r->sched, &p);
    cog_plan_fini(&p);
}

static void work(rig *r)
{
    assert_int_equal(cog_vision_work(&r->vision, &r->sched, 0, SLICE_NS), 0);
}

static void work_long(rig *r)
{
    for (int i = 0; i < 100; i++)
        work(r);
}

static int n_enqueued(void)
{
    return late.n_embed + late.n_block + late.n_project;
}

static void nothing_is_enqueued_while_the_device_is_busy(void **state)
{
    cog_picture *p;
    int layers, before;
    rig r;

    open_rig(&r, 2, 0);
    layers = r.loaded.config.vision.layers;
    late.busy_polls = 3;         /* the first poll follows the work at once */
    late.busy_ns = SLICE_NS * 2; /* each slice is one layer */
    p = add(&r);
    for (int slice = 0; slice <= layers; slice++) {
        work(&r);
        before = n_enqueued();
        assert_int_equal(late.n_embed, 1);
        assert_int_equal(late.n_block, slice < layers ? slice + 1 : layers);
        assert_int_equal(late.n_project, slice == layers);
        for (int i = 1; i < late.busy_polls; i++) {
            work(&r);
            assert_int_equal(n_enqueued(), before);
            assert_false(p->ready);
        }
    }
    work(&r);
    assert_true(p->ready);
    assert_false(late.waited);
    assert_int_equal(r.vision.n_features, 1);
    assert_true(r.picture[0]->encode_ns == (uint64_t)(layers + 1) * late.busy_ns);
    close_rig(&r);
}

/* The time the device says it worked decides, not the time the call took. */
static void slices_come_from_the_devices_time(void **state)
{
    rig r;

    open_rig(&r, 2, 0);
    assert_true(r.loaded.config.vision.layers >= 2);
    late.busy_ns = 1; /* all other layers fit in the second slice */
    add(&r);
    work(&r);
    assert_int_equal(late.n_block, 1);
    work(&r);
    assert_int_equal(late.n_block, r.loaded.config.vision.layers);
    assert_int_equal(late.n_project, 0);
    close_rig(&r);
}

static void an_unwanted_pass_is_dropped_when_idle(void **state)
{
    cog_picture *p;
    rig r;

    open_rig(&r, 2, 0);
    late.busy_polls = 2;
    late.busy_ns = SLICE_NS * 2;
    add(&r);
    work(&r);
    forget(&r, 0);
    p = add(&r);
    work(&r); /* still busy for the one that is gone */
    assert_int_equal(late.n_embed, 1);
    work(&r);
    assert_int_equal(late.n_embed, 2);
    assert_int_equal(r.vision.n_encoded, 0);
    for (int i = 0; i < 100 && !p->ready; i++)
        work(&r);
    assert_true(p->ready);
    add(&r);
    work(&r);
    close_rig(&r); /* waits for the device */
    assert_true(late.waited);
}

static void features_are_given_back_and_taken_again(void **state)
{
    rig r;

    open_rig(&r, 2, 0); /* four features for six pictures */
    for (int i = 0; i < MAX_FEATURES + 2; i++)
        add(&r);
    work_long(&r);
    assert_int_equal(r.vision.n_features, MAX_FEATURES);
    assert_true(r.seq[3].picture->ready);
    assert_false(r.seq[4].picture->ready);
    forget(&r, 0);
    forget(&r, 1);
    work_long(&r);
    assert_int_equal(r.vision.n_features, MAX_FEATURES);
    assert_true(r.seq[5].picture->ready);
    close_rig(&r);
}

/* Features are in use until the last visual row is computed. */
static void features_that_nobody_needs_any_more_make_room(void **state)
{
    cog_picture *newcomer;
    rig r;

    open_rig(&r, MAX_FEATURES, 0);
    for (int i = 0; i < MAX_FEATURES; i++)
        add(&r);
    work_long(&r);
    step(&r, 4 * (MAX_FEATURES - 1) + 2); /* the last one has two of its three visual rows */
    newcomer = add(&r);
    step(&r, 0);
    work_long(&r);
    assert_true(newcomer->ready);
    assert_true(r.seq[MAX_FEATURES - 1].picture->ready);
    for (int i = 0; i < MAX_FEATURES - 1; i++)
        forget(&r, i); /* so that only two have features */
    add(&r);
    add(&r);
    work_long(&r);
    assert_int_equal(r.vision.n_features, MAX_FEATURES);
    add(&r);
    work_long(&r);
    assert_true(r.seq[MAX_FEATURES - 1].picture->ready); /* all are needed */
    assert_false(r.seq[r.n - 1].picture->ready);
    step(&r, 1); /* its last visual row */
    assert_int_equal(r.seq[MAX_FEATURES - 1].n_computed, 3);
    work_long(&r);
    assert_false(r.seq[MAX_FEATURES - 1].picture->ready);
    assert_true(r.seq[r.n - 1].picture->ready);
    close_rig(&r);
}

/* Everybody waits with a picture that is encoded, and one comes that is more urgent. */
static void who_is_first_gets_features_of_those_behind(void **state)
{
    cog_picture *urgent, *next;
    rig r;

    open_rig(&r, 1, 0);
    for (int i = 0; i < MAX_FEATURES; i++)
        add(&r);
    work_long(&r);
    assert_int_equal(r.vision.n_encoded, MAX_FEATURES);
    next = add(&r); /* comes after them, and waits */
    work_long(&r);
    assert_false(next->ready);
    assert_int_equal(r.vision.n_encoded, MAX_FEATURES);
    urgent = add(&r);
    cog_scheduler_remove(&r.sched, &r.seq[r.n - 1]);
    r.seq[r.n - 1].item.priority = -1;
    cog_scheduler_add(&r.sched, &r.seq[r.n - 1]);
    work_long(&r);
    assert_true(urgent->ready);
    assert_int_equal(r.vision.n_features, MAX_FEATURES);
    assert_int_equal(r.vision.n_encoded, MAX_FEATURES + 1);
    close_rig(&r);
}

/* ---- pictures that nobody has ---- */

static void a_picture_stays_for_whoever_comes_later(void **state)
{
    cog_act *features;
    rig r;

    open_rig(&r, 2, 2);
    add(&r);
    work_long(&r);
    features = r.picture[0]->features;
    assert_non_null(features);
    forget(&r, 0);
    assert_int_equal(r.vision.n_cached, 1);
    assert_null(r.vision.oldest->image); /* of the pixels nothing is left */
    assert_true(ask(&r, 0, 0, false, false)->ready);
    assert_ptr_equal(r.picture[1]->features, features);
    assert_non_null(r.picture[1]->image); /* and can be encoded again */
    assert_int_equal(r.vision.n_cached, 0);
    assert_int_equal(r.vision.n_encoded, 1);
    assert_int_equal(r.vision.n_shared, 1);
    close_rig(&r);
}

static void the_one_let_go_first_goes_first(void **state)
{
    rig r;

    open_rig(&r, 2, 2);
    for (int i = 0; i < 3; i++)
        add(&r);
    work_long(&r);
    forget(&r, 1);
    forget(&r, 0);
    assert_true(ask(&r, 1, 0, false, false)->ready); /* and is let go once more */
    forget(&r, 3);
    forget(&r, 2); /* a third one */
    assert_int_equal(r.vision.n_cached, 2);
    assert_int_equal(r.vision.n_features, 2);
    assert_false(ask(&r, 0, 0, false, true)->ready);
    assert_true(ask(&r, 1, 0, false, false)->ready);
    assert_true(ask(&r, 2, 0, false, false)->ready);
    close_rig(&r);
}

static void kept_pictures_make_room_for_those_in_need(void **state)
{
    rig r;

    open_rig(&r, 2, MAX_FEATURES);
    for (int i = 0; i < MAX_FEATURES; i++)
        add(&r);
    work_long(&r);
    for (int i = 0; i < MAX_FEATURES; i++)
        forget(&r, i);
    assert_int_equal(r.vision.n_cached, MAX_FEATURES);
    add(&r);
    work_long(&r);
    assert_true(r.seq[r.n - 1].picture->ready);
    assert_int_equal(r.vision.n_cached, MAX_FEATURES - 1);
    assert_false(ask(&r, 0, 0, false, true)->ready);
    close_rig(&r);
}

static void salts_and_private_pictures_share_nothing(void **state)
{
    rig r;

    open_rig(&r, 2, 4);
    ask(&r, 5, 0, false, true);
    ask(&r, 5, 1, false, true); /* the same pixels */
    ask(&r, 5, 0, true, true);
    ask(&r, 5, 0, true, true);
    ask(&r, 5, 0, false, false);
    ask(&r, 5, 1, false, false);
    work_long(&r);
    assert_int_equal(r.vision.n_encoded, 4);
    for (int i = 0; i < 6; i++)
        forget(&r, i);
    assert_int_equal(r.vision.n_cached, 2); /* nothing private */
    assert_true(ask(&r, 5, 0, false, false)->ready);
    assert_true(ask(&r, 5, 1, false, false)->ready);
    assert_ptr_not_equal(r.picture[6], r.picture[7]);
    ask(&r, 5, 2, false, true);
    ask(&r, 5, 0, true, true);
    close_rig(&r);
}

static void no_time_for_a_slice_is_none(void **state)
{
    rig r;

    open_rig(&r, 2, 0);
    add(&r);
    for (int i = 0; i < 5; i++)
        assert_int_equal(cog_vision_work(&r.vision, &r.sched, 0, 0), 0);
    assert_int_equal(n_enqueued(), 0);
    late.busy_ns = 100;
    work(&r);
    assert_int_equal(late.n_block, 1);
    assert_int_equal(r.vision.slice_ns, 100);
    assert_int_equal(cog_vision_work(&r.vision, &r.sched, 0, 0), 0);
    assert_int_equal(late.n_block, 1);
    assert_int_equal(r.vision.slice_ns, 0);
    assert_int_equal(cog_vision_work(&r.vision, &r.sched, 0, UINT64_MAX), 0); /* all the rest */
    assert_int_equal(late.n_block, r.loaded.config.vision.layers);
    work_long(&r);
    assert_int_equal(r.batch.count[0], 1);
    close_rig(&r);
}

static void a_broken_device_is_reported(void **state)
{
    rig r;

    open_rig(&r, 2, 0);
    late.busy_polls = 1;
    add(&r);
    work(&r);
    late.is_broken = true;
    assert_int_equal(cog_vision_work(&r.vision, &r.sched, 0, SLICE_NS), COG_EDEVICE);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_enqueued_while_the_device_is_busy),
        cmocka_unit_test(slices_come_from_the_devices_time),
        cmocka_unit_test(an_unwanted_pass_is_dropped_when_idle),
        cmocka_unit_test(features_are_given_back_and_taken_again),
        cmocka_unit_test(features_that_nobody_needs_any_more_make_room),
        cmocka_unit_test(who_is_first_gets_features_of_those_behind),
        cmocka_unit_test(a_picture_stays_for_whoever_comes_later),
        cmocka_unit_test(the_one_let_go_first_goes_first),
        cmocka_unit_test(kept_pictures_make_room_for_those_in_need),
        cmocka_unit_test(salts_and_private_pictures_share_nothing),
        cmocka_unit_test(no_time_for_a_slice_is_none),
        cmocka_unit_test(a_broken_device_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
