/* load.c - who asks what, and when. */
#include "tests/sim/sim.h"

#include "base/alloc.h"

#include <math.h>
#include <string.h>

enum { BOS = 1, PAD = 0, VOCAB = 32000, N_COMMON = 4 };

static double unit(sim_world *w)
{
    return cog_rng_unit(cog_rng_next(&w->rng));
}

static bool chance(sim_world *w, double share)
{
    return share > 0 && unit(w) < share;
}

static int between(sim_world *w, int min, int max)
{
    return min + (int)cog_rng_below(&w->rng, (uint64_t)(max - min) + 1);
}

/* Times between groups are exponential, sizes of groups geometric. */
static void plan_arrival(sim_world *w)
{
    const sim_load *l = w->l;

    if (l->burst > 1 && unit(w) >= 1 / l->burst)
        return; /* with the last one */
    w->next_arrival += (uint64_t)(-log(1 - unit(w)) * l->burst / l->rate * 1e9);
}

void sim_load_init(sim_world *w)
{
    plan_arrival(w);
    w->next_light = w->l->n_light ? (uint64_t)(w->l->light_every * 1e9) : UINT64_MAX;
}

uint64_t sim_next_arrival(const sim_world *w)
{
    if (w->n_arrived == w->l->n_requests)
        return UINT64_MAX;
    return w->next_arrival < w->next_light ? w->next_arrival : w->next_light;
}

/* The first of n more often than the last: the larger of two is dropped, twice. */
static int choose_picture(sim_world *w, int n)
{
    int best = n - 1;

    for (int i = 0; i < 3; i++) {
        int one = between(w, 0, n - 1);
        best = one < best ? one : best;
    }
    return best;
}

static void choose_sender(sim_world *w, sim_request *r)
{
    const sim_load *l = w->l;
    int n = l->n_tenants - l->n_light;

    r->tenant = n == 1 || chance(w, l->flood) ? 0
                : l->flood > 0                ? between(w, 1, n - 1)
                                              : between(w, 0, n - 1);
    r->priority = l->n_priorities > 1 ? 10 * between(w, 0, l->n_priorities - 1) : 0;
}

static sim_request *new_request(sim_world *w, uint64_t arrived_ns)
{
    sim_request *r = cog_new(sim_request);

    r->id = (uint64_t)w->n_arrived++;
    r->tokens_key = cog_rng_next(&w->rng);
    r->arrived_ns = arrived_ns;
    r->picture = -1;
    r->n_choices = 1;
    r->cancel_ns = r->deadline_ns = UINT64_MAX;
    return r;
}

static sim_request *light_request(sim_world *w)
{
    sim_request *r = new_request(w, w->next_light);
    int of = (int)(w->next_light / (uint64_t)(w->l->light_every * 1e9)) % w->l->n_light;

    r->is_light = true;
    r->tenant = w->l->n_tenants - 1 - of;
    r->n_text = w->l->text_min;
    r->n_answer = w->l->answer_min;
    w->next_light += (uint64_t)(w->l->light_every * 1e9);
    return r;
}

sim_request *sim_arrive(sim_world *w)
{
    const sim_load *l = w->l;
    sim_request *r;

    if (w->next_light <= w->next_arrival)
        return light_request(w);
    r = new_request(w, w->next_arrival);
    choose_sender(w, r);
    r->n_text = between(w, l->text_min, l->unequal ? (l->text_min + l->text_max) / 2 : l->text_max);
    if (l->unequal && r->tenant == l->n_tenants - 1)
        r->n_text = l->text_max;
    r->n_answer = between(w, l->answer_min, l->answer_max);
    if (chance(w, l->pictures))
        r->picture = l->n_pictures ? choose_picture(w, l->n_pictures) : (int)r->id;
    r->common = chance(w, l->common) ? r->n_text / 2 : 0;
    r->is_private = chance(w, l->private_share);
    r->salt = l->n_salts > 1 ? between(w, 0, l->n_salts - 1) : 0;
    if (chance(w, l->several))
        r->n_choices = between(w, 2, 4);
    if (chance(w, l->cancelled))
        r->cancel_ns = r->arrived_ns + (uint64_t)(unit(w) * unit(w) * 1e9);
    if (l->deadline_s > 0 && chance(w, 0.1))
        r->deadline_ns = r->arrived_ns + (uint64_t)(unit(w) * l->deadline_s * 1e9);
    plan_arrival(w);
    return r;
}

/* ------------------------------------------------------------------ what an accepted one holds */

static cog_sha256 hash_of(uint64_t kind, uint64_t n)
{
    cog_sha256 h;

    for (size_t i = 0; i < sizeof(h); i++)
        ((uint8_t *)&h)[i] = (uint8_t)cog_rng_at(kind * 1000003 + n, i);
    return h;
}

static int image_rows(const sim_machine *m, const sim_request *r)
{
    return r->picture >= 0 ? m->image_tokens : 0;
}

uint64_t sim_request_rows(const sim_machine *m, const sim_request *r)
{
    int prompt = 1 + image_rows(m, r) + r->n_text;

    return (uint64_t)(prompt + r->n_choices * r->n_answer);
}

/* The token that an answer has at a place is known before: nobody looks at it earlier. */
static void fill_tokens(sim_seq *q, int n_image, int choice)
{
    const sim_request *r = q->request;
    int at = 0;

    q->tokens[at++] = BOS;
    while (at <= n_image)
        q->tokens[at++] = PAD;
    for (int i = 0; at < q->limit; i++, at++) {
        uint64_t key = i < r->common ? r->tokens_key % N_COMMON : r->tokens_key;
        key += i < r->n_text ? 0 : (uint64_t)choice;
        q->tokens[at] = 2 + (int32_t)(cog_rng_at(key, (uint64_t)at) % (VOCAB - 2));
    }
}

static void prepare_seq(sim_world *w, sim_request *r, int choice)
{
    sim_seq *q = &r->seq[choice];
    int n_image = image_rows(w->m, r), n_prompt = 1 + n_image + r->n_text;
    cog_sha256 salt = hash_of(1, (uint64_t)r->salt), picture = hash_of(2, (uint64_t)r->picture);

    q->request = r;
    q->limit = n_prompt + r->n_answer;
    q->tokens = cog_array(int32_t, (size_t)q->limit);
    fill_tokens(q, n_image, choice);
    q->sched = (cog_sched_seq){
        .item = { .order = w->next_order, .arrived_ns = r->arrived_ns, .priority = r->priority },
        .tenant = w->fault == SIM_KNOWS_NO_TENANTS ? 0 : (uint64_t)r->tenant,
        .n_tokens = n_prompt,
        .picture = r->features ? &r->features->sched : NULL,
        .n_visual = n_image ? 1 + n_image : 0,
        .n_found = -1,
    };
    cog_block_table_init(&q->sched.table, (q->limit + w->m->block - 1) / w->m->block);
    if (w->policy == SIM_SERVER && !r->is_private)
        cog_prefix_chain_init(&q->sched.chain, q->tokens, q->limit, w->m->block, &salt,
                              q->sched.n_visual, n_image ? &picture : NULL);
}

void sim_request_prepare(sim_world *w, sim_request *r)
{
    cog_sha256 salt = hash_of(1, (uint64_t)r->salt);

    if (w->policy == SIM_BASELINE) { /* everybody is alike */
        r->tenant = r->priority = 0;
        r->is_private = true;
    }
    if (r->picture >= 0) {
        cog_image *image = cog_new(cog_image);
        bool is_new;
        image->hash = hash_of(2, (uint64_t)r->picture);
        r->features = cog_vision_take(&w->vision, image, &salt,
                                      r->is_private || w->fault == SIM_ENCODES_AGAIN, &is_new);
    }
    r->seq = cog_array(sim_seq, (size_t)r->n_choices);
    for (int i = 0; i < r->n_choices; i++)
        prepare_seq(w, r, i);
    w->next_order++;
    r->n_live = r->n_choices;
}

void sim_request_free(sim_request *r)
{
    for (int i = 0; r->seq && i < r->n_choices; i++) {
        cog_prefix_chain_fini(&r->seq[i].sched.chain);
        cog_block_table_fini(&r->seq[i].sched.table);
        cog_free(r->seq[i].tokens);
        cog_free(r->seq[i].hash);
    }
    cog_free(r->seq);
    cog_free(r);
}
