/* bench.c - finds the server, warms it up, sends what is due when it is due, and reports. */
#include "client/bench.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "client/arrivals.h"
#include "client/ask.h"
#include "client/report.h"
#include "client/workload.h"
#include "proto/chat_read.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { DEFAULT_PROMPTS = 100, CONNECT_MS = 10000, MAX_KEPT = 16384 };

#define MS 1000000u

const cog_bench_options cog_bench_defaults = {
    .burstiness = 1,
    .n_warmup = 1,
    .timeout_ms = 600000,
    .prompt = "Describe this image.",
    .max_tokens = 128,
    .stream = true,
    .image_size = "490x490",
    .image_share = 1,
    .repeated_images = 4,
};

typedef struct run {
    const cog_bench_options *opt;
    cog_wire *http;
    cog_workload *work;
    char *model;
    bool ignores_eos;
    cog_bench_sample *samples; /* [n_samples] of requests that ended */
    size_t n_samples, room;
    size_t n_started, limit; /* SIZE_MAX: none */
    int max_open;
    uint64_t begin_ns,
        due_ns; /* of the next request; of a closed loop, 0: whenever there is room */
    cog_rng arrivals;
    bool is_interrupted; /* SIGINT came: nothing begins any more */
    uint64_t shown_ns;   /* of the progress line */
    bool has_terminal;
} run;

/* ---------------------------------------------------------------- before the load */

/* One answer in whole, waited for. */
typedef struct single {
    cog_wire_call call;
    cog_buf in;
    bool is_over;
    cog_wire_end how;
} single;

static void single_bytes(cog_wire_call *c, uint64_t ns, const char *data, size_t len)
{
    cog_buf_add(&((single *)c->user)->in, data, len);
}

static void single_end(cog_wire_call *c, cog_wire_end how)
{
    single *s = c->user;

    s->is_over = true;
    s->how = how;
}

/* COG_EIO when there is no answer of status 200. The caller frees s->in either way. */
static int fetch(cog_wire *http, single *s, const char *path, const char *url, cog_err *err)
{
    char *said;

    s->call = (cog_wire_call){
        .path = path, .body = s->call.body, .user = s, .bytes = single_bytes, .end = single_end
    };
    s->is_over = false;
    cog_buf_clear(&s->in);
    cog_wire_start(http, &s->call);
    while (!s->is_over)
        cog_wire_turn(http, UINT64_MAX);
    if (s->how != COG_WIRE_WHOLE)
        return cog_err_set(err, COG_EIO, "%s%s: %s", url, path, s->call.error);
    if (s->call.status == 200)
        return 0;
    said = cog_chat_read_error(s->in.data, s->in.len);
    cog_err_set(err, COG_EIO, "%s%s: status %d%s%.200s", url, path, s->call.status,
                said ? ": " : "", said ? said : "");
    cog_free(said);
    return COG_EIO;
}

static int find_model(run *r, const char *url, cog_err *err)
{
    single s = { 0 };
    int rc;

    if (r->opt->model) {
        r->model = cog_strdup(r->opt->model);
        return 0;
    }
    rc = fetch(r->http, &s, "/models", url, err);
    if (rc == 0 && cog_chat_read_models(&r->model, s.in.data, s.in.len) < 0)
        rc = cog_err_set(err, COG_EIO, "%s/models names no model; give --request-model NAME", url);
    cog_buf_fini(&s.in);
    return rc;
}

/* Request number i of the warm-up. */
static int warm_up_once(run *r, size_t i, const char *url, single *s, cog_err *err)
{
    cog_buf_clear(&s->call.body);
    cog_workload_add_warmup(r->work, &s->call.body, i, r->model, r->ignores_eos);
    return fetch(r->http, s, "/chat/completions", url, err);
}

/* The first request also finds out whether the server takes ignore_eos. */
static int warm_up(run *r, const char *url, cog_err *err)
{
    size_t n = cog_workload_n_repeated(r->work);
    single s = { 0 };
    int rc = 0;

    if (n < (size_t)r->opt->n_warmup)
        n = (size_t)r->opt->n_warmup;
    r->ignores_eos = r->opt->eos != COG_BENCH_EOS_OBEY;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = warm_up_once(r, i, url, &s, err);
        if (rc < 0 && r->ignores_eos && r->opt->eos == COG_BENCH_EOS_AUTO &&
            (s.call.status == 400 || s.call.status == 422)) {
            r->ignores_eos = false;
            rc = warm_up_once(r, i, url, &s, err);
        }
    }
    cog_buf_fini(&s.call.body);
    cog_buf_fini(&s.in);
    return rc;
}

/* ---------------------------------------------------------------- the load */

static void keep(cog_ask *x, void *arg)
{
    run *r = arg;

    if (r->n_samples == r->room) {
        r->room = r->room ? 2 * r->room : 256;
        r->samples = cog_realloc(r->samples, r->room, sizeof(*r->samples));
    }
    r->samples[r->n_samples++] = x->sample;
    cog_ask_free(x);
}

static void start(run *r, uint64_t due_ns)
{
    cog_ask *x = cog_ask_new(r->opt->stream, keep, r);

    cog_workload_add_body(r->work, &x->call.body, &x->sample.picture, r->n_started, r->model,
                          r->ignores_eos);
    r->n_started++;
    x->sample.sent_ns = cog_now_ns();
    x->sample.due_ns = due_ns ? due_ns : x->sample.sent_ns;
    cog_wire_start(r->http, &x->call);
}

static bool is_closed_loop(const run *r)
{
    return r->opt->request_rate <= 0;
}

static bool is_all_started(const run *r, uint64_t now)
{
    uint64_t next = is_closed_loop(r) ? now : r->due_ns;

    return r->n_started >= r->limit || r->is_interrupted ||
           (r->opt->duration_ms && next - r->begin_ns >= (uint64_t)r->opt->duration_ms * MS);
}

/* Starts what is due and has room. */
static void start_due(run *r)
{
    while (cog_wire_under_way(r->http) < r->max_open) {
        uint64_t now = cog_now_ns();

        if (is_all_started(r, now) || r->due_ns > now)
            return;
        start(r, r->due_ns);
        if (!is_closed_loop(r))
            r->due_ns +=
                (uint64_t)(1e9 * cog_arrivals_gap(&r->arrivals, (double)r->opt->request_rate,
                                                  (double)r->opt->burstiness));
    }
}

static void show_progress(run *r, uint64_t now)
{
    if (!r->has_terminal || now - r->shown_ns < 500 * MS)
        return;
    r->shown_ns = now;
    fprintf(stderr, "\r%zu sent, %zu ended ", r->n_started, r->n_samples);
}

static sigset_t interrupt(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    return set;
}

/* The first SIGINT lets what is under way end, and what ended be reported; the second one kills. */
static void look_for_interrupt(run *r)
{
    sigset_t set = interrupt();

    if (!r->is_interrupted && sigtimedwait(&set, NULL, &(struct timespec){ 0 }) == SIGINT) {
        r->is_interrupted = true;
        sigprocmask(SIG_UNBLOCK, &set, NULL);
    }
}

static void send_all(run *r)
{
    sigset_t set = interrupt(), before;

    sigprocmask(SIG_BLOCK, &set, &before);
    for (;;) {
        uint64_t now = cog_now_ns(), until = UINT64_MAX;
        bool is_over;

        look_for_interrupt(r);
        start_due(r);
        is_over = is_all_started(r, now);
        if (is_over && cog_wire_under_way(r->http) == 0)
            break;
        if (!is_over && !is_closed_loop(r) && cog_wire_under_way(r->http) < r->max_open)
            until = r->due_ns;
        if (until > now + 500 * MS)
            until = now + 500 * MS;
        cog_wire_turn(r->http, until);
        show_progress(r, now);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (r->has_terminal)
        fputs("\r\033[K", stderr);
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---------------------------------------------------------------- */

static void report(const run *r, FILE *out, const cog_bench_goodput *limits, double client_cpu,
                   int *n_failed)
{
    cog_bench_summary summary;
    cog_bench_setting how = {
        .opt = r->opt, .model = r->model, .ignores_eos = r->ignores_eos, .client_cpu = client_cpu
    };

    cog_bench_summarize(&summary, r->samples, r->n_samples, limits);
    if (r->opt->json)
        cog_bench_report_json(out, &summary, &how);
    else
        cog_bench_report_text(out, &summary, &how);
    *n_failed = (int)summary.failed;
}

static int measure(run *r, FILE *out, const cog_bench_goodput *limits, const char *url,
                   int *n_failed, cog_err *err)
{
    double cpu;
    int rc = find_model(r, url, err);

    if (rc == 0)
        rc = warm_up(r, url, err);
    if (rc < 0)
        return rc;
    cpu = cpu_seconds();
    r->begin_ns = cog_now_ns();
    r->due_ns = is_closed_loop(r) ? 0 : r->begin_ns;
    send_all(r);
    cpu = (cpu_seconds() - cpu) / ((double)(cog_now_ns() - r->begin_ns) / 1e9);
    report(r, out, limits, cpu, n_failed);
    return 0;
}

/* *key: owned by the caller; NULL when there is none. No message holds it. */
static int read_key(char **key, const cog_bench_options *opt, cog_err *err)
{
    enum { MAX_KEY_FILE = 65536 };
    cog_buf text = { 0 };
    size_t len = 0;
    int rc = 0;

    *key = opt->api_key ? cog_strdup(opt->api_key) : NULL;
    if (!opt->key_file)
        return 0;
    cog_free(*key);
    *key = NULL;
    rc = cog_buf_add_file(&text, opt->key_file, MAX_KEY_FILE, err);
    while (len < text.len && text.data[len] > ' ' && text.data[len] < 0x7f)
        len++;
    if (rc == 0 && len == 0)
        rc = cog_err_set(err, COG_EFORMAT, "--key-file: %s does not begin with a key",
                         opt->key_file);
    if (rc == 0)
        *key = cog_strndup(text.data, len);
    cog_buf_fini(&text);
    return rc;
}

/* With "/v1" behind and no slash at the end, as libraries of the API want their base URL. */
static char *base_url(const char *url)
{
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/')
        len--;
    if (len >= 3 && memcmp(url + len - 3, "/v1", 3) == 0)
        return cog_strndup(url, len);
    return cog_sprintf("%.*s/v1", (int)len, url);
}

static size_t limit_of(const cog_bench_options *opt)
{
    if (opt->n_prompts)
        return (size_t)opt->n_prompts;
    return opt->duration_ms ? SIZE_MAX : DEFAULT_PROMPTS;
}

int cog_bench_run(int *n_failed, FILE *out, const cog_bench_options *opt, cog_err *err)
{
    run r = { .opt = opt, .limit = limit_of(opt), .arrivals = { .key = opt->seed } };
    cog_bench_goodput limits = { 0 };
    char *url = base_url(opt->url);
    cog_wire_config http = { .url = url,
                             .ca_file = opt->ca_file,
                             .connect_timeout_ms = CONNECT_MS,
                             .timeout_ms = opt->timeout_ms };
    char *key = NULL;
    int rc = opt->goodput ? cog_bench_goodput_parse(&limits, opt->goodput, err) : 0;

    if (rc == 0)
        rc = read_key(&key, opt, err);
    http.api_key = key;
    r.max_open = opt->concurrency ? opt->concurrency : is_closed_loop(&r) ? 1 : MAX_KEPT;
    r.has_terminal = isatty(STDERR_FILENO);
    http.max_open = r.max_open;
    if (rc == 0)
        rc = cog_wire_open(&r.http, &http, err);
    if (rc == 0)
        rc = cog_workload_new(&r.work, opt, r.limit == SIZE_MAX ? 0 : r.limit, err);
    if (rc == 0)
        rc = measure(&r, out, &limits, url, n_failed, err);
    cog_wire_close(r.http);
    cog_workload_free(r.work);
    for (size_t i = 0; i < r.n_samples; i++)
        cog_free(r.samples[i].gaps);
    cog_free(r.samples);
    cog_free(r.model);
    cog_free(url);
    cog_free(key);
    return rc;
}
