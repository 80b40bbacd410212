#include "tests/unit/fake_engine.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fake_request {
    struct fake_request *next;
    cog_request *r;
    char *script;
    bool is_cancelled, is_running;
    int sent;         /* tokens per choice */
    int n_tokens;     /* to send */
    uint64_t next_ns; /* when the next one is due */
    size_t offset;    /* into the script, when it is repeated */
    size_t told;      /* bytes of text per choice */
};

struct cog_engine {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool is_stopping, is_paused, is_stalled;
    cog_engine_state state;
    cog_engine_info info;
    cog_mailbox events;
    void (*notify)(void *);
    void *notify_arg;
    struct fake_request *live;
    int n_waiting, n_accepted, n_cancelled, n_live;
    uint64_t unpinned;
    fake_seen seen, before;
};

static atomic_int decoded;
static atomic_int decoding, max_decoding; /* at a time */

/* ------------------------------------------------------------------ the script */

static long option(const char *script, const char *name, long fallback)
{
    const char *at = strstr(script, name);

    return at ? strtol(at + strlen(name), NULL, 10) : fallback;
}

static bool has_word(const char *script, const char *word)
{
    return strstr(script, word) != NULL;
}

/* The text of the next token; false when the script is over. */
static bool next_token(struct fake_request *f, char *text, size_t size)
{
    long count = option(f->script, "count=", -1);
    long bytes = option(f->script, "bytes=", 0), cut = option(f->script, "cut=", 0);
    size_t len;

    if (f->sent >= f->r->max_tokens)
        return false;
    if (count >= 0) {
        if (f->sent >= count)
            return false;
        if (has_word(f->script, "stamp")) {
            snprintf(text, size, "@%llu ", (unsigned long long)cog_now_ns());
        } else if (bytes > 0 && (size_t)bytes < size) {
            memset(text, 'x', (size_t)bytes);
            text[bytes] = '\0';
        } else {
            snprintf(text, size, has_word(f->script, "utf8") ? "ü%d€ " : "t%d ", f->sent);
        }
        return true;
    }
    if (!f->script[f->offset])
        return false;
    len = strcspn(f->script + f->offset, " ");
    len += strspn(f->script + f->offset + len, " ");
    if (cut > 0 && len > (size_t)cut)
        len = (size_t)cut;
    if (len >= size)
        len = size - 1;
    memcpy(text, f->script + f->offset, len);
    text[len] = '\0';
    f->offset += len;
    return true;
}

/* ------------------------------------------------------------------ events */

static void post(cog_engine *e, cog_event *ev)
{
    cog_mailbox_post(&e->events, &ev->link);
    if (e->notify)
        e->notify(e->notify_arg);
}

static cog_event *event(const struct fake_request *f, cog_event_type type, int choice)
{
    cog_event *ev = cog_new(cog_event);

    ev->type = type;
    ev->id = f->r->id;
    ev->user = f->r->user;
    ev->choice = choice;
    ev->stop = ev->stop_token = -1;
    return ev;
}

/* Each token is the letter of its number, and less likely than the one before; the likeliest are
 * the first letters, from the end token on. */
static void add_score(cog_event *ev, const cog_request *r, int index, size_t at)
{
    ev->n_scored = 1;
    ev->scored = cog_new(cog_scored_token);
    *ev->scored = (cog_scored_token){ .self = { 'a' + index % 26, -0.5f * (float)index },
                                      .is_first = index == 0,
                                      .at = at,
                                      .n_top = r->n_top };
    for (int i = 0; i < r->n_top; i++)
        ev->scored->top[i] = (cog_logprob){ i ? 'a' + i - 1 : 2, (float)-i };
}

/* Each candidate is half as likely as the one before it. */
static void post_candidates(cog_engine *e, struct fake_request *f)
{
    cog_event *ev = event(f, COG_EVENT_CANDIDATES, 0);

    ev->n_candidates = f->r->n_candidates;
    ev->candidate = cog_array(double, (size_t)ev->n_candidates);
    for (int i = 0; i < ev->n_candidates; i++)
        ev->candidate[i] = -1 - 0.69314718055994529 * i;
    post(e, ev);
}

static void post_text(cog_engine *e, struct fake_request *f, const char *text)
{
    for (int i = 0; i < f->r->n; i++) {
        cog_event *ev = event(f, COG_EVENT_TEXT, i);
        ev->text = cog_strdup(text);
        ev->text_len = strlen(text);
        ev->n_tokens = 1;
        ev->token = 'a' + f->sent % 26;
        if (f->r->logprobs)
            add_score(ev, f->r, f->sent, f->told);
        post(e, ev);
    }
    f->sent++;
    f->told += strlen(text);
}

static void post_finish(cog_engine *e, struct fake_request *f, cog_finish finish, int stop)
{
    if (f->r->n_candidates > 0)
        post_candidates(e, f);
    for (int i = 0; i < f->r->n; i++) {
        cog_event *ev = event(f, COG_EVENT_FINISH, i);
        ev->finish = finish;
        ev->stop = stop;
        if (finish == COG_FINISH_STOP && stop < 0)
            ev->stop_token = (int32_t)option(f->script, "stop_token=", -1);
        post(e, ev);
    }
}

/* Takes f out of the list and frees it. */
static void end(cog_engine *e, struct fake_request *f, int status)
{
    cog_event *ev = event(f, COG_EVENT_END, 0);
    struct fake_request **p = &e->live;

    ev->status = status;
    ev->usage = (cog_usage){ .prompt_tokens = f->r->prompt.n_tokens,
                             .image_tokens = f->r->prompt.n_image_tokens,
                             .completion_tokens = f->sent * f->r->n,
                             .cached_tokens = (int)option(f->script, "cached=", 0),
                             .stage_ns = { [COG_STAGE_QUEUE] = 1000000 } };
    if (f->r->prompt.n_image_tokens) {
        ev->usage.stage_ns[COG_STAGE_ENCODE_WAIT] = 500000;
        ev->usage.stage_ns[COG_STAGE_ENCODE] = 4000000;
    }
    if (f->is_running)
        ev->usage.stage_ns[COG_STAGE_PREFILL] = 2000000;
    if (f->sent)
        ev->usage.stage_ns[COG_STAGE_DECODE] = 3000000;
    while (*p != f)
        p = &(*p)->next;
    *p = f->next;
    e->n_live--;
    if (!f->is_running)
        e->n_waiting--;
    cog_request_free(f->r);
    cog_free(f->script);
    cog_free(f);
    post(e, ev);
}

/* ------------------------------------------------------------------ the thread */

/* False when that was the end of the request. */
static bool send_token(cog_engine *e, struct fake_request *f)
{
    char text[4096];

    if (!next_token(f, text, sizeof(text))) {
        post_finish(e, f, f->sent >= f->r->max_tokens ? COG_FINISH_LENGTH : COG_FINISH_STOP, -1);
        end(e, f, 0);
        return false;
    }
    for (int i = 0; i < f->r->n_stop; i++) {
        if (strstr(text, f->r->stop[i])) {
            post_finish(e, f, COG_FINISH_STOP, i);
            end(e, f, 0);
            return false;
        }
    }
    post_text(e, f, text);
    return true;
}

static void step(cog_engine *e, struct fake_request *f, uint64_t now)
{
    long fail;

    if (f->is_cancelled) {
        end(e, f, COG_ECANCELED);
        return;
    }
    if (now >= f->r->deadline_ns) {
        end(e, f, COG_ETIMEOUT);
        return;
    }
    if (e->is_paused)
        return;
    if (!f->is_running) {
        f->is_running = true;
        e->n_waiting--;
        f->next_ns = now + (uint64_t)option(f->script, "first=", 0) * 1000000;
    }
    if (now < f->next_ns || has_word(f->script, "hold"))
        return;
    fail = option(f->script, "fail=", -1);
    if (fail >= 0 && f->sent >= fail) {
        end(e, f, has_word(f->script, "ambiguous") ? COG_ELIMIT : COG_EDEVICE);
        return;
    }
    for (long i = option(f->script, "burst=", 1); i > 0; i--) {
        if (!send_token(e, f))
            return;
    }
    /* Not from now: streams that were due together once would stay together. */
    f->next_ns += (uint64_t)option(f->script, "every=", 0) * 1000000;
}

static void *run(void *arg)
{
    cog_engine *e = arg;

    pthread_mutex_lock(&e->lock);
    while (!e->is_stopping) {
        uint64_t now = cog_now_ns();
        struct timespec at;

        if (e->is_stalled) {
            pthread_cond_wait(&e->changed, &e->lock);
            continue;
        }
        e->state.heartbeat_ns = now;
        for (struct fake_request *f = e->live, *next; f; f = next) {
            next = f->next;
            step(e, f, now);
        }
        if (!e->live) {
            pthread_cond_wait(&e->changed, &e->lock);
            continue;
        }
        clock_gettime(CLOCK_REALTIME, &at);
        at.tv_nsec += 1000000;
        if (at.tv_nsec >= 1000000000) {
            at.tv_nsec -= 1000000000;
            at.tv_sec++;
        }
        pthread_cond_timedwait(&e->changed, &e->lock, &at);
    }
    while (e->live)
        end(e, e->live, COG_ECANCELED);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* ------------------------------------------------------------------ control */

cog_engine *fake_engine_new(void)
{
    static const int32_t eos[] = { 2 };
    cog_engine *e = cog_new(cog_engine);

    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->changed, NULL);
    cog_mailbox_init(&e->events);
    e->state.phase = COG_ENGINE_READY;
    e->state.progress = 1;
    e->info = (cog_engine_info){ .backend = "cpu",
                                 .device = "a double",
                                 .dtype = "bf16",
                                 .fingerprint = 0x1234,
                                 .vocab = 256,
                                 .bos = 1,
                                 .eos = eos,
                                 .n_eos = 1,
                                 .context = FAKE_CONTEXT,
                                 .image_side = FAKE_SIDE,
                                 .image_tokens = FAKE_IMAGE_TOKENS,
                                 .default_template = COG_TEMPLATE_CHAT,
                                 .block = 16,
                                 .n_blocks = 1000,
                                 .max_queue = FAKE_QUEUE,
                                 .takes_grammars = true };
    pthread_create(&e->thread, NULL, run, e);
    return e;
}

#define LOCKED(e, statement)                \
    do {                                    \
        pthread_mutex_lock(&(e)->lock);     \
        statement;                          \
        pthread_cond_signal(&(e)->changed); \
        pthread_mutex_unlock(&(e)->lock);   \
    } while (0)

void fake_engine_notify(cog_engine *e, void (*notify)(void *), void *arg)
{
    LOCKED(e, e->notify = notify; e->notify_arg = arg);
}

void fake_engine_set_phase(cog_engine *e, cog_engine_phase phase, double progress)
{
    LOCKED(e, e->state.phase = phase; e->state.progress = progress;
           if (e->notify) e->notify(e->notify_arg));
}

void fake_engine_set_queue(cog_engine *e, int max_queue)
{
    LOCKED(e, e->info.max_queue = max_queue);
}

void fake_engine_pause(cog_engine *e, bool is_paused)
{
    LOCKED(e, e->is_paused = is_paused);
}

void fake_engine_stall(cog_engine *e)
{
    LOCKED(e, e->is_stalled = true);
}

int fake_engine_accepted(cog_engine *e)
{
    int n;

    LOCKED(e, n = e->n_accepted);
    return n;
}

int fake_engine_cancelled(cog_engine *e)
{
    int n;

    LOCKED(e, n = e->n_cancelled);
    return n;
}

uint64_t fake_engine_unpinned(cog_engine *e)
{
    uint64_t pin;

    LOCKED(e, pin = e->unpinned);
    return pin;
}

int fake_engine_live(cog_engine *e)
{
    int n;

    LOCKED(e, n = e->n_live);
    return n;
}

int fake_engine_take_max_decoding(void)
{
    return atomic_exchange(&max_decoding, 0);
}

int fake_engine_decoding(void)
{
    return atomic_load(&decoding);
}

int fake_engine_decoded(void)
{
    return atomic_load(&decoded);
}

fake_seen fake_engine_seen(cog_engine *e)
{
    fake_seen seen;

    LOCKED(e, seen = e->seen);
    return seen;
}

fake_seen fake_engine_seen_before(cog_engine *e)
{
    fake_seen seen;

    LOCKED(e, seen = e->before);
    return seen;
}

/* ------------------------------------------------------------------ engine.h */

void cog_engine_close(cog_engine *e)
{
    cog_event *next;

    if (!e)
        return;
    LOCKED(e, e->is_stopping = true);
    pthread_join(e->thread, NULL);
    for (cog_event *ev = cog_engine_take_events(e); ev; ev = next) {
        next = (cog_event *)ev->link.next;
        cog_event_free(ev);
    }
    cog_mailbox_fini(&e->events);
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    cog_free(e);
}

void cog_engine_get_state(cog_engine *e, cog_engine_state *out)
{
    LOCKED(e, *out = e->state);
}

const cog_engine_info *cog_engine_get_info(cog_engine *e)
{
    cog_engine_state state;

    cog_engine_get_state(e, &state);
    return state.phase == COG_ENGINE_LOADING ? NULL : &e->info;
}

static cog_engine_stage stage_of(const struct fake_request *f)
{
    return !f->is_running ? COG_STAGE_QUEUE : f->sent ? COG_STAGE_DECODE : COG_STAGE_PREFILL;
}

void cog_engine_get_stats(cog_engine *e, cog_engine_stats *out)
{
    *out = (cog_engine_stats){ 0 };
    pthread_mutex_lock(&e->lock);
    for (const struct fake_request *f = e->live; f && !e->is_paused; f = f->next)
        out->in_stage[stage_of(f)]++; /* a paused engine has not looked at its mailbox */
    out->waiting = e->n_waiting;
    out->running = e->n_live - e->n_waiting;
    pthread_mutex_unlock(&e->lock);
}

/* One token per byte; the form goes into BOS. */
/* A byte is a token; letters have pieces. */
int cog_engine_tokenize(int32_t **ids, int *n_ids, cog_engine *e, const char *text, size_t len,
                        cog_err *err)
{
    *ids = cog_array(int32_t, len + 1);
    *n_ids = (int)len;
    for (size_t i = 0; i < len; i++)
        (*ids)[i] = (unsigned char)text[i];
    return 0;
}

const char *cog_engine_piece(cog_engine *e, int32_t id, size_t *len)
{
    static const char bytes[] = "abcdefghijklmnopqrstuvwxyz";

    *len = id >= 'a' && id <= 'z';
    return bytes + (*len ? id - 'a' : 0);
}

const char *cog_engine_control(cog_engine *e, int32_t id, size_t *len)
{
    *len = id == 2 ? 4 : 0;
    return "</s>";
}

void cog_engine_detokenize(cog_buf *out, cog_engine *e, const int32_t *ids, int n_ids)
{
    for (int i = 0; i < n_ids; i++)
        cog_buf_add(out, &(char){ (char)ids[i] }, 1);
}

int cog_engine_prompt(cog_prompt *out, cog_engine *e, cog_template tmpl, const cog_turn *turns,
                      int n_turns, bool has_image, cog_err *err)
{
    cog_buf text = { 0 };
    int n_image = has_image ? FAKE_IMAGE_TOKENS : 0;

    for (int i = 0; i < n_turns; i++) {
        cog_buf_add(&text, turns[i].query, turns[i].query_len);
        if (turns[i].answer) {
            cog_buf_puts(&text, "|");
            cog_buf_add(&text, turns[i].answer, turns[i].answer_len);
            cog_buf_puts(&text, "|");
        }
    }
    out->n_tokens = 1 + n_image + (int)text.len;
    out->n_image_tokens = n_image;
    out->tokens = cog_array(int32_t, (size_t)out->n_tokens);
    out->tokens[0] = (int32_t)tmpl;
    for (size_t i = 0; i < text.len; i++)
        out->tokens[1 + n_image + (int)i] = (unsigned char)text.data[i];
    cog_buf_fini(&text);
    return 0;
}

void cog_prompt_fini(cog_prompt *p)
{
    cog_free(p->tokens);
    *p = (cog_prompt){ 0 };
}

static void remember(cog_engine *e, const cog_request *r, const char *text)
{
    fake_seen *s = &e->seen;

    e->before = e->seen;
    snprintf(s->text, sizeof(s->text), "%s", text);
    s->form = (cog_template)r->prompt.tokens[0];
    s->sampling = r->sampling;
    for (int i = 0; i < r->sampling.n_bias && i < FAKE_SEEN_TOKENS; i++)
        s->bias[i] = r->sampling.bias[i];
    for (int i = 0; i < r->sampling.n_allowed && i < FAKE_SEEN_TOKENS; i++)
        s->allowed[i] = r->sampling.allowed[i];
    memcpy(s->stop_token, r->stop_token, sizeof(s->stop_token));
    s->n_stop_tokens = r->n_stop_tokens;
    s->min_tokens = r->min_tokens;
    s->has_grammar = r->grammar != NULL;
    s->ignore_eos = r->ignore_eos;
    s->keep_stop = r->keep_stop;
    s->show_controls = r->show_controls;
    s->n = r->n;
    s->max_tokens = r->max_tokens;
    s->n_stop = r->n_stop;
    s->n_prompt = r->prompt.n_tokens;
    s->n_image_tokens = r->prompt.n_image_tokens;
    s->has_image = r->image != NULL;
    s->no_cache = r->no_cache;
    s->continues_prompt = r->continues_prompt;
    s->salt = r->salt;
    s->tenant = r->tenant;
    s->priority = r->priority;
    s->pin = r->pin;
}

int cog_engine_submit(cog_engine *e, cog_request *r, cog_err *err)
{
    struct fake_request *f, **p;
    cog_buf text = { 0 };
    const char *last;
    int rc = 0;

    if (r->max_tokens < 1 || r->prompt.n_tokens + r->max_tokens > FAKE_CONTEXT ||
        (r->image != NULL) != (r->prompt.n_image_tokens > 0))
        return cog_err_set(err, COG_EINVAL, "this cannot run");
    pthread_mutex_lock(&e->lock);
    if (e->n_waiting >= e->info.max_queue)
        rc = cog_err_set(err, COG_EBUSY, "full");
    if (e->state.phase == COG_ENGINE_FAILED)
        rc = cog_err_set(err, COG_EDEVICE, "failed");
    if (rc == 0) {
        cog_buf_reserve(&text, 1);
        for (int i = 1 + r->prompt.n_image_tokens; i < r->prompt.n_tokens; i++) {
            char c = (char)r->prompt.tokens[i];
            cog_buf_add(&text, &c, 1);
        }
        remember(e, r, text.data);
        last = strrchr(text.data, '|');
        f = cog_new(struct fake_request);
        f->r = r;
        f->script = cog_strdup(last ? last + 1 : text.data);
        cog_buf_fini(&text);
        for (p = &e->live; *p; p = &(*p)->next)
            ;
        *p = f;
        e->n_live++;
        e->n_waiting++;
        e->n_accepted++;
        pthread_cond_signal(&e->changed);
    }
    pthread_mutex_unlock(&e->lock);
    return rc;
}

void cog_engine_cancel(cog_engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->lock);
    for (struct fake_request *f = e->live; f; f = f->next) {
        if (f->r->id == id && !f->is_cancelled) {
            f->is_cancelled = true;
            e->n_cancelled++;
        }
    }
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

void cog_engine_unpin(cog_engine *e, uint64_t pin)
{
    LOCKED(e, e->unpinned = pin);
}

cog_event *cog_engine_take_events(cog_engine *e)
{
    return (cog_event *)cog_mailbox_take(&e->events);
}

void cog_event_free(cog_event *ev)
{
    cog_free(ev->text);
    cog_free(ev->scored);
    cog_free(ev->candidate);
    cog_free(ev);
}

/* A picture is text: FAKE and options, or the name of what is wrong with it. */
static int read_picture(char text[64], cog_image_fault *fault, const void *bytes, size_t len,
                        cog_err *err)
{
    static const struct {
        const char *word;
        cog_image_fault fault;
    } faults[] = { { "EMPTY", COG_IMAGE_EMPTY },
                   { "BROKEN", COG_IMAGE_BROKEN },
                   { "LARGE", COG_IMAGE_TOO_LARGE },
                   { "SMALL", COG_IMAGE_TOO_SMALL } };

    memset(text, 0, 64);
    memcpy(text, bytes, len < 63 ? len : 63);
    *fault = COG_IMAGE_UNKNOWN;
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        if (strncmp(text, faults[i].word, strlen(faults[i].word)) == 0)
            *fault = faults[i].fault;
    }
    if (strncmp(text, "FAKE", 4) != 0)
        return cog_err_set(err, COG_EINVAL, "no picture");
    *fault = COG_IMAGE_FINE;
    return 0;
}

int cog_image_probe(cog_image_format *format, int *width, int *height, cog_image_fault *fault,
                    const void *bytes, size_t len, const cog_image_options *opt, cog_err *err)
{
    char text[64];
    int rc = read_picture(text, fault, bytes, len, err);

    *format = COG_PNG;
    *width = *height = (int)option(text, "side=", 8);
    return rc;
}

int cog_image_read(uint8_t *rgb, cog_image_source *out, cog_image_fault *fault, const void *bytes,
                   size_t len, int side, const cog_image_options *opt, cog_err *err)
{
    char text[64];
    int rc = read_picture(text, fault, bytes, len, err);
    int now = atomic_fetch_add(&decoding, 1) + 1, most = atomic_load(&max_decoding);

    while (now > most && !atomic_compare_exchange_weak(&max_decoding, &most, now))
        ;
    atomic_fetch_add(&decoded, 1);
    usleep((useconds_t)option(text, "slow=", 0) * 1000);
    atomic_fetch_sub(&decoding, 1);
    if (rc < 0)
        return rc;
    memset(rgb, 0, (size_t)side * (size_t)side * 3);
    *out = (cog_image_source){ .format = COG_PNG,
                               .width = (int)option(text, "width=", 8),
                               .height = (int)option(text, "height=", 8) };
    return 0;
}

cog_image *cog_image_new(const uint8_t *rgb, int side, const cog_image_source *source)
{
    cog_image *im = cog_new(cog_image);

    atomic_init(&im->refs, 1);
    im->side = side;
    im->format = source->format;
    im->source_width = source->width;
    im->source_height = source->height;
    return im;
}

int cog_image_load(cog_image **out, cog_image_fault *fault, const void *bytes, size_t len, int side,
                   const cog_image_options *opt, cog_err *err)
{
    uint8_t *rgb = cog_alloc((size_t)side * (size_t)side, 3);
    cog_image_source source;
    int rc = cog_image_read(rgb, &source, fault, bytes, len, side, opt, err);

    if (rc == 0)
        *out = cog_image_new(rgb, side, &source);
    cog_free(rgb);
    return rc;
}

cog_image *cog_image_ref(cog_image *im)
{
    atomic_fetch_add(&im->refs, 1);
    return im;
}

void cog_image_free(cog_image *im)
{
    if (im && atomic_fetch_sub(&im->refs, 1) == 1)
        cog_free(im);
}
