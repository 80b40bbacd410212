#include "server/metrics.h"

#include "server/internal.h"

/* vLLM's bounds, so that rules and dashboards made for it match. */
static const double first_token_s[] = { 0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                        0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10,
                                        20,    40,    80,   160,  640,  2560 };
static const double gap_s[] = { 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80 };
static const double request_s[] = { 0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                    30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680 };
static const double counts[] = { 1,    2,    5,    10,    20,    50,    100,    200,   500,
                                 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000 };
/* Ours begin where a cached answer takes its time. */
static const double fine_s[] = { 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
                                 1,     2,     5,     10,   20,   50,   100, 300 };
static const double pixels[] = {
    1e4, 2.5e4, 1e5, 2.5e5, 5e5, 1e6, 2e6, 4e6, 8e6, 1.6e7, 3.2e7, 1e8
};

#define BOUNDS(b)                                      \
    {                                                  \
        .bounds = (b), .n = sizeof(b) / sizeof((b)[0]) \
    }

void cog_metrics_init(cog_metrics *m)
{
    const cog_histogram fine = BOUNDS(fine_s), request = BOUNDS(request_s), gap = BOUNDS(gap_s);

    *m = (cog_metrics){
        .image_pixels = BOUNDS(pixels),
        .first_token = BOUNDS(first_token_s),
        .first_token_fine = fine,
        .gap = gap,
        .gap_fine = fine,
        .per_token = gap,
        .whole = request,
        .whole_fine = fine,
        .queue = request,
        .prefill = request,
        .decode = request,
        .inference = request,
    };
    for (int i = 0; i < COG_N_AT; i++)
        m->stage[i] = fine;
    for (int i = 0; i < COG_MAX_HANDLERS; i++) {
        for (int k = 0; k < COG_N_METHODS; k++)
            m->http[i][k].seconds = fine;
    }
}

void cog_metrics_fit(cog_metrics *m, const cog_engine_info *info)
{
    cog_histogram *const tokens[] = { &m->prompt_tokens, &m->output_tokens, &m->most_tokens,
                                      &m->max_tokens, &m->n };
    int n = 0;

    if (m->prompt_tokens.n || !info)
        return;
    while (n < (int)(sizeof(counts) / sizeof(counts[0])) && counts[n] <= info->context)
        n++;
    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
        *tokens[i] = (cog_histogram){ .bounds = counts, .n = n };
}

static double seconds(uint64_t ns)
{
    return (double)ns * 1e-9;
}

void cog_metrics_begin(cog_exchange *x)
{
    cog_metrics *m = &x->server->metrics;

    cog_metrics_fit(m, cog_engine_get_info(x->server->engine));
    m->requests++;
    m->retries += x->record.n_retries > 0;
}

void cog_metrics_gap(cog_metrics *m, uint64_t gap_ns, int n_tokens)
{
    /* Tokens that come together were waited for once. */
    for (int i = 0; i < n_tokens; i++) {
        cog_histogram_add(&m->gap, i ? 0 : seconds(gap_ns));
        cog_histogram_add(&m->gap_fine, i ? 0 : seconds(gap_ns));
    }
}

void cog_metrics_picture(cog_exchange *x, cog_api_code code, bool is_abandoned)
{
    cog_metrics *m = &x->server->metrics;
    const cog_record *r = &x->record;
    int format = r->image_format < 0 ? COG_N_FORMATS - 1 : r->image_format;

    if (is_abandoned)
        m->abandoned_images[format]++;
    else
        m->images[format][code]++;
    if (r->image_pixels)
        cog_histogram_add(&m->image_pixels, (double)r->image_pixels);
}

void cog_metrics_boxes(cog_metrics *m, const cog_grounding_count *count)
{
    m->boxes += (uint64_t)count->n_boxes;
    m->broken_boxes += (uint64_t)count->n_broken;
}

void cog_metrics_http(cog_exchange *x)
{
    cog_handler_sums *h = &x->server->metrics.http[cog_route_index(x->route)][x->record.method];
    int class = cog_exchange_status(x) / 100;

    h->status[class - 1]++;
    cog_histogram_add(&h->seconds, seconds(x->record.done_ns - x->start_ns));
}

/* What only an answer has. */
static void add_answer(cog_metrics *m, const cog_exchange *x)
{
    const cog_record *r = &x->record;
    const cog_usage *u = &r->usage;
    const uint64_t *ns = u->stage_ns;

    cog_histogram_add(&m->whole, seconds(r->done_ns - x->begin_ns));
    cog_histogram_add(&m->whole_fine, seconds(r->done_ns - x->begin_ns));
    cog_histogram_add(
        &m->queue, seconds(ns[COG_STAGE_ENCODE_WAIT] + ns[COG_STAGE_ENCODE] + ns[COG_STAGE_QUEUE]));
    cog_histogram_add(&m->prefill, seconds(ns[COG_STAGE_PREFILL]));
    cog_histogram_add(&m->decode, seconds(ns[COG_STAGE_DECODE]));
    cog_histogram_add(&m->inference, seconds(ns[COG_STAGE_PREFILL] + ns[COG_STAGE_DECODE]));
    cog_histogram_add(&m->prompt_tokens, u->prompt_tokens);
    cog_histogram_add(&m->output_tokens, u->completion_tokens);
    cog_histogram_add(&m->most_tokens, r->most_tokens);
    cog_histogram_add(&m->max_tokens, r->max_tokens);
    cog_histogram_add(&m->n, r->n);
    if (r->n_gaps)
        cog_histogram_add(&m->per_token, seconds(r->gap_ns) / (double)r->n_gaps);
}

static void add_stages(cog_metrics *m, const cog_record *r)
{
    for (int i = 0; i < COG_N_AT; i++) {
        if (r->ns[i])
            cog_histogram_add(&m->stage[i], seconds(r->ns[i]));
    }
}

void cog_metrics_end(cog_exchange *x)
{
    cog_metrics *m = &x->server->metrics;
    const cog_record *r = &x->record;
    cog_outcome outcome = cog_record_outcome(r);
    /* A whole answer is written at its end: for it, the first token is when it came. */
    uint64_t first_ns = x->is_stream ? r->written_ns : r->first_ns;

    if (outcome == COG_OUT_NONE)
        return;
    m->ended[outcome]++;
    if (outcome == COG_OUT_REJECTED)
        m->rejected[cog_reason_of(r->error)]++;
    if (r->has_left)
        m->left[r->left_at]++;
    add_stages(m, r);
    if (first_ns) {
        cog_histogram_add(&m->first_token, seconds(first_ns - x->begin_ns));
        cog_histogram_add(&m->first_token_fine, seconds(first_ns - x->begin_ns));
    }
    if (outcome == COG_OUT_STOP || outcome == COG_OUT_LENGTH)
        add_answer(m, x);
}
