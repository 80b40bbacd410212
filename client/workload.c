#include "client/workload.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "client/picture.h"
#include "proto/json_write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* More random pictures than this are not made beforehand; they come round again, as repeated. */
enum { MAX_MADE = 4096, MADE_FOR_UNKNOWN = 512 };

/* What is drawn for a request, each from its own stream. */
enum { DRAW_PICTURE, DRAW_REPEATED, DRAW_WHICH, DRAW_PROMPT, DRAW_ANSWER, DRAW_WORDS, N_DRAWS };

typedef struct picture {
    cog_buf url;
    bool was_sent;
} picture;

struct cog_workload {
    const cog_bench_options *opt;
    picture *shared,
        *own; /* [n_shared], [n_own]: for the requests that share, and for the others */
    size_t n_shared, n_own;
    size_t next_own;
};

static uint64_t draw(const cog_workload *w, size_t i, int what)
{
    return cog_rng_at(cog_rng_mix(w->opt->seed) + (uint64_t)what, i);
}

static bool chance(const cog_workload *w, size_t i, int what, float share)
{
    return cog_rng_unit(draw(w, i, what)) < (double)share;
}

static int length(const cog_workload *w, size_t i, int what, int middle)
{
    double unit = cog_rng_unit(draw(w, i, what));
    double factor = 1 + (double)w->opt->length_spread * (2 * unit - 1);

    return (int)lround(middle * factor);
}

/* ---------------------------------------------------------------- pictures */

static bool takes_shared(const cog_workload *w, size_t i)
{
    return w->n_shared > 0 && chance(w, i, DRAW_REPEATED, w->opt->repeated_image_share);
}

static size_t count_own(const cog_workload *w, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += chance(w, i, DRAW_PICTURE, w->opt->image_share) && !takes_shared(w, i);
    return count;
}

static int read_files(cog_workload *w, cog_err *err)
{
    const cog_bench_options *opt = w->opt;
    size_t n = (size_t)opt->n_images;
    int rc = 0;

    /* A file that is shared is nobody's own, as long as there are files for both. */
    w->n_shared = opt->repeated_image_share > 0 ? (size_t)opt->repeated_images : 0;
    w->n_shared = w->n_shared > n ? n : w->n_shared;
    w->n_own = n - w->n_shared;
    w->shared = cog_array(picture, w->n_shared + 1);
    w->own = cog_array(picture, w->n_own + 1);
    for (size_t k = 0; rc == 0 && k < n; k++) {
        picture *p = k < w->n_shared ? &w->shared[k] : &w->own[k - w->n_shared];
        rc = cog_picture_add_file(&p->url, opt->images[k], err);
    }
    return rc;
}

static int make_pictures(cog_workload *w, size_t n, cog_err *err)
{
    const cog_bench_options *opt = w->opt;
    int width, height, end = 0;

    if (sscanf(opt->image_size, "%5dx%5d%n", &width, &height, &end) != 2 || opt->image_size[end] ||
        width < 1 || height < 1 || width > 65500 || height > 65500)
        return cog_err_set(err, COG_EINVAL, "--image-size: '%.64s' is no size like 490x490",
                           opt->image_size);
    w->n_shared = opt->repeated_image_share > 0 ? (size_t)opt->repeated_images : 0;
    w->n_own = n ? count_own(w, n) : MADE_FOR_UNKNOWN;
    w->n_own = w->n_own > MAX_MADE ? MAX_MADE : w->n_own;
    w->shared = cog_array(picture, w->n_shared + 1);
    w->own = cog_array(picture, w->n_own + 1);
    for (size_t k = 0; k < w->n_shared + w->n_own; k++) {
        picture *p = k < w->n_shared ? &w->shared[k] : &w->own[k - w->n_shared];
        cog_picture_add_random(&p->url, cog_rng_at(opt->seed, k), width, height);
    }
    return 0;
}

int cog_workload_new(cog_workload **out, const cog_bench_options *opt, size_t n, cog_err *err)
{
    cog_workload *w = cog_new(cog_workload);
    int rc = 0;

    w->opt = opt;
    if (opt->image_share > 0)
        rc = opt->n_images ? read_files(w, err) : make_pictures(w, n, err);
    if (rc < 0)
        cog_workload_free(w);
    else
        *out = w;
    return rc;
}

void cog_workload_free(cog_workload *w)
{
    if (!w)
        return;
    for (size_t k = 0; w->shared && k < w->n_shared; k++)
        cog_buf_fini(&w->shared[k].url);
    for (size_t k = 0; w->own && k < w->n_own; k++)
        cog_buf_fini(&w->own[k].url);
    cog_free(w->shared);
    cog_free(w->own);
    cog_free(w);
}

/* NULL: a request of text alone. */
static picture *choose(cog_workload *w, size_t i)
{
    if (w->n_shared + w->n_own == 0 || !chance(w, i, DRAW_PICTURE, w->opt->image_share))
        return NULL;
    if (takes_shared(w, i) || w->n_own == 0)
        return &w->shared[draw(w, i, DRAW_WHICH) % w->n_shared];
    return &w->own[w->next_own++ % w->n_own];
}

/* ---------------------------------------------------------------- bodies */

static void add_prompt(const cog_workload *w, cog_buf *out, size_t i)
{
    static const char *const words[] = {
        "amber",  "basket", "circle", "door",   "edge",  "field",  "glass",  "house",
        "island", "jacket", "kite",   "ladder", "moon",  "north",  "orange", "paper",
        "quiet",  "river",  "stone",  "table",  "under", "valley", "window", "yellow",
    };
    cog_rng rng = { .key = draw(w, i, DRAW_WORDS) };
    int n = length(w, i, DRAW_PROMPT, w->opt->prompt_words);

    cog_json_write_text(out, w->opt->prompt, strlen(w->opt->prompt));
    for (int k = 0; k < n; k++)
        cog_buf_printf(out, " %s", words[cog_rng_below(&rng, sizeof(words) / sizeof(words[0]))]);
}

static void add_body(const cog_workload *w, cog_buf *out, size_t i, const picture *p,
                     const char *model, bool ignore_eos)
{
    const cog_bench_options *opt = w->opt;
    int max_tokens = length(w, i, DRAW_ANSWER, opt->max_tokens);

    cog_buf_puts(out, "{\"model\":");
    cog_json_write_string(out, model);
    cog_buf_puts(out, ",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
                      "\"text\":\"");
    add_prompt(w, out, i);
    cog_buf_puts(out, "\"}");
    if (p) {
        cog_buf_puts(out, ",{\"type\":\"image_url\",\"image_url\":{\"url\":\"");
        cog_buf_add(out, p->url.data, p->url.len);
        cog_buf_puts(out, "\"}}");
    }
    cog_buf_printf(out, "]}],\"max_completion_tokens\":%d,\"temperature\":%g",
                   max_tokens < 1 ? 1 : max_tokens, (double)opt->temperature);
    if (opt->stream)
        cog_buf_puts(out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    if (ignore_eos)
        cog_buf_puts(out, ",\"ignore_eos\":true");
    cog_buf_puts(out, "}");
}

void cog_workload_add_body(cog_workload *w, cog_buf *out, cog_bench_picture *kind, size_t i,
                           const char *model, bool ignore_eos)
{
    picture *p = choose(w, i);

    *kind = !p ? COG_BENCH_TEXT : p->was_sent ? COG_BENCH_REPEATED : COG_BENCH_COLD;
    if (p)
        p->was_sent = true;
    add_body(w, out, i, p, model, ignore_eos);
}

size_t cog_workload_n_repeated(const cog_workload *w)
{
    return w->n_shared;
}

void cog_workload_add_warmup(cog_workload *w, cog_buf *out, size_t i, const char *model,
                             bool ignore_eos)
{
    picture *p = i < w->n_shared ? &w->shared[i] : NULL;
    picture extra = { 0 };

    if (p) {
        p->was_sent = true;
    } else if (w->n_own || w->n_shared) {
        /* Nobody's picture, so that the run's own ones stay cold. */
        cog_picture_add_random(&extra.url, cog_rng_at(~w->opt->seed, i), 64, 64);
        p = &extra;
    }
    add_body(w, out, SIZE_MAX - i, p, model, ignore_eos);
    cog_buf_fini(&extra.url);
}
