/* The decoder with its helpers and without: right pixels, order, cancelling, helpers that end. */
#include "tests/unit/decoder_rig.h"
#include "tests/unit/image_files.h"

#include "base/rng.h"

#include <sys/stat.h>
#include <sys/time.h>

/* ------------------------------------------------------------------ the same as in process */

static void compare(const char *name, const cog_buf *file, void *arg)
{
    rig *r = arg;
    cog_decode *d = rig_submit(r, file->data, file->len);
    cog_image_fault fault;
    cog_image *want = NULL;
    cog_err err = { 0 };
    int rc = cog_image_load(&want, &fault, file->data, file->len, RIG_SIDE, &r->cfg.image, &err);

    rig_run(r, r->n_done + 1, RIG_WAIT_MS);
    if (d->status != (rc == 0 ? COG_DECODE_DONE : COG_DECODE_REFUSED))
        fail_msg("%s: status %d, %s", name, (int)d->status, d->err.text);
    if (rc == 0) {
        assert_memory_equal(d->image->rgb, want->rgb, RIG_SIDE * RIG_SIDE * 3);
        assert_memory_equal(&d->image->hash, &want->hash, sizeof(want->hash));
        assert_int_equal(d->image->side, RIG_SIDE);
        assert_int_equal(d->image->format, want->format);
        assert_int_equal(d->image->source_width, want->source_width);
        assert_int_equal(d->image->source_height, want->source_height);
    } else {
        assert_int_equal(d->fault, fault);
        assert_string_equal(d->err.text, err.text);
    }
    cog_image_free(want);
    rig_end(r, d);
}

static void compare_halved(const char *name, const cog_buf *file, void *arg)
{
    cog_buf half = { .data = file->data, .len = file->len / 2 };

    compare(name, &half, arg);
}

static void compare_all(rig *r)
{
    cog_buf empty = { .data = (char *)"" }, text = { .data = (char *)"no picture", .len = 10 };

    assert_int_equal(test_each_picture(compare, r), 89);
    test_each_picture(compare_halved, r);
    compare("empty", &empty, r);
    compare("text", &text, r);
}

static void every_file_is_as_in_process(void **state)
{
    compare_all(*state);
}

static void options_reach_the_helper(void **state)
{
    rig *r = *state;

    r->cfg.image.drop_alpha = true;
    r->cfg.image.ignore_exif = true;
    r->cfg.image.max_pixels = 100;
    rig_open(r);
    compare_all(r);
}

static void threads_do_the_same(void **state)
{
    rig *r = *state;
    pid_t pid[RIG_MAX_HELPERS];

    r->cfg.image_sandbox = COG_SANDBOX_OFF;
    rig_open(r);
    assert_int_equal(rig_helpers(getpid(), pid), 0);
    compare_all(r);
}

/* ------------------------------------------------------------------ decoded before */

enum { N_FILES = 5, ROOM = 3, PIXELS = RIG_SIDE * RIG_SIDE * 3 };

/* Decodes file number n for the salt; whether it was found decoded. Its pixels are its own always.
 */
static bool is_found(rig *r, int n, const cog_sha256 *salt)
{
    cog_decoder_stats before, after;
    cog_decode *d;
    char text[32];

    snprintf(text, sizeof(text), "HOOK fill=%d", 1 + n);
    cog_decoder_get_stats(r->decoder, &before);
    d = rig_submit_for(r, text, strlen(text), salt);
    rig_run(r, r->n_done + 1, RIG_WAIT_MS);
    assert_int_equal(d->status, COG_DECODE_DONE);
    for (int i = 0; i < PIXELS; i++)
        assert_int_equal(d->image->rgb[i], 1 + n);
    rig_end(r, d);
    cog_decoder_get_stats(r->decoder, &after);
    assert_int_equal(after.n_asked - before.n_asked, salt ? 1 : 0);
    return after.n_found > before.n_found;
}

static void a_file_is_decoded_once(void **state)
{
    rig *r = *state;
    const cog_sha256 one = { .byte = { 1 } }, two = { .byte = { 2 } };

    r->cfg.image_pixel_cache = ROOM * PIXELS;
    rig_open(r);
    assert_false(is_found(r, 0, NULL));
    assert_false(is_found(r, 0, &one)); /* what nobody may share was not kept */
    assert_true(is_found(r, 0, &one));
    assert_false(is_found(r, 0, NULL));
    assert_false(is_found(r, 0, &two));
    for (int n = 1; n < N_FILES; n++) {
        assert_false(is_found(r, n, &one));
        assert_true(is_found(r, 0, &one)); /* asked for all the time, it stays */
    }
    assert_false(is_found(r, 1, &one)); /* had to make room */
    assert_false(is_found(r, 0, &two));
}

static void no_room_keeps_nothing(void **state)
{
    rig *r = *state;
    const cog_sha256 salt = { .byte = { 1 } };

    r->cfg.image_pixel_cache = PIXELS - 1;
    rig_open(r);
    assert_false(is_found(r, 0, &salt));
    assert_false(is_found(r, 0, &salt));
}

/* What is refused is decoded again, and refused again. */
static void decode_twice(const char *name, const cog_buf *file, void *arg)
{
    static const cog_sha256 salt = { .byte = { 1 } };
    rig *r = arg;
    cog_decode *d[2];

    for (int i = 0; i < 2; i++) {
        d[i] = rig_submit_for(r, file->data, file->len, &salt);
        rig_run(r, r->n_done + 1, RIG_WAIT_MS);
    }
    assert_int_equal(d[0]->status, d[1]->status);
    assert_int_equal(d[0]->fault, d[1]->fault);
    if (d[0]->image != d[1]->image)
        fail_msg("%s was decoded twice", name);
    rig_end(r, d[0]);
    rig_end(r, d[1]);
}

static void threads_decode_a_file_once(void **state)
{
    rig *r = *state;

    r->cfg.image_pixel_cache = 1 << 20;
    r->cfg.image_sandbox = COG_SANDBOX_OFF;
    rig_open(r);
    test_each_picture(decode_twice, r);
}

/* ------------------------------------------------------------------ many */

enum { MANY = 400, AT_A_TIME = 12, MAX_KILLS = 100 };

static bool is_filled(const cog_image *im, int value)
{
    for (int i = 0; i < RIG_SIDE * RIG_SIDE * 3; i++) {
        if (im->rgb[i] != value)
            return false;
    }
    return true;
}

static bool is_among(const pid_t *pids, int n, pid_t pid)
{
    for (int i = 0; i < n; i++) {
        if (pids[i] == pid)
            return true;
    }
    return false;
}

/* Every answer is its picture's, whatever happens to the helpers; only so many pictures fail as
 * helpers were killed, and the helpers come back. */
static void kills_cost_one_picture_each(void **state)
{
    rig *r = *state;
    cog_rng rng = { .key = 5 };
    cog_decode *d[AT_A_TIME] = { NULL };
    int n_killed = 0, n_failed = 0, n_good = 0, next = 0;
    pid_t pid[RIG_MAX_HELPERS], killed[MAX_KILLS];

    while (n_failed + n_good < MANY) {
        for (int i = 0; i < AT_A_TIME && next < MANY; i++) {
            char text[64];

            if (d[i])
                continue;
            snprintf(text, sizeof(text), "HOOK fill=%d ms=%d n=%d", next % 251,
                     (int)cog_rng_below(&rng, 4), next);
            d[i] = rig_submit(r, text, strlen(text));
            d[i]->width = next++ % 251;
        }
        rig_run(r, r->n_done + 1, 1 + (int)cog_rng_below(&rng, 10));
        if (n_killed < MAX_KILLS && cog_rng_below(&rng, 4) == 0) {
            int n = rig_helpers(getpid(), pid);
            pid_t one = n > 0 ? pid[cog_rng_below(&rng, (uint64_t)n)] : 0;

            if (one && !is_among(killed, n_killed, one) && kill(one, SIGKILL) == 0)
                killed[n_killed++] = one;
        }
        for (int i = 0; i < AT_A_TIME; i++) {
            if (!d[i] || d[i]->is_submitted)
                continue;
            if (d[i]->status == COG_DECODE_DONE)
                assert_true(is_filled(d[i]->image, d[i]->width));
            else
                assert_int_equal(d[i]->status, COG_DECODE_FAILED);
            n_good += d[i]->status == COG_DECODE_DONE;
            n_failed += d[i]->status == COG_DECODE_FAILED;
            rig_end(r, d[i]);
            d[i] = NULL;
        }
    }
    assert_true(n_killed > 0);
    assert_true(n_failed <= n_killed);
    rig_await(r, n_killed, 2);
    assert_int_equal(rig_try(r, "HOOK fill=1 still alive"), COG_DECODE_DONE);
}

static void await_death(int n_left)
{
    pid_t pid[RIG_MAX_HELPERS];

    for (int i = 0; i < RIG_WAIT_MS && rig_helpers(getpid(), pid) > n_left; i++)
        usleep(1000);
    assert_int_equal(rig_helpers(getpid(), pid), n_left);
}

/* Until another worker than `before` has the picture. */
static const struct cog_decode_worker *await_worker(rig *r, const cog_decode *d,
                                                    const struct cog_decode_worker *before)
{
    for (int i = 0; i < RIG_WAIT_MS / 5 && (!d->worker || d->worker == before); i++)
        rig_run(r, 1, 5);
    assert_true(d->worker && d->worker != before);
    return d->worker;
}

/* A helper dies with the picture unread in its socket: another one takes the picture. */
static void dead_before_it_began(void **state)
{
    rig *r = *state;
    pid_t pid[RIG_MAX_HELPERS];
    cog_decode *d;

    rig_stop_helpers(pid);
    d = rig_submit(r, "HOOK fill=1", 11);
    await_worker(r, d, NULL);
    kill(pid[0], SIGKILL);
    kill(pid[1], SIGCONT);
    assert_int_equal(rig_end(r, d), COG_DECODE_DONE);
}

/* The picture fails when that dies as well, but is not to blame. */
static void both_dead_before_they_began(void **state)
{
    rig *r = *state;
    const struct cog_decode_worker *first;
    pid_t pid[RIG_MAX_HELPERS];
    cog_decode *d;

    rig_stop_helpers(pid);
    d = rig_submit(r, "HOOK fill=1", 11);
    first = await_worker(r, d, NULL);
    kill(pid[0], SIGKILL); /* the first to be asked */
    await_worker(r, d, first);
    kill(pid[1], SIGKILL);
    assert_int_equal(rig_end(r, d), COG_DECODE_FAILED);
    rig_await(r, 2, 2);
    assert_int_equal(rig_try(r, "HOOK fill=1"), COG_DECODE_DONE);
}

/* Two pictures for two helpers, of which one is dead and the server does not know yet. */
static void dead_before_it_was_asked(void **state)
{
    rig *r = *state;
    pid_t pid[RIG_MAX_HELPERS];
    cog_decode *d[2];

    assert_int_equal(rig_helpers(getpid(), pid), 2);
    kill(pid[0], SIGKILL);
    await_death(1);
    for (int i = 0; i < 2; i++)
        d[i] = rig_submit(r, i ? "HOOK fill=1" : "HOOK fill=2", 11);
    for (int i = 0; i < 2; i++)
        assert_int_equal(rig_end(r, d[i]), COG_DECODE_DONE);
    rig_await(r, 1, 2);
}

/* ------------------------------------------------------------------ cancelling */

static void cancelled_in_the_queue(void **state)
{
    rig *r = *state;
    cog_decode *slow[2], *waits;

    for (int i = 0; i < 2; i++)
        slow[i] = rig_submit(r, i ? "HOOK ms=300 b" : "HOOK ms=300 a", 13);
    waits = rig_submit(r, "HOOK late segv", 14);
    cog_decoder_cancel(r->decoder, waits);
    assert_int_equal(r->n_done, 0); /* never from inside the call */
    rig_run(r, 1, RIG_WAIT_MS);
    assert_false(waits->is_submitted);
    assert_int_equal(rig_end(r, waits), COG_DECODE_CANCELED);
    assert_int_equal(rig_end(r, slow[0]), COG_DECODE_DONE);
    assert_int_equal(rig_end(r, slow[1]), COG_DECODE_DONE);
}

static void cancelled_while_decoded(void **state)
{
    rig *r = *state;
    cog_decode *spins;

    r->cfg.image_workers = 1;
    rig_open(r);
    spins = rig_submit(r, "HOOK late spin", 14);
    rig_run(r, 1, 100);
    cog_decoder_cancel(r->decoder, spins);
    rig_run(r, 1, 20);
    assert_int_equal(rig_end(r, spins), COG_DECODE_CANCELED);
    assert_int_equal(rig_try(r, "HOOK fill=3"), COG_DECODE_DONE); /* its helper was taken away */
    assert_int_equal(rig_died(r), 1);

    /* One that ends soon keeps its helper, unless a busy machine has no time for it; leaving does
     * not make it guilty. */
    for (int i = 0; i < 10; i++) {
        int n_died = rig_died(r);

        spins = rig_submit(r, "HOOK ms=60", 10);
        rig_run(r, r->n_done + 1, 20);
        cog_decoder_cancel(r->decoder, spins);
        assert_int_equal(rig_end(r, spins), COG_DECODE_CANCELED);
        assert_int_equal(rig_try(r, "HOOK ms=60"), COG_DECODE_DONE);
        if (rig_died(r) == n_died)
            return;
    }
    fail_msg("its helper was taken away each time");
}

/* A picture of a gigabyte waits for one of 100 MB, and is cancelled then. */
static void cancelled_while_it_waits_for_memory(void **state)
{
    rig *r = *state;
    cog_decode *slow = rig_submit(r, "HOOK ms=900 side=3000", 21);
    cog_decode *large, *small;

    rig_run(r, 1, 50);
    large = rig_submit(r, "HOOK side=9400", 14);
    rig_run(r, 1, 50);
    assert_int_equal(r->n_done, 0);
    cog_decoder_cancel(r->decoder, large);
    rig_run(r, 1, RIG_WAIT_MS);
    assert_false(large->is_submitted);
    small = rig_submit(r, "HOOK side=3000", 14);
    assert_int_equal(rig_end(r, small), COG_DECODE_DONE); /* by the helper that waited */
    assert_true(slow->is_submitted);
    assert_int_equal(rig_end(r, slow), COG_DECODE_DONE);
    assert_int_equal(rig_end(r, large), COG_DECODE_CANCELED);
    assert_int_equal(rig_try(r, "HOOK side=9400"), COG_DECODE_DONE);
}

static void late_in_the_queue(void **state)
{
    rig *r = *state;
    cog_decode *slow, *late;

    r->cfg.image_workers = 1;
    rig_open(r);
    slow = rig_submit(r, "HOOK ms=500", 11);
    late = rig_submit(r, "HOOK fill=1", 11);
    late->deadline_ns = cog_now_ns() + 50000000;
    rig_run(r, 1, RIG_WAIT_MS);
    assert_true(slow->is_submitted);
    assert_int_equal(rig_end(r, late), COG_DECODE_CANCELED);
    assert_int_equal(rig_end(r, slow), COG_DECODE_DONE);
}

/* ------------------------------------------------------------------ no helpers */

static void no_program_for_helpers(void **state)
{
    rig *r = *state;

    r->cfg.image_helper = "/nonexistent/helper";
    r->cfg.image_sandbox = COG_SANDBOX_REQUIRE;
    rig_open(r);
    assert_int_equal(r->rc, COG_EUNSUPPORTED);
    assert_non_null(strstr(r->err.text, "No such file"));
}

static void without_a_program_threads_decode(void **state)
{
    rig *r = *state;
    cog_buf file = test_picture("plain.png");

    cog_log_set_level(COG_ERROR);
    r->cfg.image_helper = "/nonexistent/helper";
    rig_open(r);
    assert_int_equal(r->rc, 0);
    compare("plain.png", &file, r);
    cog_buf_fini(&file);
}

/* The program goes away while the server runs: requests are refused soon instead of waiting, and
 * helpers are back when the program is. */
static void helpers_that_cannot_start(void **state)
{
    rig *r = *state;
    const char *program = r->cfg.image_helper;
    char *path = cog_sprintf("./helper-%d", (int)getpid());
    pid_t pid[RIG_MAX_HELPERS];
    cog_decode_status status;

    unlink(path);
    assert_int_equal(symlink(program, path), 0);
    r->cfg.image_helper = path;
    rig_open(r);
    assert_int_equal(rig_try(r, "HOOK fill=1"), COG_DECODE_DONE);
    unlink(path);
    for (int i = rig_helpers(getpid(), pid) - 1; i >= 0; i--)
        kill(pid[i], SIGKILL);
    rig_await(r, 2, 0);
    assert_int_equal(rig_try(r, "HOOK fill=2"), COG_DECODE_UNAVAILABLE);
    assert_int_equal(symlink(program, path), 0);
    for (int i = 0; i < 300; i++) {
        status = rig_try(r, "HOOK fill=3");
        if (status == COG_DECODE_DONE)
            break;
        rig_run(r, r->n_done + 1, 50);
    }
    assert_int_equal(status, COG_DECODE_DONE);
    unlink(path);
    cog_free(path);
}

static void note_alarm(int number)
{
}

/* Signals come while helpers, which are slow, are waited for. */
static void interrupted_while_they_start(void **state)
{
    const struct itimerval soon = { { 0, 20000 }, { 0, 20000 } }, never = { { 0, 0 }, { 0, 0 } };
    rig *r = *state;
    char *path = cog_sprintf("./slow-helper-%d", (int)getpid());
    pid_t pid[RIG_MAX_HELPERS];
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fprintf(f, "#!/bin/sh\nsleep 0.2\nexec %s \"$@\"\n", r->cfg.image_helper);
    fclose(f);
    assert_int_equal(chmod(path, 0700), 0);
    r->cfg.image_helper = path;
    signal(SIGALRM, note_alarm);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    rig_open(r);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(rig_helpers(getpid(), pid), 2);
    unlink(path);
    cog_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_file_is_as_in_process, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(options_reach_the_helper, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(threads_do_the_same, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(a_file_is_decoded_once, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(no_room_keeps_nothing, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(threads_decode_a_file_once, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(kills_cost_one_picture_each, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(dead_before_it_began, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(both_dead_before_they_began, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(dead_before_it_was_asked, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(cancelled_in_the_queue, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(cancelled_while_decoded, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(cancelled_while_it_waits_for_memory, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(late_in_the_queue, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(no_program_for_helpers, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(without_a_program_threads_decode, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(helpers_that_cannot_start, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(interrupted_while_they_start, rig_create, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
