/* The server and its decoding helpers, which may have been taken over by a picture: whatever a
 * helper says, and whenever it dies, each picture ends once, with pixels within the limits or a
 * reason, and an honest helper is never lost. Processes, the clock and the loop's timer and pool
 * are ours: the two sources are compiled again with these calls renamed (meson.build). The input is
 * a string of operations. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "base/log.h"
#include "server/picture/decode_wire.h"
#include "server/picture/decoder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    HELPERS = 2,
    PICTURES = 5,
    SIDE = 8,
    FILE_ROOM = 64,
    FIRST_PID = 1000,
    MAX_PIDS = 4096,
    PATIENCE_MS = 200, /* less than any deadline of the server's */
};

typedef struct picture {
    cog_decode d;
    int n_done;
    bool is_submitted, is_cancelled;
} picture;

/* The helpers' side of the sockets; a new process takes the place of one that is gone. */
static struct {
    int fd[HELPERS];
    pid_t pid[HELPERS];
    cog_ask ask[HELPERS]; /* the last one heard */
    int memory[HELPERS];  /* of its picture; -1: none */
    size_t size[HELPERS]; /* of that */
    int spawning;         /* the descriptor that the next process gets */
    int n_spawned;
    unsigned hello; /* what a new process does first */
    uint64_t now_ns;
    uv_timer_cb tick;
    uv_timer_t *timer;
    uv_work_t *work[PICTURES];
    uv_work_cb run[PICTURES];
    uv_after_work_cb after[PICTURES];
    int n_work;
    bool is_honest; /* no helper did, or was, anything that it should not; none was silent for long
                     */
    unsigned silent_ms[HELPERS]; /* since it last behaved */
    cog_decoder *decoder;
    uv_loop_t loop;
    picture picture[PICTURES];
} world;

static const cog_image_options options = { .max_bytes = 4096,
                                           .max_pixels = 4096,
                                           .max_side = 128,
                                           .max_scans = 10,
                                           .max_metadata = 4096,
                                           .max_ms = 1000 };

/* ---- what the sources call instead of the system ---- */

/* meson renames the declarations of these in their headers, too */
static int place_of(pid_t pid)
{
    for (int k = 0; k < HELPERS; k++)
        if (world.pid[k] == pid)
            return k;
    return -1;
}

static void hang_up(int k)
{
    if (world.fd[k] >= 0)
        close(world.fd[k]);
    if (world.memory[k] >= 0)
        close(world.memory[k]);
    world.fd[k] = world.memory[k] = -1;
}

int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *files, int fd, int to)
{
    world.spawning = fd;
    return 0;
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files,
                const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
    cog_say hello = { .kind = COG_SAY_HELLO };
    int k = place_of(0);

    REQUIRE(k >= 0 && world.n_spawned < MAX_PIDS);
    if (world.hello % 8 == 1)
        return EAGAIN;
    world.fd[k] = fcntl(world.spawning, F_DUPFD_CLOEXEC, 0);
    REQUIRE(world.fd[k] >= 0);
    *pid = world.pid[k] = FIRST_PID + world.n_spawned++;
    if (world.hello % 8 == 2)
        hello.kind = COG_SAY_END;
    if (world.hello % 8 != 3)
        REQUIRE(send(world.fd[k], &hello, sizeof(hello), MSG_NOSIGNAL) == sizeof(hello));
    return 0;
}

int kill(pid_t pid, int signal)
{
    int k = place_of(pid);

    REQUIRE(k >= 0 && signal == SIGKILL); /* nobody else is ever hit */
    hang_up(k);
    return 0;
}

pid_t waitpid(pid_t pid, int *status, int flags)
{
    int k = place_of(pid);

    REQUIRE(k >= 0 && world.fd[k] < 0);
    if (status)
        *status = SIGKILL;
    world.pid[k] = 0;
    return pid;
}

int prlimit(pid_t pid, enum __rlimit_resource what, const struct rlimit *to, struct rlimit *from)
{
    REQUIRE(place_of(pid) >= 0);
    return -1;
}

int clock_getcpuclockid(pid_t pid, clockid_t *clock)
{
    return ESRCH;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    *t = (struct timespec){ .tv_sec = (time_t)(world.now_ns / 1000000000),
                            .tv_nsec = (long)(world.now_ns % 1000000000) };
    return 0;
}

int uv_timer_start(uv_timer_t *t, uv_timer_cb tick, uint64_t timeout, uint64_t repeat)
{
    world.timer = t;
    world.tick = tick;
    return 0;
}

int uv_timer_stop(uv_timer_t *t)
{
    world.tick = NULL;
    return 0;
}

int uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb run, uv_after_work_cb after)
{
    REQUIRE(world.n_work < PICTURES);
    world.work[world.n_work] = work;
    world.run[world.n_work] = run;
    world.after[world.n_work++] = after;
    return 0;
}

/* ---- pictures ---- */

static void on_done(cog_decode *d)
{
    picture *p = d->user;

    REQUIRE(p->n_done++ == 0 && p->is_submitted);
    REQUIRE((d->status == COG_DECODE_DONE) == (d->image != NULL));
    switch (d->status) {
    case COG_DECODE_DONE:
        REQUIRE(d->image->side == SIDE && d->image->format <= COG_GIF);
        REQUIRE(d->image->source_width > 0 && d->image->source_width <= options.max_side);
        REQUIRE(d->image->source_height > 0 && d->image->source_height <= options.max_side);
        break;
    case COG_DECODE_REFUSED:
        REQUIRE(d->fault > COG_IMAGE_FINE && d->fault <= COG_IMAGE_TOO_SMALL);
        for (const char *c = d->err.text; *c; c++)
            REQUIRE(*c >= ' ' && *c <= '~');
        break;
    case COG_DECODE_CANCELED:
        REQUIRE(p->is_cancelled);
        break;
    case COG_DECODE_FAILED:
    case COG_DECODE_QUARANTINED:
    case COG_DECODE_UNAVAILABLE:
    case COG_DECODE_NO_MEMORY:
        REQUIRE(!world.is_honest);
        break;
    }
}

static void submit(picture *p, unsigned what)
{
    if (p->is_submitted && p->n_done == 0)
        return;
    if (p->is_submitted)
        cog_decode_fini(&p->d);
    *p = (picture){ .is_submitted = true };
    REQUIRE(cog_decode_init(&p->d, world.decoder, FILE_ROOM, SIDE, NULL) == 0);
    p->d.memory.base[0] = (uint8_t)(what % 4); /* few files, so that some come again */
    p->d.file_len = 8;
    p->d.user = p;
    p->d.done = on_done;
    p->d.deadline_ns = UINT64_MAX;
    cog_decode_ready(&p->d, world.decoder);
    cog_decoder_submit(world.decoder, &p->d);
}

static void cancel(picture *p)
{
    if (!p->is_submitted || p->n_done > 0)
        return;
    p->is_cancelled = true;
    cog_decoder_cancel(world.decoder, &p->d);
}

/* ---- helpers ---- */

static void say(int k, const void *words, size_t len)
{
    if (world.fd[k] >= 0)
        send(world.fd[k], words, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The next words of the server; false when there are none. */
static bool hear(int k)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    cog_ask ask;
    struct iovec part = { &ask, sizeof(ask) };
    struct msghdr message = { .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = sizeof(control) };
    struct cmsghdr *c;

    if (world.fd[k] < 0 ||
        recvmsg(world.fd[k], &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != sizeof(ask))
        return false;
    world.ask[k] = ask;
    c = CMSG_FIRSTHDR(&message);
    REQUIRE((c != NULL) == (ask.kind == COG_ASK_LOOK)); /* each picture's memory, once */
    if (c) {
        if (world.memory[k] >= 0)
            close(world.memory[k]);
        memcpy(&world.memory[k], CMSG_DATA(c), sizeof(int));
        world.size[k] = ask.size;
    }
    return true;
}

/* Answers as a helper should. */
static void behave(int k)
{
    while (hear(k)) {
        cog_say words = { .id = world.ask[k].id, .format = COG_PNG, .width = 9, .height = 7 };

        words.kind = world.ask[k].kind == COG_ASK_LOOK ? COG_SAY_HEADER : COG_SAY_END;
        if (world.ask[k].kind != COG_ASK_DROP)
            say(k, &words, sizeof(words));
    }
}

typedef struct script {
    const uint8_t *at, *end;
} script;

static unsigned next(script *s)
{
    return s->at < s->end ? *s->at++ : 0;
}

/* Nearly right words: one field or another is of the input. */
static void misbehave(int k, script *s)
{
    cog_say words = { .format = COG_PNG, .width = 9, .height = 7 };
    unsigned what = next(s), value = next(s);
    size_t len = sizeof(words);

    hear(k);
    words.id = world.ask[k].id;
    words.kind = (int32_t)(what % 4);
    words.result = (int32_t)(what / 4 % 4);
    words.fault = words.result == COG_SAY_REFUSED ? COG_IMAGE_BROKEN : COG_IMAGE_FINE;
    switch (what / 16 % 12) {
    case 1:
        words.id += value;
        break;
    case 2:
        words.fault = (int32_t)(int8_t)value;
        break;
    case 3:
        words.width = (int32_t)(int8_t)value * 1000;
        break;
    case 4:
        words.height = (int32_t)value;
        break;
    case 5:
        words.format = (int32_t)(int8_t)value;
        break;
    case 6:
        memset(words.text, (int)value, sizeof(words.text));
        break;
    case 7:
        words.text[0] = (char)value;
        break;
    case 8:
        len = value < sizeof(words) ? value : sizeof(words) - 1;
        break;
    default:
        break;
    }
    say(k, &words, len);
}

/* The pixels' memory changes while the server may read it. */
static void scribble(int k, unsigned value)
{
    uint8_t *base;

    if (world.memory[k] < 0)
        return;
    base = mmap(NULL, world.size[k], PROT_READ | PROT_WRITE, MAP_SHARED, world.memory[k], 0);
    REQUIRE(base != MAP_FAILED);
    memset(base, (int)value, world.size[k]);
    REQUIRE(ftruncate(world.memory[k], 0) != 0); /* its size is sealed */
    munmap(base, world.size[k]);
}

/* ---- the world ---- */

static void turn(void)
{
    uv_run(&world.loop, UV_RUN_NOWAIT);
    for (int i = 0; i < world.n_work; i++)
        world.run[i](world.work[i]);
    for (int n = world.n_work, i = 0; i < n; i++)
        world.after[i](world.work[i], 0);
    world.n_work = 0;
    uv_run(&world.loop, UV_RUN_NOWAIT);
}

static void pass_time(uint64_t ms)
{
    world.now_ns += ms * 1000000;
    if (world.tick)
        world.tick(world.timer);
}

static void act(script *s)
{
    unsigned what = next(s);
    int k = (int)(what / 8 % HELPERS);

    world.is_honest &= what % 8 < 3 || what % 8 == 7;
    switch (what % 8) {
    case 0:
        submit(&world.picture[what / 8 % PICTURES], next(s));
        break;
    case 1:
        cancel(&world.picture[what / 8 % PICTURES]);
        break;
    case 2:
        for (int i = 0; i < HELPERS; i++) {
            world.silent_ms[i] += 1 + what / 8;
            world.is_honest &= world.silent_ms[i] <= PATIENCE_MS;
        }
        pass_time(1 + what / 8);
        break;
    case 3:
        misbehave(k, s);
        break;
    case 4:
        hang_up(k);
        break;
    case 5:
        pass_time(next(s) * 100);
        world.hello = what / 8;
        break;
    case 6:
        hear(k);
        scribble(k, next(s));
        break;
    default:
        behave(k);
        world.silent_ms[k] = 0;
        break;
    }
    turn();
}

static void open_world(const cog_server_config *cfg)
{
    cog_err err = { 0 };

    memset(&world, 0, sizeof(world));
    world.is_honest = true;
    world.now_ns = 1000000000;
    for (int k = 0; k < HELPERS; k++)
        world.fd[k] = world.memory[k] = -1;
    cog_log_set_level(COG_ERROR);
    uv_loop_init(&world.loop);
    REQUIRE_SAY(cog_decoder_open(&world.decoder, &world.loop, cfg, &err) == 0, "%s", err.text);
}

/* Time passes, helpers behave: every picture ends. */
static void settle(void)
{
    int left = PICTURES;

    world.hello = 0;
    for (int round = 0; left > 0; round++) {
        REQUIRE(round < 500);
        for (int k = 0; k < HELPERS; k++)
            behave(k);
        turn();
        pass_time(world.is_honest ? 1 : 100);
        turn();
        left = 0;
        for (int i = 0; i < PICTURES; i++)
            left += world.picture[i].is_submitted && world.picture[i].n_done == 0;
    }
}

static void close_world(void)
{
    cog_decoder_stats stats;

    cog_decoder_get_stats(world.decoder, &stats);
    REQUIRE(stats.n_workers == HELPERS && stats.n_queued == 0);
    REQUIRE(!world.is_honest || stats.n_died == 0);
    for (int i = 0; i < PICTURES; i++)
        if (world.picture[i].is_submitted)
            cog_decode_fini(&world.picture[i].d);
    cog_decoder_close(world.decoder);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    REQUIRE(uv_loop_close(&world.loop) == 0);
    cog_decoder_free(world.decoder);
    for (int k = 0; k < HELPERS; k++)
        REQUIRE(world.pid[k] == 0 && world.fd[k] < 0);
}

/* The lowest free descriptor: the same before and after when none leaks. */
static int lowest_free(void)
{
    int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);

    close(fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    cog_server_config cfg = { .image = options,
                              .image_helper = "helper",
                              .image_workers = HELPERS,
                              .image_helper_ms = 2000,
                              .image_quarantine_ms = 3000 };
    script s = { bytes, bytes + len };
    int before = lowest_free();

    open_world(&cfg);
    while (s.at < s.end)
        act(&s);
    settle();
    close_world();
    REQUIRE(lowest_free() == before);
    return 0;
}
