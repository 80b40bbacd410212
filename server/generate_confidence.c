/* generate_confidence.c - how sure the model was of an answer, and how likely each of the texts
 * that might have been it is. */
#include "base/alloc.h"
#include "server/generate.h"

#include <string.h>

/* Their tokens are those that the tokenizer spells the text with, its first word with a space in
 * front, which is no text at the beginning of an answer that is held to a form. False when one of
 * them has no room. */
static bool ask(cog_request *r, cog_engine *e, char *const *text, int n)
{
    int room = cog_request_room(&r->prompt, cog_engine_get_info(e));
    cog_err err;

    r->candidate = cog_array(cog_candidate, (size_t)n);
    for (r->n_candidates = 0; r->n_candidates < n; r->n_candidates++) {
        cog_candidate *c = &r->candidate[r->n_candidates];
        const char *own = text[r->n_candidates];
        if (cog_engine_tokenize(&c->token, &c->n, e, own, strlen(own), &err) < 0)
            return false;
        if (c->n > room) {
            cog_free(c->token);
            return false;
        }
    }
    return true;
}

static void take_back(cog_request *r)
{
    for (int i = 0; i < r->n_candidates; i++)
        cog_free(r->candidate[i].token);
    cog_free(r->candidate);
    r->candidate = NULL;
    r->n_candidates = 0;
}

void cog_generate_ask_candidates(cog_generate_job *j, char *const *text, int n)
{
    bool has_room = n <= COG_MAX_CANDIDATES && j->requests[0]->max_tokens > 0;

    for (int i = 0; has_room && i < j->n_requests; i++)
        has_room = ask(j->requests[i], j->x->server->engine, text, n);
    if (!has_room) {
        for (int i = 0; i < j->n_requests; i++)
            take_back(j->requests[i]);
        return;
    }
    j->candidate = cog_array(char *, (size_t)n);
    for (; j->n_candidates < n; j->n_candidates++)
        j->candidate[j->n_candidates] = cog_strdup(text[j->n_candidates]);
    j->candidate_logprobs = cog_array(double *, (size_t)j->n_requests);
}

void cog_generate_on_candidates(cog_generate_job *j, const cog_event *ev)
{
    double **own = &j->candidate_logprobs[ev->id - j->first_id];

    *own = cog_array(double, (size_t)ev->n_candidates);
    memcpy(*own, ev->candidate, (size_t)ev->n_candidates * sizeof(double));
}

void cog_generate_write_confidence(cog_generate_job *j, int choice)
{
    const double *own = j->n_candidates ? j->candidate_logprobs[choice / j->n] : NULL;
    cog_answer_choice *c = &j->choices[choice];

    cog_logprob_write_confidence(&c->confidence, c->logprob_sum, c->n_scored, j->candidate, own,
                                 own ? j->n_candidates : 0);
}
