/* decoder_rig.h - a decoder on a loop of its own, for tests; its helpers are decode_test_helper. */
#ifndef COG_TESTS_DECODER_RIG_H
#define COG_TESTS_DECODER_RIG_H

#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/picture/decoder.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RIG_SIDE = 28, RIG_MAX_HELPERS = 8, RIG_WAIT_MS = 60000 };

typedef struct rig {
    uv_loop_t loop;
    cog_server_config cfg;
    cog_decoder *decoder;
    int rc; /* of opening */
    cog_err err;
    int n_done;
} rig;

static inline rig *rig_new(void)
{
    rig *r = cog_new(rig);

    cog_log_set_level(getenv("COG_TEST_LOG") ? COG_DEBUG : COG_ERROR);
    r->cfg = cog_server_defaults;
    r->cfg.image = cog_image_defaults;
    r->cfg.image_helper = getenv("COG_TEST_HELPER");
    r->cfg.image_workers = 2;
    r->cfg.image_pixel_cache = 0;
    assert_non_null(r->cfg.image_helper);
    return r;
}

/* Decoders that do not open are there to be looked at as well. */
static inline void rig_open(rig *r)
{
    uv_loop_init(&r->loop);
    r->rc = cog_decoder_open(&r->decoder, &r->loop, &r->cfg, &r->err);
}

static inline void rig_free(rig *r)
{
    cog_decoder_close(r->decoder);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&r->loop), 0);
    cog_decoder_free(r->decoder);
    cog_free(r);
}

/* For cmocka: a rig that is open, one that is not yet, and the end of either. */
static inline int rig_setup(void **state)
{
    rig *r = rig_new();

    rig_open(r);
    assert_int_equal(r->rc, 0);
    *state = r;
    return 0;
}

static inline int rig_create(void **state)
{
    *state = rig_new();
    return 0;
}

static inline int rig_teardown(void **state)
{
    rig_free(*state);
    return 0;
}

static inline void rig_done(cog_decode *d)
{
    ((rig *)d->user)->n_done++;
}

/* A decode of these bytes, submitted; for whoever has the salt. */
static inline cog_decode *rig_submit_for(rig *r, const void *bytes, size_t len,
                                         const cog_sha256 *salt)
{
    cog_decode *d = cog_new(cog_decode);

    assert_int_equal(cog_decode_init(d, r->decoder, len, RIG_SIDE, NULL), 0);
    memcpy(d->memory.base, bytes, len);
    d->file_len = len;
    d->user = r;
    d->done = rig_done;
    d->deadline_ns = UINT64_MAX;
    d->salt = salt;
    cog_decode_ready(d, r->decoder);
    cog_decoder_submit(r->decoder, d);
    return d;
}

static inline cog_decode *rig_submit(rig *r, const void *bytes, size_t len)
{
    return rig_submit_for(r, bytes, len, NULL);
}

static inline void rig_wake(uv_timer_t *t)
{
}

/* Runs the loop until n decodes are done in all, or for ms. */
static inline void rig_run(rig *r, int n, int ms)
{
    uint64_t end = cog_now_ns() + (uint64_t)ms * 1000000;
    uv_timer_t timer;

    uv_timer_init(&r->loop, &timer);
    uv_timer_start(&timer, rig_wake, 5, 5);
    while (r->n_done < n && cog_now_ns() < end)
        uv_run(&r->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&r->loop, UV_RUN_NOWAIT);
}

/* Waits for all of n and gives the decode's status; frees it. */
static inline cog_decode_status rig_end(rig *r, cog_decode *d)
{
    cog_decode_status status;

    for (int i = 0; d->is_submitted && i < RIG_WAIT_MS / 20; i++)
        rig_run(r, r->n_done + 1, 20);
    assert_false(d->is_submitted);
    status = d->status;
    cog_decode_fini(d);
    cog_free(d);
    return status;
}

/* What becomes of a file that is this text. */
static inline cog_decode_status rig_try(rig *r, const char *text)
{
    return rig_end(r, rig_submit(r, text, strlen(text)));
}

/* The helpers among a process's children; their number. */
static inline int rig_helpers(pid_t parent, pid_t pid[RIG_MAX_HELPERS])
{
    DIR *proc = opendir("/proc");
    struct dirent *e;
    int n = 0;

    assert_non_null(proc);
    while ((e = readdir(proc)) != NULL) {
        char path[300], comm[32];
        int ppid = 0, id = atoi(e->d_name);
        char state = 0;
        FILE *f;

        if (id <= 0)
            continue;
        snprintf(path, sizeof(path), "/proc/%d/stat", id);
        f = fopen(path, "r");
        if (!f)
            continue;
        if (fscanf(f, "%*d (%31[^)]) %c %d", comm, &state, &ppid) == 3 && ppid == parent &&
            state != 'Z' && strcmp(comm, "cog-decode") == 0 && n < RIG_MAX_HELPERS)
            pid[n++] = id;
        fclose(f);
    }
    closedir(proc);
    return n;
}

/* Stops the two helpers where they wait for a picture: what they are sent stays unread. */
static inline void rig_stop_helpers(pid_t pid[RIG_MAX_HELPERS])
{
    assert_int_equal(rig_helpers(getpid(), pid), 2);
    for (int i = 0; i < 2; i++) {
        siginfo_t info;

        kill(pid[i], SIGSTOP);
        assert_int_equal(waitid(P_PID, (id_t)pid[i], &info, WSTOPPED), 0);
    }
}

/* Waits until so many helpers have been lost since the start and n are up. */
static inline void rig_await(rig *r, int n_died, int n_up)
{
    cog_decoder_stats stats;

    for (int i = 0; i < RIG_WAIT_MS / 20; i++) {
        cog_decoder_get_stats(r->decoder, &stats);
        if (stats.n_died >= (uint64_t)n_died && stats.n_up == n_up)
            return;
        rig_run(r, r->n_done + 1, 20);
    }
    fail_msg("%d helpers lost, %d up", (int)stats.n_died, stats.n_up);
}

static inline int rig_died(rig *r)
{
    cog_decoder_stats stats;

    cog_decoder_get_stats(r->decoder, &stats);
    return (int)stats.n_died;
}

/* The sandbox is whole here: no sanitizer, and the kernel allows filters. */
static inline bool rig_is_guarded(void)
{
    rig *r = rig_new();
    bool is_guarded;

    r->cfg.image_sandbox = COG_SANDBOX_REQUIRE;
    rig_open(r);
    is_guarded = r->rc == 0;
    rig_free(r);
    return is_guarded;
}

#endif
