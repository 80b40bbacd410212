/* What a picture can do to a helper, and what a helper can do to the server. */
#include "tests/unit/decoder_rig.h"

#include <spawn.h>
#include <sys/wait.h>

/* Otherwise what needs the whole sandbox is left out. (cmocka's skip() counts as a failure in TAP.)
 */
static bool is_guarded;

/* The file fails once, is refused from then on without reaching a helper, and others are fine. */
static void fails_and_is_quarantined(rig *r, const char *text)
{
    cog_decode_status status = rig_try(r, text);
    int n_died = rig_died(r);
    char other[64];

    if (status != COG_DECODE_FAILED)
        fail_msg("'%s': status %d", text, (int)status);
    rig_await(r, n_died, 2);
    status = rig_try(r, text);
    if (status != COG_DECODE_QUARANTINED)
        fail_msg("'%s' again: status %d", text, (int)status);
    snprintf(other, sizeof(other), "HOOK fill=9 after %s", text + 5);
    assert_int_equal(rig_try(r, other), COG_DECODE_DONE);
    assert_int_equal(rig_died(r), n_died);
}

static void deaths(void **state)
{
    rig *r = *state;

    fails_and_is_quarantined(r, "HOOK late segv");
    fails_and_is_quarantined(r, "HOOK early segv");
    fails_and_is_quarantined(r, "HOOK late abort");
    fails_and_is_quarantined(r, "HOOK late kill");
    fails_and_is_quarantined(r, "HOOK late exit");
}

static void forbidden_calls(void **state)
{
    rig *r = *state;

    if (!is_guarded)
        return;
    fails_and_is_quarantined(r, "HOOK call open");
    fails_and_is_quarantined(r, "HOOK call socket");
    fails_and_is_quarantined(r, "HOOK call exec");
    fails_and_is_quarantined(r, "HOOK call fork");
    fails_and_is_quarantined(r, "HOOK call code");
    fails_and_is_quarantined(r, "HOOK call trace");
    fails_and_is_quarantined(r, "HOOK call signal");
}

static void lies(void **state)
{
    rig *r = *state;

    fails_and_is_quarantined(r, "HOOK lie width");
    fails_and_is_quarantined(r, "HOOK lie format");
    fails_and_is_quarantined(r, "HOOK lie fault");
    fails_and_is_quarantined(r, "HOOK lie text");
    fails_and_is_quarantined(r, "HOOK lie extra");
    fails_and_is_quarantined(r, "HOOK lie nothing");
    assert_int_equal(rig_try(r, "HOOK side=40000"), COG_DECODE_FAILED); /* above the limit */
}

/* ------------------------------------------------------------------ limits */

static void memory_is_limited(void **state)
{
    rig *r = *state;

    r->cfg.image_helper_memory = 128u << 20;
    rig_open(r);
    if (!is_guarded)
        return; /* a sanitizer needs all addresses */
    fails_and_is_quarantined(r, "HOOK late exhaust");
    /* 11 million pixels may take 138 MB: known before the work, and no reason to die. */
    for (int i = 0; i < 2; i++)
        assert_int_equal(rig_try(r, "HOOK side=3400"), COG_DECODE_NO_MEMORY);
    assert_int_equal(rig_try(r, "HOOK side=2000"), COG_DECODE_DONE);
    assert_int_equal(rig_died(r), 1);
}

/* A stopped helper is no picture's fault: another one gets it, once, and it is not quarantined. */
static void stopped_helpers_are_replaced(void **state)
{
    rig *r = *state;
    pid_t pid[RIG_MAX_HELPERS];
    cog_decode *d;

    r->cfg.image_helper_ms = 300;
    rig_open(r);
    assert_int_equal(rig_try(r, "HOOK stop once"), COG_DECODE_DONE);
    assert_int_equal(rig_try(r, "HOOK late stop"), COG_DECODE_FAILED);
    assert_int_equal(rig_try(r, "HOOK late stop"), COG_DECODE_FAILED);
    rig_await(r, 5, 2);
    rig_stop_helpers(pid);
    d = rig_submit(r, "HOOK fill=1", 11);
    assert_int_equal(rig_end(r, d), COG_DECODE_FAILED); /* by one and then the other */
    rig_await(r, 7, 2);
    assert_int_equal(rig_try(r, "HOOK fill=1"), COG_DECODE_DONE);
}

static void spinning_helpers_are_replaced(void **state)
{
    rig *r = *state;

    r->cfg.image.max_ms = 4; /* so that a busy machine cannot keep all of it from the helper */
    r->cfg.image_helper_ms = 1000;
    rig_open(r);
    fails_and_is_quarantined(r, "HOOK late spin");
    fails_and_is_quarantined(r, "HOOK early spin");
}

/* Where the server's own deadline is far away. */
static void processor_time_is_limited(void **state)
{
    rig *r = *state;

    r->cfg.image.max_ms = 1;
    rig_open(r);
    fails_and_is_quarantined(r, "HOOK late spin");
}

static void nothing_is_quarantined_when_told(void **state)
{
    rig *r = *state;

    r->cfg.image_quarantine_ms = 0;
    rig_open(r);
    for (int i = 0; i < 3; i++, rig_await(r, i, 2))
        assert_int_equal(rig_try(r, "HOOK late segv"), COG_DECODE_FAILED);
}

/* ------------------------------------------------------------------ processes */

/* A field of /proc/PID/status. */
static int status_of(pid_t pid, const char *name)
{
    char path[64], line[256];
    int value = -1;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            value = atoi(line + strlen(name) + 1);
    }
    fclose(f);
    return value;
}

static void a_helper_has_given_everything_up(void **state)
{
    rig *r = *state;
    pid_t pid[RIG_MAX_HELPERS];
    char path[64];
    int n = 0;
    DIR *dir;

    assert_int_equal(rig_try(r, "HOOK fill=1"), COG_DECODE_DONE);
    assert_int_equal(rig_helpers(getpid(), pid), 2);
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid[0]);
    dir = opendir(path);
    if (dir) { /* only root may look into one that cannot be traced */
        while (readdir(dir))
            n++;
        closedir(dir);
        assert_int_equal(n, 2 + 4); /* three standard streams, the socket */
    }
    if (!is_guarded)
        return;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(status_of(pid[i], "Seccomp"), 2);
        assert_int_equal(status_of(pid[i], "NoNewPrivs"), 1);
    }
}

/* Opens a decoder, says so, and is killed; one of its helpers is in an endless loop. */
static int be_a_parent(void)
{
    rig *r = rig_new();

    rig_open(r);
    rig_submit(r, "HOOK late spin", 14);
    rig_run(r, 1, 200);
    puts("ready");
    fflush(stdout);
    rig_run(r, 1, RIG_WAIT_MS);
    return 0;
}

static void helpers_go_with_the_server(void **state)
{
    pid_t helper[RIG_MAX_HELPERS];
    char *argv[] = { (char *)"test_decode_sandbox", (char *)"parent", NULL };
    posix_spawn_file_actions_t files;
    int ends[2];
    char word[8] = { 0 };
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", &files, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&files);
    close(ends[1]);
    assert_true(read(ends[0], word, sizeof(word) - 1) > 0);
    assert_int_equal(rig_helpers(pid, helper), 2);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    /* Orphans are somebody else's to wait for: gone, or not yet waited for. */
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 500 && kill(helper[i], 0) == 0 && status_of(helper[i], "VmRSS") >= 0;
             k++)
            usleep(20000);
        assert_true(kill(helper[i], 0) != 0 || status_of(helper[i], "VmRSS") < 0);
    }
    close(ends[0]);
}

/* What a terminal or a supervisor sends to every process of a service. */
static void signals_to_the_group_are_ignored(void **state)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    rig *r = *state;
    pid_t pid[RIG_MAX_HELPERS];

    assert_int_equal(rig_helpers(getpid(), pid), 2);
    for (int i = 0; i < 3; i++) {
        kill(pid[0], signals[i]);
        kill(pid[1], signals[i]);
    }
    rig_run(r, 1, 100);
    assert_int_equal(rig_try(r, "HOOK fill=1"), COG_DECODE_DONE);
    assert_int_equal(rig_died(r), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(deaths, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(forbidden_calls, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(lies, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(memory_is_limited, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(stopped_helpers_are_replaced, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(spinning_helpers_are_replaced, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(processor_time_is_limited, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(nothing_is_quarantined_when_told, rig_create, rig_teardown),
        cmocka_unit_test_setup_teardown(a_helper_has_given_everything_up, rig_setup, rig_teardown),
        cmocka_unit_test(helpers_go_with_the_server),
        cmocka_unit_test_setup_teardown(signals_to_the_group_are_ignored, rig_setup, rig_teardown),
    };

    if (argc > 1 && strcmp(argv[1], "parent") == 0)
        return be_a_parent();
    is_guarded = rig_is_guarded();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
