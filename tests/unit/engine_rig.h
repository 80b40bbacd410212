/* engine_rig.h - an engine on a tiny random checkpoint, requests to it, and what they were given.
 */
#ifndef COG_TESTS_ENGINE_RIG_H
#define COG_TESTS_ENGINE_RIG_H

#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/rng.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHOICES = 3, LONGEST = 40, LONGEST_PROMPT = 256 };

/* What one request was given. */
typedef struct outcome {
    cog_sha256 logits[CHOICES][LONGEST]; /* of each row a token was drawn from */
    int n_logits[CHOICES];
    cog_buf text[CHOICES];
    cog_scored_token scored[CHOICES][LONGEST];
    int n_scored[CHOICES];
    bool was_early; /* a token came without text */
    int n_tokens[CHOICES], n_finish[CHOICES], finish[CHOICES], stop[CHOICES];
    int32_t stop_token[CHOICES];
    int n_end, status;
    cog_usage usage;
    cog_scored_token prompt[LONGEST_PROMPT];
    int prompt_from, n_prompt, n_prompt_events; /* from: its first token of text */
    double candidate[COG_MAX_CANDIDATES];
    int n_candidates;
} outcome;

typedef struct rig rig;

struct rig {
    cog_engine *e;
    outcome *out; /* by request id */
    int n_ended;
    /* called on the engine's thread when a row of logits was computed */
    void (*at_token)(rig *r, uint64_t id, int choice, int index, const float *logits, int vocab);
    uint64_t ended[256]; /* ids in the order of their ends */
};

static inline const char *model_dir(const char *fixture)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/tests/golden/fixtures/%s", getenv("COG_SOURCE_ROOT"), fixture);
    return path;
}

static inline void on_logits(void *arg, uint64_t id, int choice, int index, const float *logits,
                             int vocab)
{
    rig *r = arg;
    outcome *o = &r->out[id];

    assert_true(index < LONGEST && index == o->n_logits[choice]);
    o->logits[choice][index] =
        cog_sha256_of(&(cog_span){ logits, (size_t)vocab * sizeof(float) }, 1);
    o->n_logits[choice]++;
    if (r->at_token)
        r->at_token(r, id, choice, index, logits, vocab);
}

static inline void open_rig(rig *r, cog_engine_config cfg, int n_requests)
{
    cog_err err;

    *r = (rig){ .out = cog_array(outcome, (size_t)n_requests) };
    cfg.on_logits = on_logits;
    cfg.on_logits_arg = r;
    if (!cfg.model_dir)
        cfg.model_dir = model_dir("hd64-bf16");
    if (!cfg.kv_bytes) /* two engines share a device */
        cfg.kv_bytes = 256u << 20;
    assert_int_equal(cog_engine_open(&r->e, &cfg, &err), 0);
    if (cog_engine_wait(r->e, &err) < 0)
        fail_msg("%s", err.text);
}

/* Whether there were any. */
static inline bool take_events(rig *r, uint64_t timeout_ns)
{
    cog_event *ev = cog_engine_wait_events(r->e, timeout_ns), *next;
    bool any = ev != NULL;

    for (; ev; ev = next) {
        outcome *o = &r->out[ev->id];

        next = (cog_event *)ev->link.next;
        assert_int_equal(o->n_end, 0); /* nothing follows the end */
        switch (ev->type) {
        case COG_EVENT_PROMPT:
            assert_int_equal(ev->first, o->prompt_from + o->n_prompt);
            assert_true(ev->n_scored > 0 && o->n_prompt + ev->n_scored <= LONGEST_PROMPT);
            memcpy(o->prompt + o->n_prompt, ev->scored,
                   (size_t)ev->n_scored * sizeof(ev->scored[0]));
            o->n_prompt += ev->n_scored;
            o->n_prompt_events++;
            break;
        case COG_EVENT_CANDIDATES:
            for (int c = 0; c < CHOICES; c++)
                assert_int_equal(o->n_finish[c], 0);
            assert_int_equal(o->n_candidates, 0);
            o->n_candidates = ev->n_candidates;
            memcpy(o->candidate, ev->candidate, (size_t)ev->n_candidates * sizeof(double));
            break;
        case COG_EVENT_TEXT:
            assert_int_equal(o->n_finish[ev->choice], 0);
            cog_buf_add(&o->text[ev->choice], ev->text, ev->text_len);
            o->n_tokens[ev->choice] += ev->n_tokens;
            for (int i = 0; i < ev->n_scored; i++)
                o->scored[ev->choice][o->n_scored[ev->choice]++] = ev->scored[i];
            o->was_early |= ev->n_scored > 0 && ev->text_len == 0;
            break;
        case COG_EVENT_FINISH:
            o->n_finish[ev->choice]++;
            o->finish[ev->choice] = (int)ev->finish;
            o->stop[ev->choice] = ev->stop;
            o->stop_token[ev->choice] = ev->stop_token;
            break;
        case COG_EVENT_END:
            o->n_end++;
            o->status = ev->status;
            o->usage = ev->usage;
            if (r->n_ended < 256)
                r->ended[r->n_ended] = ev->id;
            r->n_ended++;
            break;
        }
        cog_event_free(ev);
    }
    return any;
}

/* An engine that says nothing for 100 s is stuck. */
static inline void wait_for(rig *r, int n_ended)
{
    for (int silent = 0; r->n_ended < n_ended; silent++) {
        if (take_events(r, 1000000000))
            silent = 0;
        assert_true(silent < 100);
    }
}

/* Nothing is held once every request has ended. The statistics are those of the last turn of the
 * loop. */
static inline cog_engine_stats settled(rig *r)
{
    cog_engine_stats s;

    for (int i = 0; i < 500; i++) {
        cog_engine_get_stats(r->e, &s);
        if (s.blocks_used == 0 && s.running == 0 && s.waiting == 0 && s.features == 0)
            break;
        usleep(10000);
    }
    assert_int_equal(s.blocks_used, 0);
    assert_int_equal(s.running, 0);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(s.features, 0);
    return s;
}

static inline void close_rig(rig *r, int n_requests)
{
    cog_engine_close(r->e);
    for (int i = 0; i < n_requests; i++)
        for (int c = 0; c < CHOICES; c++)
            cog_buf_fini(&r->out[i].text[c]);
    cog_free(r->out);
}

static inline cog_image *make_image(const cog_engine_info *info, uint64_t seed)
{
    cog_image *im = cog_new(cog_image);
    size_t n = (size_t)info->image_side * (size_t)info->image_side * 3;
    cog_rng rng = { .key = seed };

    im->side = info->image_side;
    im->rgb = cog_alloc(n, 1);
    for (size_t i = 0; i < n; i++)
        im->rgb[i] = (uint8_t)cog_rng_next(&rng);
    im->hash = cog_sha256_of(&(cog_span){ im->rgb, n }, 1);
    return im;
}

static inline cog_request *make_request(rig *r, uint64_t id, const char *query, bool has_image,
                                        uint64_t picture)
{
    cog_turn turn = { .query = query, .query_len = strlen(query) };
    cog_request *q = cog_new(cog_request);
    cog_err err;

    assert_int_equal(
        cog_engine_prompt(&q->prompt, r->e, COG_TEMPLATE_CHAT, &turn, 1, has_image, &err), 0);
    if (has_image)
        q->image = make_image(cog_engine_get_info(r->e), picture);
    q->id = id;
    q->n = 1;
    q->max_tokens = 12;
    q->sampling =
        (cog_sampling){ .temperature = 0.9f, .top_p = 1, .repetition_penalty = 1, .seed = id };
    q->deadline_ns = UINT64_MAX;
    return q;
}

static inline void submit(rig *r, cog_request *q)
{
    cog_err err;

    if (cog_engine_submit(r->e, q, &err) < 0)
        fail_msg("%s", err.text);
}

/* Takes q; to its good end. */
static inline const outcome *run(rig *r, cog_request *q)
{
    uint64_t id = q->id;

    r->out[id].prompt_from = 1 + q->prompt.n_image_tokens;
    submit(r, q);
    wait_for(r, r->n_ended + 1);
    assert_int_equal(r->out[id].status, 0);
    return &r->out[id];
}

#endif
