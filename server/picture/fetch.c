#include "server/picture/fetch.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "server/picture/fetch_url.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

struct cog_fetcher {
    cog_fetch_options opt;
    uv_async_t async;
    uv_thread_t thread;
    CURLM *multi;
    cog_mailbox started, ended; /* to the thread, and from it */
    atomic_bool is_closing;

    cog_fetch *active, *waiting, **waiting_tail; /* the thread's */
    int n_active;
};

const cog_fetch_options cog_fetch_defaults = {
    .connect_ms = 2000,
    .total_ms = 5000,
    .max_transfers = 32,
    .is_allowed = cog_fetch_is_public,
};

enum { IDLE_MS = 1000, GRACE_MS = 20 };

/* ------------------------------------------------------------------ one transfer */

static size_t on_bytes(char *data, size_t size, size_t n, void *arg)
{
    cog_fetch *f = arg;

    if (n > f->max_bytes - f->body.len) {
        f->is_full = true;
        return 0;
    }
    cog_buf_add(&f->body, data, n);
    return n;
}

/* Every address of every name comes by here, just before it is connected to. */
static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    cog_fetch *f = arg;

    if (purpose != CURLSOCKTYPE_IPCXN || !f->fetcher->opt.is_allowed(&a->addr)) {
        f->is_refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* Ends after the deadline, however the library rounds: who waits then sees that it has passed. */
static long milliseconds(const cog_fetch *f, uint64_t now)
{
    uint64_t left = (f->deadline_ns > now ? (f->deadline_ns - now) / 1000000 : 0) + GRACE_MS;
    long total = f->fetcher->opt.total_ms;

    return left < (uint64_t)total ? (long)left : total;
}

static void set_up(cog_fetch *f, CURL *e, uint64_t now)
{
    curl_easy_setopt(e, CURLOPT_PRIVATE, f);
    curl_easy_setopt(e, CURLOPT_CURLU, f->url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "cogwheel/" COG_VERSION);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_PROXY, ""); /* the environment's would connect in our place */
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* waits for no resolver that nobody waits for */
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)f->fetcher->opt.connect_ms);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, milliseconds(f, now));
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, f);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, f);
}

static cog_fetch_status judge(cog_fetch *f, CURLcode rc)
{
    long code = 0;

    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &code);
    f->curl_code = (int)rc;
    f->http_status = (int)code;
    if (f->is_full)
        return COG_FETCH_TOO_LARGE;
    switch (rc) {
    case CURLE_OK:
        if (code == 200)
            return COG_FETCH_OK;
        return code >= 500 || code == 429 || code == 408 ? COG_FETCH_LATER : COG_FETCH_REFUSED;
    case CURLE_COULDNT_CONNECT:
        return f->is_refused ? COG_FETCH_REFUSED : COG_FETCH_LATER;
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
        return COG_FETCH_LATER;
    default:
        return COG_FETCH_REFUSED;
    }
}

/* ------------------------------------------------------------------ the thread */

static void end(cog_fetcher *t, cog_fetch *f, cog_fetch_status status)
{
    if (f->easy) {
        curl_multi_remove_handle(t->multi, f->easy);
        curl_easy_cleanup(f->easy);
        f->easy = NULL;
        t->n_active--;
    }
    cog_fetch_url_free(f->url);
    f->url = NULL;
    if (status != COG_FETCH_OK)
        cog_buf_fini(&f->body);
    f->status = status;
    if (cog_mailbox_post(&t->ended, &f->link))
        uv_async_send(&t->async);
}

static void begin(cog_fetcher *t, cog_fetch *f)
{
    f->easy = curl_easy_init();
    if (!f->easy)
        abort(); /* out of memory */
    t->n_active++;
    set_up(f, f->easy, cog_now_ns());
    f->next = t->active;
    t->active = f;
    curl_multi_add_handle(t->multi, f->easy);
}

static void take_started(cog_fetcher *t)
{
    cog_link *next;

    for (cog_link *l = cog_mailbox_take(&t->started); l; l = next) {
        cog_fetch *f = (cog_fetch *)l;

        next = l->next;
        f->next = NULL;
        *t->waiting_tail = f;
        t->waiting_tail = &f->next;
    }
    while (t->waiting && t->n_active < t->opt.max_transfers) {
        cog_fetch *f = t->waiting;

        t->waiting = f->next;
        if (!t->waiting)
            t->waiting_tail = &t->waiting;
        begin(t, f);
    }
}

static void end_unwanted(cog_fetcher *t, cog_fetch **list)
{
    uint64_t now = cog_now_ns();

    for (cog_fetch **at = list; *at;) {
        cog_fetch *f = *at;
        bool is_canceled = atomic_load(&f->is_canceled);

        if (!is_canceled && now < f->deadline_ns) {
            at = &f->next;
            continue;
        }
        *at = f->next;
        end(t, f, is_canceled ? COG_FETCH_CANCELED : COG_FETCH_LATER);
    }
    if (list == &t->waiting) {
        t->waiting_tail = list;
        while (*t->waiting_tail)
            t->waiting_tail = &(*t->waiting_tail)->next;
    }
}

static void take_ended(cog_fetcher *t)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(t->multi, &left))) {
        char *private = NULL;
        cog_fetch *f, **at = &t->active;
        CURLcode rc = m->data.result;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &private);
        f = (cog_fetch *)(void *)private;
        while (*at != f)
            at = &(*at)->next;
        *at = f->next;
        end(t, f, judge(f, rc));
    }
}

static void run(void *arg)
{
    cog_fetcher *t = arg;
    int running;

    while (!atomic_load(&t->is_closing)) {
        take_started(t);
        end_unwanted(t, &t->active);
        end_unwanted(t, &t->waiting);
        curl_multi_perform(t->multi, &running);
        take_ended(t);
        if (t->waiting && t->n_active < t->opt.max_transfers)
            continue;
        curl_multi_poll(t->multi, NULL, 0, IDLE_MS, NULL);
    }
}

/* ------------------------------------------------------------------ the loop's side */

static void on_ended(uv_async_t *a)
{
    cog_fetcher *t = a->data;
    cog_link *next;

    for (cog_link *l = cog_mailbox_take(&t->ended); l; l = next) {
        cog_fetch *f = (cog_fetch *)l;

        next = l->next;
        f->done(f);
    }
}

static void free_fetcher(uv_handle_t *h)
{
    cog_fetcher *t = h->data;

    cog_mailbox_fini(&t->started);
    cog_mailbox_fini(&t->ended);
    cog_free(t);
}

int cog_fetcher_open(cog_fetcher **out, struct uv_loop_s *loop, const cog_fetch_options *opt,
                     cog_err *err)
{
    cog_fetcher *t;
    CURLM *multi;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(multi = curl_multi_init()))
        return cog_err_set(err, COG_EIO, "libcurl does not start, so no picture can be fetched");
    t = cog_new(cog_fetcher);
    t->opt = *opt;
    t->multi = multi;
    t->waiting_tail = &t->waiting;
    cog_mailbox_init(&t->started);
    cog_mailbox_init(&t->ended);
    atomic_init(&t->is_closing, false);
    uv_async_init(loop, &t->async, on_ended);
    t->async.data = t;
    if (uv_thread_create(&t->thread, run, t) != 0) {
        curl_multi_cleanup(multi);
        uv_close((uv_handle_t *)&t->async, free_fetcher);
        return cog_err_set(err, COG_EIO, "no thread for fetching pictures can be started");
    }
    *out = t;
    return 0;
}

void cog_fetcher_close(cog_fetcher *f)
{
    if (!f)
        return;
    atomic_store(&f->is_closing, true);
    curl_multi_wakeup(f->multi);
    uv_thread_join(&f->thread);
    curl_multi_cleanup(f->multi);
    uv_close((uv_handle_t *)&f->async, free_fetcher);
}

void cog_fetch_start(cog_fetcher *f, cog_fetch *fetch)
{
    fetch->fetcher = f;
    atomic_init(&fetch->is_canceled, false);
    cog_mailbox_post(&f->started, &fetch->link);
    curl_multi_wakeup(f->multi);
}

void cog_fetch_cancel(cog_fetch *fetch)
{
    atomic_store(&fetch->is_canceled, true);
    curl_multi_wakeup(fetch->fetcher->multi);
}
