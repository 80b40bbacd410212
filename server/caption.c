/* caption.c - keeps the engine supplied with pictures and writes their answers in the order of the
 * pictures. Runs on the main thread; the engine's thread does the rest. */
#include "server/caption.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/caption_line.h"
#include "server/picture_list.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const cog_caption_options cog_caption_defaults = {
    .prompt = "Describe this image.",
    .template_version = COG_TEMPLATE_DEFAULT,
    .max_tokens = 512,
    .sampling = { .temperature = 0, .top_p = 1, .repetition_penalty = 1 },
};

typedef struct item {
    const char *path; /* the list's */
    bool is_done;
    char *error;  /* owned; NULL: answered */
    cog_buf text; /* the answer so far */
    cog_finish finish;
    int prompt_tokens, completion_tokens;
} item;

typedef struct run {
    const cog_caption_options *opt;
    const cog_image_options *image;
    cog_engine *engine;
    const cog_engine_info *info;
    item *items; /* [n] owned */
    int n;
    int next;       /* item to submit */
    int next_print; /* item to write */
    int in_flight, max_in_flight;
    int n_failed;
    FILE *file; /* --out; NULL: none */
    int n_done; /* answered or failed, written or not */
    int shown;  /* n_done of the progress bar on the terminal; -1: there is none */
    bool has_terminal;
} run;

/* ---------------------------------------------------------------- output */

static void show_progress(run *r)
{
    enum { BAR = 30 };
    int filled = (int)((int64_t)BAR * r->n_done / r->n);

    if (!r->has_terminal || r->shown == r->n_done)
        return;
    fprintf(stderr, "\r[%.*s%*s] %d of %d, %d failed ", filled, "##############################",
            BAR - filled, "", r->n_done, r->n, r->n_failed);
    r->shown = r->n_done;
}

static void clear_progress(run *r)
{
    if (r->has_terminal && r->shown >= 0)
        fputs("\r\x1b[K", stderr);
    r->shown = -1;
}

static int write_line(const run *r, FILE *f, const item *it, cog_err *err)
{
    cog_buf line = { 0 };
    bool is_written;
    cog_caption_line c = {
        .image = it->path,
        .error = it->error,
        .text = cog_buf_text(&it->text),
        .finish_reason = it->finish == COG_FINISH_STOP ? "stop" : "length",
        .prompt_tokens = it->prompt_tokens,
        .completion_tokens = it->completion_tokens,
    };

    cog_caption_line_write(&line, &c);
    /* Each line reaches the file whole and at once: what a crash can cut is the last one only. */
    is_written = fwrite(line.data, 1, line.len, f) == line.len && fflush(f) == 0;
    cog_buf_fini(&line);
    if (!is_written)
        return cog_err_set(err, COG_EIO, "cannot write %s: %s",
                           f == r->file ? r->opt->out : "standard output", strerror(errno));
    return 0;
}

static int write_item(run *r, const item *it, cog_err *err)
{
    clear_progress(r);
    if (it->error)
        fprintf(stderr, "cogwheel caption: %s: %s\n", it->path, it->error);
    if (r->file)
        return write_line(r, r->file, it, err);
    if (r->opt->json)
        return write_line(r, stdout, it, err);
    if (!it->error)
        printf("%s: %s\n", it->path, cog_buf_text(&it->text));
    return 0;
}

/* Answers are written in the order of the pictures, whichever came first. */
static int write_finished(run *r, cog_err *err)
{
    int rc = 0;

    while (rc == 0 && r->next_print < r->n && r->items[r->next_print].is_done) {
        item *it = &r->items[r->next_print++];
        rc = write_item(r, it, err);
        cog_buf_fini(&it->text);
        cog_free(it->error);
        it->error = NULL;
    }
    show_progress(r);
    return rc;
}

/* ---------------------------------------------------------------- requests */

static int read_picture(cog_buf *out, const char *path, size_t max_bytes, cog_err *err)
{
    char chunk[65536];
    FILE *f = fopen(path, "rbe");
    size_t n;
    int failed;

    if (!f)
        return cog_err_set(err, COG_EIO, "cannot open: %s", strerror(errno));
    /* One byte beyond the limit is enough for the decoder to refuse it. */
    while (out->len <= max_bytes && (n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        cog_buf_add(out, chunk, n);
    failed = ferror(f) ? errno : 0;
    fclose(f);
    return failed ? cog_err_set(err, COG_EIO, "cannot read: %s", strerror(failed)) : 0;
}

static int load_picture(cog_image **out, const run *r, const char *path, cog_err *err)
{
    cog_buf bytes = { 0 };
    cog_image_fault fault;
    int rc = read_picture(&bytes, path, r->image->max_bytes, err);

    if (rc == 0)
        rc = cog_image_load(out, &fault, bytes.data, bytes.len, r->info->image_side, r->image, err);
    cog_buf_fini(&bytes);
    return rc;
}

static int make_prompt(cog_prompt *out, const run *r, cog_err *err)
{
    cog_turn turn = { .query = r->opt->prompt, .query_len = strlen(r->opt->prompt) };

    return cog_engine_prompt(out, r->engine, r->opt->template_version, &turn, 1, true, err);
}

/* The prompt is the same for every picture: whether it fits is known before the first one. */
static int check_prompt(const run *r, cog_err *err)
{
    cog_prompt prompt = { 0 };
    int rc = make_prompt(&prompt, r, err);

    if (rc == 0 && prompt.n_tokens >= r->info->context)
        rc = cog_err_set(err, COG_EINVAL,
                         "--prompt: with the picture it has %d tokens and the context is %d; "
                         "shorten it",
                         prompt.n_tokens, r->info->context);
    cog_prompt_fini(&prompt);
    return rc;
}

/* error: NULL when it was answered. */
static void finish(run *r, item *it, const char *error)
{
    it->is_done = true;
    it->error = error ? cog_strdup(error) : NULL;
    r->n_done++;
    r->n_failed += error != NULL;
}

/* What is wrong with this picture ends up in the item. */
static void submit(run *r, item *it)
{
    cog_request *req = cog_new(cog_request);
    cog_err err = { 0 };
    int rc = load_picture(&req->image, r, it->path, &err), room;

    if (rc == 0)
        rc = make_prompt(&req->prompt, r, &err);
    if (rc < 0)
        goto fail;
    room = r->info->context - req->prompt.n_tokens;
    it->prompt_tokens = req->prompt.n_tokens;
    req->id = (uint64_t)(it - r->items);
    req->user = it;
    req->sampling = r->opt->sampling;
    req->n = 1;
    req->max_tokens = r->opt->max_tokens < room ? r->opt->max_tokens : room;
    req->deadline_ns = UINT64_MAX;
    rc = cog_engine_submit(r->engine, req, &err);
    if (rc < 0)
        goto fail;
    r->in_flight++;
    return;

fail:
    cog_request_free(req);
    finish(r, it, err.text);
}

static void fill_engine(run *r)
{
    while (r->next < r->n && r->in_flight < r->max_in_flight)
        submit(r, &r->items[r->next++]);
}

static void take_event(run *r, const cog_event *ev)
{
    item *it = ev->user;

    switch (ev->type) {
    case COG_EVENT_PROMPT: /* neither was asked for */
    case COG_EVENT_CANDIDATES:
        break;
    case COG_EVENT_TEXT:
        cog_buf_add(&it->text, ev->text, ev->text_len);
        break;
    case COG_EVENT_FINISH:
        it->finish = ev->finish;
        break;
    case COG_EVENT_END:
        r->in_flight--;
        it->completion_tokens = ev->usage.completion_tokens;
        finish(r, it, ev->status < 0 ? ev->err.text : NULL);
        break;
    }
}

static int answer_all(run *r, cog_err *err)
{
    const uint64_t second = 1000000000u;
    int rc = 0;

    while (rc == 0 && r->next_print < r->n) {
        cog_engine_state state;

        fill_engine(r);
        if (r->in_flight) {
            cog_event *ev = cog_engine_wait_events(r->engine, second);
            while (ev) {
                cog_event *following = (cog_event *)ev->link.next;
                take_event(r, ev);
                cog_event_free(ev);
                ev = following;
            }
        }
        rc = write_finished(r, err);
        cog_engine_get_state(r->engine, &state);
        if (rc == 0 && state.phase == COG_ENGINE_FAILED) {
            *err = state.err;
            rc = err->code ? err->code : COG_EDEVICE;
        }
    }
    clear_progress(r);
    return rc;
}

/* ---------------------------------------------------------------- */

/* Leaves out what --out answers already, and opens it for the rest. */
static int continue_file(run *r, cog_picture_list *list, cog_err *err)
{
    int skipped = 0, rc;

    if (!r->opt->out)
        return 0;
    rc = cog_picture_list_resume(list, &skipped, r->opt->out, err);
    if (rc < 0)
        return rc;
    if (skipped)
        fprintf(stderr, "cogwheel caption: %d already in %s\n", skipped, r->opt->out);
    r->file = fopen(r->opt->out, "abe");
    if (!r->file)
        return cog_err_set(err, COG_EIO, "--out: cannot open %s: %s", r->opt->out, strerror(errno));
    return 0;
}

static int start(run *r, const cog_engine_config *config, cog_err *err)
{
    int rc = cog_engine_open(&r->engine, config, err);

    if (rc == 0)
        rc = cog_engine_wait(r->engine, err);
    if (rc < 0)
        return rc;
    r->info = cog_engine_get_info(r->engine);
    /* Twice a full step: while one half is answered the other half is decoded and encoded. Never
     * more than the queue takes. */
    r->max_in_flight = 2 * config->max_seqs;
    if (r->max_in_flight > config->max_queue)
        r->max_in_flight = config->max_queue;
    return check_prompt(r, err);
}

int cog_caption_run(int *n_failed, const cog_engine_config *engine, const cog_image_options *image,
                    const cog_caption_options *opt, const char *const *paths, int n_paths,
                    cog_err *err)
{
    run r = { .opt = opt, .image = image, .shown = -1, .has_terminal = isatty(STDERR_FILENO) };
    cog_picture_list *list = NULL;
    int rc = cog_picture_list_new(&list, paths, n_paths, opt->recursive, err);

    if (rc == 0)
        rc = continue_file(&r, list, err);
    if (rc < 0)
        goto done;
    r.n = cog_picture_list_count(list);
    r.items = cog_array(item, (size_t)r.n + 1);
    for (int i = 0; i < r.n; i++)
        r.items[i].path = cog_picture_list_path(list, i);
    /* Nothing left to ask is no reason to load a model. */
    if (r.n) {
        rc = start(&r, engine, err);
        if (rc == 0)
            rc = answer_all(&r, err);
    }
    *n_failed = r.n_failed;

done:
    cog_engine_close(r.engine);
    for (int i = 0; i < r.n; i++) {
        cog_buf_fini(&r.items[i].text);
        cog_free(r.items[i].error);
    }
    cog_free(r.items);
    cog_picture_list_free(list);
    if (r.file && fclose(r.file) != 0 && rc == 0)
        rc = cog_err_set(err, COG_EIO, "--out: cannot write %s: %s", opt->out, strerror(errno));
    return rc;
}
