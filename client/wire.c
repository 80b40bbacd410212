/* wire.c - the only file that includes curl/curl.h. libcurl says which sockets to watch and when
 * its next time-out is (curl_multi_socket_action); everything else is one epoll. */
#include "client/wire.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Bytes that arrived together. */
typedef struct mark {
    uint64_t ns;
    size_t len;
} mark;

typedef struct cog_wire_transfer {
    struct cog_wire_transfer *next; /* in dirty or idle */
    cog_wire *h;
    CURL *easy; /* reused for the next call */
    cog_wire_call *call;
    cog_buf in;    /* what arrived in this turn, */
    cog_buf marks; /* and when: mark[] */
    bool is_dirty, is_over;
    cog_wire_end how;
} transfer;

struct cog_wire {
    CURLM *multi;
    int epoll;
    uint64_t timer_ns; /* libcurl's next time-out; UINT64_MAX: none */
    struct curl_slist *get_headers, *post_headers;
    char *url, *ca_file;
    uint32_t connect_timeout_ms, timeout_ms;
    transfer *dirty, **dirty_tail; /* has something to hand over, in order of arrival */
    transfer *idle;
    transfer **all; /* [n_all] */
    int n_all, n_under_way;
};

/* ---------------------------------------------------------------- what libcurl calls */

static void mark_dirty(transfer *t)
{
    if (t->is_dirty)
        return;
    t->is_dirty = true;
    t->next = NULL;
    *t->h->dirty_tail = t;
    t->h->dirty_tail = &t->next;
}

static size_t on_write(char *data, size_t size, size_t n, void *arg)
{
    transfer *t = arg;
    mark m = { .ns = cog_now_ns(), .len = size * n };

    cog_buf_add(&t->in, data, m.len);
    cog_buf_add(&t->marks, &m, sizeof(m));
    mark_dirty(t);
    return m.len;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
    cog_wire *h = arg;
    struct epoll_event ev = { .data.fd = fd };

    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(h->epoll, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    ev.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (epoll_ctl(h->epoll, EPOLL_CTL_MOD, fd, &ev) < 0)
        epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &ev);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
    cog_wire *h = arg;

    h->timer_ns = ms < 0 ? UINT64_MAX : cog_now_ns() + (uint64_t)ms * 1000000;
    return 0;
}

/* ---------------------------------------------------------------- open and close */

static int refuse_url(cog_err *err, const char *url)
{
    return cog_err_set(err, COG_EINVAL,
                       "'%.200s' is no URL; give one like http://127.0.0.1:8000 or "
                       "https://example.org/v1",
                       url);
}

static int check_url(const char *url, cog_err *err)
{
    CURLU *u = curl_url();
    char *scheme = NULL;
    int rc = 0;

    if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        rc = refuse_url(err, url);
    curl_free(scheme);
    curl_url_cleanup(u);
    return rc;
}

static void make_headers(cog_wire *h, const char *api_key)
{
    /* Without "Expect:" libcurl asks before it sends a large body, which costs a round trip. */
    h->post_headers = curl_slist_append(NULL, "Content-Type: application/json");
    h->post_headers = curl_slist_append(h->post_headers, "Expect:");
    h->get_headers = curl_slist_append(NULL, "Accept: application/json");
    if (api_key) {
        char *line = cog_sprintf("Authorization: Bearer %s", api_key);

        h->post_headers = curl_slist_append(h->post_headers, line);
        h->get_headers = curl_slist_append(h->get_headers, line);
        cog_free(line);
    }
}

int cog_wire_open(cog_wire **out, const cog_wire_config *cfg, cog_err *err)
{
    cog_wire *h;
    int rc = check_url(cfg->url, err);

    if (rc < 0)
        return rc;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    h = cog_new(cog_wire);
    h->epoll = epoll_create1(EPOLL_CLOEXEC);
    h->multi = curl_multi_init();
    h->timer_ns = UINT64_MAX;
    h->dirty_tail = &h->dirty;
    h->url = cog_strdup(cfg->url);
    h->ca_file = cfg->ca_file ? cog_strdup(cfg->ca_file) : NULL;
    h->connect_timeout_ms = cfg->connect_timeout_ms;
    h->timeout_ms = cfg->timeout_ms;
    make_headers(h, cfg->api_key);
    if (h->epoll < 0 || !h->multi) {
        cog_wire_close(h);
        return cog_err_set(err, COG_EIO, "out of file descriptors");
    }
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)cfg->max_open);
    *out = h;
    return 0;
}

/* ---------------------------------------------------------------- start and end */

static transfer *take_transfer(cog_wire *h)
{
    transfer *t = h->idle;

    if (t) {
        h->idle = t->next;
        curl_easy_reset(t->easy);
        return t;
    }
    t = cog_new(transfer);
    t->h = h;
    t->easy = curl_easy_init();
    h->all = cog_realloc(h->all, (size_t)h->n_all + 1, sizeof(transfer *));
    h->all[h->n_all++] = t;
    return t;
}

static void set_up(transfer *t, const char *url)
{
    cog_wire *h = t->h;
    cog_wire_call *c = t->call;

    curl_easy_setopt(t->easy, CURLOPT_URL, url);
    curl_easy_setopt(t->easy, CURLOPT_PROXY, ""); /* it would be measured too */
    curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)h->connect_timeout_ms);
    curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, (long)h->timeout_ms);
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, c->error);
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, c->body.len ? h->post_headers : h->get_headers);
    if (h->ca_file)
        curl_easy_setopt(t->easy, CURLOPT_CAINFO, h->ca_file);
    if (c->body.len) {
        curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.len);
        curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, c->body.data);
    }
}

void cog_wire_start(cog_wire *h, cog_wire_call *c)
{
    transfer *t = take_transfer(h);
    char *url = cog_sprintf("%s%s", h->url, c->path);

    c->transfer = t;
    c->status = 0;
    c->has_retry_after = false;
    c->error[0] = '\0';
    t->call = c;
    t->is_over = false;
    set_up(t, url);
    cog_free(url);
    h->n_under_way++;
    curl_multi_add_handle(h->multi, t->easy); /* sets the timer to now */
}

static cog_wire_end end_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return COG_WIRE_WHOLE;
    case CURLE_OPERATION_TIMEDOUT:
        return COG_WIRE_TIMEOUT;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return COG_WIRE_CONNECT;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        return COG_WIRE_BAD;
    default:
        return COG_WIRE_CUT;
    }
}

static void read_head(transfer *t)
{
    curl_off_t seconds = 0;
    long status = 0;

    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    t->call->status = (int)status;
    /* 0 is also what an absent header gives, and "Retry-After: 0" is no time to wait. */
    curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &seconds);
    t->call->has_retry_after = seconds > 0;
}

static void collect_ends(cog_wire *h)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(h->multi, &left))) {
        CURLcode code = m->data.result;
        CURL *easy = m->easy_handle;
        transfer *t = NULL;

        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
        t->how = end_of(code);
        t->is_over = true;
        t->call->end_ns = cog_now_ns();
        read_head(t);
        if (code != CURLE_OK && !t->call->error[0])
            snprintf(t->call->error, sizeof(t->call->error), "%s", curl_easy_strerror(code));
        curl_multi_remove_handle(h->multi, easy);
        mark_dirty(t);
    }
}

/* Gives the caller what arrived, and the end. */
static void hand_over(transfer *t)
{
    const mark *m = (const mark *)t->marks.data;
    size_t n = t->marks.len / sizeof(*m), at = 0;
    cog_wire_call *c = t->call;

    if (n && !c->status)
        read_head(t);
    for (size_t i = 0; i < n; i++) {
        c->bytes(c, m[i].ns, t->in.data + at, m[i].len);
        at += m[i].len;
    }
    cog_buf_clear(&t->in);
    cog_buf_clear(&t->marks);
    if (!t->is_over)
        return;
    t->h->n_under_way--;
    t->call = NULL;
    t->next = t->h->idle;
    t->h->idle = t;
    c->transfer = NULL;
    c->end(c, t->how);
}

static void hand_over_all(cog_wire *h)
{
    transfer *t = h->dirty, *next;

    h->dirty = NULL;
    h->dirty_tail = &h->dirty;
    for (; t; t = next) {
        next = t->next;
        t->is_dirty = false;
        hand_over(t);
    }
}

/* ---------------------------------------------------------------- the loop */

/* epoll_wait counts in milliseconds, which is too coarse for when a request is due. */
static void wait_until(int fd, uint64_t until_ns)
{
    uint64_t now = cog_now_ns(), wait = until_ns > now ? until_ns - now : 0;
    struct timespec ts = { .tv_sec = (time_t)(wait / 1000000000),
                           .tv_nsec = (long)(wait % 1000000000) };
    struct pollfd p = { .fd = fd, .events = POLLIN };

    ppoll(&p, 1, until_ns == UINT64_MAX ? NULL : &ts, NULL);
}

void cog_wire_turn(cog_wire *h, uint64_t until_ns)
{
    enum { MAX_EVENTS = 1024 };
    struct epoll_event ev[MAX_EVENTS];
    int n, running;

    if (h->n_under_way == 0 && until_ns == UINT64_MAX)
        return;
    wait_until(h->epoll, h->timer_ns < until_ns ? h->timer_ns : until_ns);
    n = epoll_wait(h->epoll, ev, MAX_EVENTS, 0);
    for (int i = 0; i < n; i++) {
        int what = (ev[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                   (ev[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (ev[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        curl_multi_socket_action(h->multi, ev[i].data.fd, what, &running);
    }
    if (h->timer_ns <= cog_now_ns()) {
        h->timer_ns = UINT64_MAX;
        curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    collect_ends(h);
    hand_over_all(h);
}

int cog_wire_under_way(const cog_wire *h)
{
    return h->n_under_way;
}

void cog_wire_close(cog_wire *h)
{
    if (!h)
        return;
    for (int i = 0; i < h->n_all; i++) {
        transfer *t = h->all[i];

        if (t->call) {
            curl_multi_remove_handle(h->multi, t->easy);
            t->call->end(t->call, COG_WIRE_CUT);
        }
        curl_easy_cleanup(t->easy);
        cog_buf_fini(&t->in);
        cog_buf_fini(&t->marks);
        cog_free(t);
    }
    cog_free(h->all);
    curl_multi_cleanup(h->multi);
    curl_slist_free_all(h->get_headers);
    curl_slist_free_all(h->post_headers);
    if (h->epoll >= 0)
        close(h->epoll);
    cog_free(h->url);
    cog_free(h->ca_file);
    cog_free(h);
}
