/* decode_helper.c - a worker that has a process of its own (decode_child.h), seen from the server.
 *
 *     starting -> up -> killed -> reaped -> starting ...
 *
 * Whatever is not as it should be ends in kill: a closed socket, words that make no sense, time
 * that ran out. The process is waited for without blocking, and then started again: at once when it
 * had been up, so that nobody can keep the helpers away by pictures that break them, and after a
 * growing pause when it did not even start. */
#include "server/picture/decode_worker.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/picture/decode_child.h"
#include "server/picture/decode_wire.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    START_MS = 10000,  /* from start to the first words */
    GRACE_MS = 250,    /* that a picture still has when nobody waits for it any more */
    PAUSE_MS = 100,    /* after a failed start, doubled for each further one */
    MAX_DOUBLINGS = 6, /* of it */
    HOPELESS = 3,      /* failed starts in a row */
};

/* libuv's handle lives until the loop has closed it, which may be after the next start. */
typedef struct ear {
    uv_poll_t poll;
    struct helper *helper;
} ear;

typedef struct helper {
    cog_decode_worker base;
    pid_t pid;  /* 0: no process */
    int fd;     /* -1: no socket */
    ear *ear;   /* NULL: the loop does not look at fd */
    bool is_up; /* said hello */
    bool is_killed;
    bool needs_filter;
    const char *why;         /* it was killed, for the log */
    uint64_t id;             /* of its picture */
    cog_sha256 file;         /* of its picture, also when nobody waits for it any more */
    bool is_detached;        /* nobody does */
    uint64_t deadline_ns;    /* of what it does now; when killed: of the next start */
    uint64_t cpu_ns;         /* processor time it had used when it began */
    int n_failed_starts;     /* in a row */
    cog_image_source source; /* of the header */
} helper;

static uint64_t after_ms(int ms)
{
    return cog_now_ns() + (uint64_t)ms * 1000000;
}

/* ------------------------------------------------------------------ start */

static size_t memory_of(const cog_server_config *cfg)
{
    const size_t program = (size_t)256 << 20;

    if (cfg->image_helper_memory)
        return cfg->image_helper_memory;
    return program + 2 * cfg->image.max_bytes +
           (size_t)cfg->image.max_pixels * COG_DECODE_BYTES_PER_PIXEL;
}

/* A helper gets no environment but what the dynamic linker and sanitizers look at. */
static char **environment(void)
{
    static const char *const kept[] = { "LD_", "ASAN_", "UBSAN_", "TSAN_", "LSAN_" };
    size_t n = 0, used = 0;
    char **env;

    while (environ[n])
        n++;
    env = cog_array(char *, n + 1);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < sizeof(kept) / sizeof(kept[0]); k++) {
            if (strncmp(environ[i], kept[k], strlen(kept[k])) == 0)
                env[used++] = environ[i];
        }
    }
    return env;
}

/* As vfork does it: cheap however large the server is, and safe with threads. A session of its own
 * keeps the terminal's signals away. */
static int spawn(pid_t *pid, const cog_server_config *cfg, int fd)
{
    char memory[32];
    char *const argv[] = { (char *)"cogwheel", (char *)COG_DECODE_CHILD, memory, NULL };
    char **env = environment();
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc;

    snprintf(memory, sizeof(memory), "%zu", memory_of(cfg));
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, fd, COG_DECODE_CHILD_FD);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    rc = posix_spawn(pid, cfg->image_helper, &files, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    cog_free(env);
    return rc;
}

static int start(helper *h, cog_err *err)
{
    int ends[2], rc;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return cog_err_set(err, COG_EIO, "no socket for a helper: %s", strerror(errno));
    rc = spawn(&h->pid, cog_decoder_config(h->base.decoder), ends[1]);
    close(ends[1]);
    if (rc != 0) {
        close(ends[0]);
        h->pid = 0;
        return cog_err_set(err, COG_EIO, "cannot start a helper: %s", strerror(rc));
    }
    h->fd = ends[0];
    h->is_up = h->is_killed = false;
    h->base.phase = COG_WORKER_DOWN;
    h->deadline_ns = after_ms(START_MS);
    return 0;
}

/* ------------------------------------------------------------------ end */

static uint64_t cpu_ns(pid_t pid)
{
    struct timespec t;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) < 0)
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void free_ear(uv_handle_t *poll)
{
    cog_free(poll->data);
}

static void hang_up(helper *h)
{
    if (h->ear)
        uv_close((uv_handle_t *)&h->ear->poll, free_ear);
    h->ear = NULL;
    if (h->fd >= 0)
        close(h->fd);
    h->fd = -1;
}

static void end_process(helper *h, const char *why)
{
    kill(h->pid, SIGKILL);
    hang_up(h);
    h->is_killed = true;
    h->why = why;
    h->n_failed_starts = h->is_up ? 0 : h->n_failed_starts + 1;
}

/* The helper is lost, and its picture with it. is_guilty: that picture is not tried again. */
static void lose(helper *h, const char *why, bool is_guilty)
{
    bool has_picture = h->base.phase == COG_WORKER_HEADER || h->base.phase == COG_WORKER_PIXELS;

    end_process(h, why);
    h->base.is_hopeless = h->n_failed_starts >= HOPELESS;
    if (has_picture && is_guilty)
        cog_worker_quarantine(&h->base, &h->file);
    cog_worker_end(&h->base, COG_DECODE_FAILED, COG_WORKER_DOWN);
}

/* Another one gets the picture, which had nothing to do with it. */
static void lose_innocent(helper *h, const char *why)
{
    end_process(h, why);
    h->base.is_hopeless = h->n_failed_starts >= HOPELESS;
    cog_worker_return(&h->base);
}

/* The picture lies in the socket: the helper has not begun on it. The kernel says so, as helpers
 * may lie. It does not say so of one that died, but then reading ends in ECONNRESET. */
static bool has_untaken(const helper *h)
{
    int unread = 0;

    return h->base.phase == COG_WORKER_HEADER && ioctl(h->fd, SIOCOUTQ, &unread) == 0 && unread > 0;
}

/* A helper that was stopped, or had no processor, is late without its picture's doing. */
static void lose_late(helper *h)
{
    const cog_image_options *opt = &cog_decoder_config(h->base.decoder)->image;
    uint64_t used = cpu_ns(h->pid) - h->cpu_ns;

    if (h->is_detached)
        lose(h, "abandoned", false);
    else if (!h->is_up)
        lose(h, "did_not_start", false);
    else if (!has_untaken(h) && used >= opt->max_ms * UINT64_C(1000000) / 2)
        lose(h, "too_slow", true);
    else
        lose_innocent(h, "too_slow");
}

static void log_end(const helper *h, int status)
{
    cog_log(h->is_up && h->is_detached ? COG_INFO : COG_WARN,
            "event=image_helper_died pid=%d %s=%d reason=%s", (int)h->pid,
            WIFSIGNALED(status) ? "signal" : "exit",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), h->why);
}

static void reap(helper *h)
{
    int status = 0, doublings = h->n_failed_starts - 1;

    if (waitpid(h->pid, &status, WNOHANG) == 0)
        return;
    log_end(h, status);
    h->pid = 0;
    if (doublings > MAX_DOUBLINGS)
        doublings = MAX_DOUBLINGS;
    h->deadline_ns = h->is_up ? 0 : after_ms(PAUSE_MS << (doublings > 0 ? doublings : 0));
}

/* ------------------------------------------------------------------ words */

static void hear_hello(helper *h, const cog_say *words)
{
    if (h->needs_filter && words->result != COG_SAY_FINE) {
        lose(h, "no_filter", false);
        return;
    }
    h->is_up = true;
    h->base.is_hopeless = false;
    cog_worker_up(&h->base);
}

static bool talk(helper *h, cog_ask_kind kind);

static void drop(helper *h)
{
    h->is_detached = false;
    if (talk(h, COG_ASK_DROP))
        cog_worker_end(&h->base, COG_DECODE_CANCELED, COG_WORKER_IDLE);
}

static void hear_header(helper *h, const cog_say *words)
{
    if (!h->is_detached)
        cog_worker_header(&h->base, words->width, words->height);
    else
        drop(h);
}

static void hear_end(helper *h, const cog_say *words)
{
    cog_decode *d = h->base.d;
    cog_decode_status status = words->result == COG_SAY_FINE        ? COG_DECODE_DONE
                               : words->result == COG_SAY_NO_MEMORY ? COG_DECODE_NO_MEMORY
                                                                    : COG_DECODE_REFUSED;

    if (d) {
        d->source =
            (cog_image_source){ (cog_image_format)words->format, words->width, words->height };
        d->fault = (cog_image_fault)words->fault;
        snprintf(d->err.text, sizeof(d->err.text), "%s", words->text);
    }
    h->is_detached = false;
    cog_worker_end(&h->base, status, COG_WORKER_IDLE);
}

/* Words that are not due, or make no sense, come from a helper that was taken over. */
static void hear(helper *h, const cog_say *words, size_t len)
{
    const cog_image_options *opt = &cog_decoder_config(h->base.decoder)->image;

    if (h->base.phase == COG_WORKER_DOWN && cog_say_check(words, len, COG_SAY_HELLO, 0, opt))
        hear_hello(h, words);
    else if (h->base.phase == COG_WORKER_HEADER &&
             cog_say_check(words, len, COG_SAY_HEADER, h->id, opt))
        hear_header(h, words);
    else if (h->base.phase == COG_WORKER_HEADER &&
             cog_say_check(words, len, COG_SAY_END, h->id, opt) && words->result != COG_SAY_FINE)
        hear_end(h, words);
    else if (h->base.phase == COG_WORKER_PIXELS &&
             cog_say_check(words, len, COG_SAY_END, h->id, opt))
        hear_end(h, words);
    else if (has_untaken(h))
        lose_innocent(h, "broke_the_protocol");
    else
        lose(h, "broke_the_protocol", true);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    helper *h = ((ear *)poll->data)->helper;
    cog_say words;
    ssize_t n = recv(h->fd, &words, sizeof(words), MSG_TRUNC | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0 && errno == ECONNRESET && h->base.phase == COG_WORKER_HEADER)
        lose_innocent(h, "died");
    else if (n <= 0)
        lose(h, "died", true);
    else
        hear(h, &words, (size_t)n);
}

static void look_at(helper *h)
{
    ear *e = cog_new(ear);

    e->helper = h;
    e->poll.data = e;
    h->ear = e;
    uv_poll_init(cog_decoder_loop(h->base.decoder), &e->poll, h->fd);
    uv_poll_start(&e->poll, UV_READABLE, on_readable);
}

/* False when the helper is lost. Of a picture the memory goes along. */
static bool talk(helper *h, cog_ask_kind kind)
{
    const cog_decode *d = h->base.d;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .bytes = { 0 } };
    cog_ask ask = { .id = h->id, .kind = kind };
    struct iovec part = { &ask, sizeof(ask) };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

    if (kind == COG_ASK_LOOK) {
        ask.side = d->side;
        ask.size = d->memory.size;
        ask.pixels_at = d->memory.pixels_at;
        ask.file_len = d->file_len;
        ask.options = *d->options;
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
                                           .cmsg_level = SOL_SOCKET,
                                           .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(&control.header), &d->memory.fd, sizeof(int));
    }
    if (sendmsg(h->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(ask))
        return true;
    if (kind == COG_ASK_LOOK)
        lose_innocent(h, "died");
    else
        lose(h, "died", false); /* while it waited */
    return false;
}

/* ------------------------------------------------------------------ a picture */

/* For a helper that ignores its own clock; the server's deadline comes later. */
static void limit_cpu(helper *h)
{
    const cog_image_options *opt = &cog_decoder_config(h->base.decoder)->image;
    struct rlimit cpu;

    h->cpu_ns = cpu_ns(h->pid);
    if (prlimit(h->pid, RLIMIT_CPU, NULL, &cpu) == 0) {
        cpu.rlim_cur = h->cpu_ns / 1000000000u + opt->max_ms / 1000 + 3;
        if (cpu.rlim_cur < cpu.rlim_max)
            prlimit(h->pid, RLIMIT_CPU, &cpu, NULL);
    }
}

static void helper_header(cog_decode_worker *w)
{
    helper *h = (helper *)w;

    h->id++;
    h->file = w->d->file;
    h->is_detached = false;
    h->deadline_ns = after_ms(cog_decoder_config(w->decoder)->image_helper_ms);
    limit_cpu(h);
    talk(h, COG_ASK_LOOK);
}

static void helper_pixels(cog_decode_worker *w)
{
    helper *h = (helper *)w;

    h->deadline_ns = after_ms(cog_decoder_config(w->decoder)->image_helper_ms);
    talk(h, COG_ASK_DECODE);
}

/* Most pictures end sooner than a new helper starts. */
static void helper_abandon(cog_decode_worker *w)
{
    helper *h = (helper *)w;
    uint64_t end_ns = after_ms(GRACE_MS);

    if (w->phase == COG_WORKER_WAITING) {
        drop(h);
        return;
    }
    h->is_detached = true;
    if (end_ns < h->deadline_ns)
        h->deadline_ns = end_ns;
    cog_worker_detach(w);
}

static void helper_tick(cog_decode_worker *w, uint64_t now_ns)
{
    helper *h = (helper *)w;
    cog_err err = { 0 };

    if (h->is_killed && h->pid)
        reap(h);
    if (w->phase == COG_WORKER_WAITING || now_ns < h->deadline_ns || (h->is_killed && h->pid))
        return;
    if (h->pid) {
        lose_late(h);
        return;
    }
    if (start(h, &err) == 0) {
        look_at(h);
        return;
    }
    w->is_hopeless = ++h->n_failed_starts >= HOPELESS;
    h->deadline_ns = after_ms(
        PAUSE_MS << (h->n_failed_starts < MAX_DOUBLINGS ? h->n_failed_starts : MAX_DOUBLINGS));
    cog_log(COG_ERROR, "event=image_helper_not_started reason=\"%s\"", err.text);
}

static void helper_close(cog_decode_worker *w)
{
    helper *h = (helper *)w;

    hang_up(h);
    if (h->pid) {
        kill(h->pid, SIGKILL);
        waitpid(h->pid, NULL, 0);
    }
    h->pid = 0;
}

static void helper_free(cog_decode_worker *w)
{
    cog_free(w);
}

static const struct cog_worker_ops ops = { .header = helper_header,
                                           .pixels = helper_pixels,
                                           .abandon = helper_abandon,
                                           .tick = helper_tick,
                                           .close = helper_close,
                                           .free = helper_free };

cog_decode_worker *cog_decode_helper_new(cog_decoder *dec, cog_err *err)
{
    helper *h = cog_new(helper);

    h->base.ops = &ops;
    h->base.decoder = dec;
    h->fd = -1;
    if (start(h, err) < 0) {
        cog_free(h);
        return NULL;
    }
    return &h->base;
}

/* Signals interrupt poll, whatever their handlers say. */
static bool await_words(const helper *h)
{
    struct pollfd wait = { .fd = h->fd, .events = POLLIN };
    uint64_t now;
    int rc = -1;

    errno = EINTR;
    while (rc < 0 && errno == EINTR && (now = cog_now_ns()) < h->deadline_ns)
        rc = poll(&wait, 1, (int)((h->deadline_ns - now) / 1000000) + 1);
    return rc == 1;
}

int cog_decode_helper_wait(cog_decode_worker *w, bool *is_guarded, cog_err *why)
{
    helper *h = (helper *)w;
    cog_say words;
    ssize_t n = -1;

    if (await_words(h))
        n = recv(h->fd, &words, sizeof(words), MSG_TRUNC);
    if (n < 0 ||
        !cog_say_check(&words, (size_t)n, COG_SAY_HELLO, 0, &cog_decoder_config(w->decoder)->image))
        return cog_err_set(why, COG_EIO, "a helper does not start");
    *is_guarded = words.result == COG_SAY_FINE;
    if (!*is_guarded)
        cog_err_set(why, COG_EUNSUPPORTED, "%s", words.text);
    h->is_up = true;
    w->phase = COG_WORKER_IDLE;
    look_at(h);
    return 0;
}

void cog_decode_helper_guard(cog_decode_worker *w)
{
    ((helper *)w)->needs_filter = true;
}
