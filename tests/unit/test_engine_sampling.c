/* What a request says of single tokens and of the end of its answers, through the whole engine. A
 * bias of 100 makes its token the next one always: a tiny random model's logits lie close together.
 */
#include "tests/unit/engine_rig.h"

#include "base/utf8.h"
#include "engine/logprob.h"

#include <math.h>

enum { MAX = 10 };

static void open_default(rig *r)
{
    cog_engine_config cfg = cog_engine_defaults;

    cfg.max_seqs = 4;
    cfg.step_tokens = 64;
    open_rig(r, cfg, 8);
}

/* A token that is a word. */
static int32_t word_of(rig *r, const char *text)
{
    int32_t *ids, id;
    size_t len;
    cog_err err;
    int n;

    assert_int_equal(cog_engine_tokenize(&ids, &n, r->e, text, strlen(text), &err), 0);
    assert_true(n > 0);
    id = ids[n - 1];
    cog_free(ids);
    cog_engine_piece(r->e, id, &len);
    assert_true(len > 0);
    return id;
}

static void add_bias(cog_request *q, int32_t token, float bias)
{
    cog_sampling *p = &q->sampling;
    int at = p->n_bias++;
    cog_logit_bias *list = cog_array(cog_logit_bias, (size_t)p->n_bias);

    while (at > 0 && p->bias[at - 1].token > token)
        at--;
    if (at > 0)
        memcpy(list, p->bias, (size_t)at * sizeof(*list));
    list[at] = (cog_logit_bias){ token, bias };
    for (int i = at; i < p->n_bias - 1; i++)
        list[i + 1] = p->bias[i];
    cog_free(p->bias);
    p->bias = list;
}

/* A request whose next token is always that one. */
static cog_request *always(rig *r, uint64_t id, int32_t token)
{
    cog_request *q = make_request(r, id, "what is this", false, 0);

    q->max_tokens = MAX;
    add_bias(q, token, 100);
    return q;
}

static void expect(const outcome *o, int n_tokens, cog_finish finish, int stop, int32_t stop_token)
{
    assert_int_equal(o->n_tokens[0], n_tokens);
    assert_int_equal(o->finish[0], finish);
    assert_int_equal(o->stop[0], stop);
    assert_int_equal(o->stop_token[0], stop_token);
}

/* The text is so many times the piece, but for the space at the beginning of a text. */
static void expect_repeated(rig *r, const outcome *o, int32_t token, int times)
{
    cog_buf want = { 0 };
    int32_t ids[MAX];

    for (int i = 0; i < times; i++)
        ids[i] = token;
    cog_engine_detokenize(&want, r->e, ids, times);
    assert_int_equal(o->text[0].len, want.len);
    if (want.len)
        assert_memory_equal(o->text[0].data, want.data, want.len);
    cog_buf_fini(&want);
}

static void a_stop_token_ends_an_answer(void **state)
{
    const outcome *o;
    cog_request *q;
    int32_t word;
    rig r;

    open_default(&r);
    word = word_of(&r, "cat");
    o = run(&r, always(&r, 0, word));
    expect(o, MAX, COG_FINISH_LENGTH, -1, -1);
    expect_repeated(&r, o, word, MAX);

    q = always(&r, 1, word);
    q->stop_token[q->n_stop_tokens++] = 0;
    q->stop_token[q->n_stop_tokens++] = word;
    o = run(&r, q);
    expect(o, 1, COG_FINISH_STOP, -1, word);
    expect_repeated(&r, o, word, 0);

    q = always(&r, 2, word);
    q->stop_token[q->n_stop_tokens++] = word;
    q->keep_stop = true;
    o = run(&r, q);
    expect(o, 1, COG_FINISH_STOP, -1, word);
    expect_repeated(&r, o, word, 1);
    settled(&r);
    close_rig(&r, 8);
}

static void ends_wait_for_the_least_number_of_tokens(void **state)
{
    const outcome *o;
    cog_request *q;
    int32_t word, eos;
    rig r;

    open_default(&r);
    word = word_of(&r, "cat");
    eos = cog_engine_get_info(r.e)->eos[0];
    q = always(&r, 0, word);
    q->stop_token[q->n_stop_tokens++] = word;
    q->min_tokens = 3;
    expect(run(&r, q), 4, COG_FINISH_STOP, -1, word);

    expect(run(&r, always(&r, 1, eos)), 1, COG_FINISH_STOP, -1, -1);
    q = always(&r, 2, eos);
    q->min_tokens = 5;
    expect(run(&r, q), 6, COG_FINISH_STOP, -1, -1);

    q = always(&r, 3, eos); /* as an end token and as a stop token: as the former */
    q->stop_token[q->n_stop_tokens++] = eos;
    q->min_tokens = MAX;
    o = run(&r, q);
    expect(o, MAX, COG_FINISH_LENGTH, -1, -1);
    assert_true(o->text[0].len > 0);

    /* drawn at random, in several answers */
    q = make_request(&r, 4, "what is this", true, 1);
    q->max_tokens = MAX;
    q->min_tokens = MAX - 1;
    q->n = CHOICES;
    add_bias(q, eos, 3);
    submit(&r, q);
    wait_for(&r, r.n_ended + 1);
    for (int c = 0; c < CHOICES; c++)
        assert_true(r.out[4].n_tokens[c] >= MAX - 1);
    settled(&r);
    close_rig(&r, 8);
}

static void stop_strings_wait_as_well(void **state)
{
    const outcome *o;
    cog_request *q;
    int32_t word;
    size_t len;
    const char *piece;
    rig r;

    open_default(&r);
    word = word_of(&r, "cat");
    piece = cog_engine_piece(r.e, word, &len);
    for (int keeps = 0; keeps < 2; keeps++) {
        q = always(&r, (uint64_t)keeps, word);
        q->stop[q->n_stop++] = cog_strndup(piece + len - 1, 1);
        q->min_tokens = 3;
        q->keep_stop = keeps;
        o = run(&r, q);
        expect(o, 4, COG_FINISH_STOP, 0, -1);
        assert_int_equal(o->text[0].data[o->text[0].len - 1] == piece[len - 1], keeps || len == 1);
        if (keeps)
            expect_repeated(&r, o, word, 4);
    }
    settled(&r);
    close_rig(&r, 8);
}

static void end_tokens_may_end_nothing(void **state)
{
    const outcome *o;
    cog_request *q;
    int32_t eos;
    rig r;

    open_default(&r);
    eos = cog_engine_get_info(r.e)->eos[0];
    q = always(&r, 0, eos);
    q->ignore_eos = true;
    o = run(&r, q);
    expect(o, MAX, COG_FINISH_LENGTH, -1, -1);
    assert_int_equal(o->text[0].len, 0);

    q = always(&r, 1, eos);
    q->ignore_eos = true;
    q->max_tokens = 2;
    q->show_controls = true;
    o = run(&r, q);
    expect(o, 2, COG_FINISH_LENGTH, -1, -1);
    assert_string_equal(o->text[0].data, "</s></s>");

    q = always(&r, 2, eos);
    q->ignore_eos = true;
    q->stop_token[q->n_stop_tokens++] = eos;
    expect(run(&r, q), 1, COG_FINISH_STOP, -1, eos);

    q = always(&r, 3, eos);
    q->keep_stop = q->show_controls = true;
    o = run(&r, q);
    expect(o, 1, COG_FINISH_STOP, -1, -1);
    assert_string_equal(o->text[0].data, "</s>");
    settled(&r);
    close_rig(&r, 8);
}

static void only_what_is_allowed_is_drawn(void **state)
{
    const outcome *o;
    cog_request *q;
    int32_t word, other;
    rig r;

    open_default(&r);
    word = word_of(&r, "cat");
    other = word_of(&r, "dog");
    assert_true(word != other);
    for (uint64_t id = 0; id < 4; id++) {
        q = always(&r, id, other);
        q->sampling.temperature = id % 2 ? 2 : 0;
        q->sampling.repetition_penalty = id < 2 ? 1 : 1.3f;
        q->sampling.allowed = cog_array(int32_t, 1);
        q->sampling.allowed[0] = word;
        q->sampling.n_allowed = 1;
        o = run(&r, q);
        expect(o, MAX, COG_FINISH_LENGTH, -1, -1);
        expect_repeated(&r, o, word, MAX);
    }
    settled(&r);
    close_rig(&r, 8);
}

static void refuse(rig *r, cog_request *q)
{
    cog_err err;

    assert_int_equal(cog_engine_submit(r->e, q, &err), COG_EINVAL);
    cog_request_free(q);
}

/* ------------------------------------------------------------------ log-probabilities */

enum { MAX_VOCAB = 1024 };

static float rows[CHOICES][LONGEST][MAX_VOCAB];

static void keep_row(rig *r, uint64_t id, int choice, int index, const float *logits, int vocab)
{
    assert_true(vocab <= MAX_VOCAB);
    memcpy(rows[choice][index], logits, (size_t)vocab * sizeof(float));
}

/* The tokens' bytes are the text's, but for what a stop string took of the last. */
static void check_bytes(rig *r, const outcome *o, int choice)
{
    const cog_buf *text = &o->text[choice];
    cog_buf joined = { 0 };
    size_t last = 0, len, at = 0;
    char *clean;

    for (int i = 0; i < o->n_scored[choice]; i++) {
        const cog_scored_token *s = &o->scored[choice][i];
        const char *piece = cog_engine_piece(r->e, s->self.token, &len);
        bool is_cut = s->is_first && len > 0 && piece[0] == ' ';

        assert_int_equal(s->is_first, i == 0);
        last = joined.len;
        if (cog_utf8_valid(cog_buf_text(&joined), last))
            assert_int_equal(s->at, last);
        assert_true(s->at >= at && s->at < text->len);
        at = s->at;
        cog_buf_add(&joined, piece + is_cut, len - is_cut);
        assert_true(joined.len > last); /* each has bytes */
    }
    clean = cog_alloc(3 * joined.len + 1, 1);
    len = cog_utf8_sanitize(clean, cog_buf_text(&joined), joined.len);
    assert_true(len >= text->len);
    if (text->len)
        assert_memory_equal(clean, text->data, text->len);
    if (len == joined.len && len > 0) /* whole characters: the last has some of the text */
        assert_true(last < text->len);
    cog_free(clean);
    cog_buf_fini(&joined);
}

/* Values are those of the logits as the network gave them, whatever was drawn with. */
static void check_values(const outcome *o, int choice, int vocab, int n_top)
{
    for (int i = 0; i < o->n_scored[choice]; i++) {
        const cog_scored_token *s = &o->scored[choice][i];
        bool is_found = false;
        cog_scored_token want;

        for (int index = i; index < o->n_tokens[choice] && !is_found; index++) {
            cog_logprob_score(&want, rows[choice][index], vocab, s->self.token, n_top);
            is_found = memcmp(&want.self, &s->self, sizeof(want.self)) == 0 &&
                       want.n_top == s->n_top &&
                       memcmp(want.top, s->top, (size_t)want.n_top * sizeof(want.top[0])) == 0;
        }
        assert_true(is_found);
        assert_int_equal(s->n_top, n_top);
    }
}

static void tokens_tell_how_likely_they_were(void **state)
{
    int vocab, n_several = 0;
    rig r;

    open_default(&r);
    r.at_token = keep_row;
    vocab = cog_engine_get_info(r.e)->vocab;
    for (uint64_t id = 0; id < 8; id++) {
        cog_request *q = make_request(&r, id, "what is this", false, 0);
        int n = id % 3 == 2 ? CHOICES : 1;
        const outcome *o;

        q->logprobs = true;
        q->n_top = (int)id % 4 * 5;
        q->max_tokens = LONGEST - 1;
        q->n = n;
        q->sampling.temperature = id % 4 == 3 ? 0 : 1.5f;
        q->sampling.repetition_penalty = 1.3f;
        if (id == 1)
            add_bias(q, word_of(&r, "cat"), 5);
        if (id >= 4)
            for (char c = 'a'; c < 'a' + 4 * (char)(id - 3); c++) /* held back, or found */
                q->stop[q->n_stop++] = cog_sprintf("%c%c", c, c + (id % 2 ? 1 : 25 - (c - 'a')));
        if (id == 6)
            q->keep_stop = true;
        o = run(&r, q);
        assert_false(o->was_early);
        for (int c = 0; c < n; c++) {
            check_bytes(&r, o, c);
            check_values(o, c, vocab, (int)id % 4 * 5);
            n_several += o->n_scored[c] > 3;
        }
    }
    assert_true(n_several > 4);
    settled(&r);
    close_rig(&r, 8);
}

static void tokens_without_text_are_not_told(void **state)
{
    const outcome *o;
    cog_request *q;
    int32_t word, eos;
    rig r;

    open_default(&r);
    word = word_of(&r, "cat");
    eos = cog_engine_get_info(r.e)->eos[0];
    q = always(&r, 0, eos);
    q->logprobs = q->ignore_eos = true;
    o = run(&r, q);
    assert_int_equal(o->n_scored[0], 0);

    q = always(&r, 1, eos);
    q->logprobs = q->ignore_eos = q->show_controls = true;
    o = run(&r, q);
    assert_int_equal(o->n_scored[0], MAX);

    q = always(&r, 2, word); /* the token that ended it, and then one that stays */
    q->logprobs = true;
    q->min_tokens = 2;
    q->stop_token[q->n_stop_tokens++] = word;
    o = run(&r, q);
    assert_int_equal(o->n_tokens[0], 3);
    assert_true(o->n_scored[0] <= 2);
    for (int i = 0; i < o->n_scored[0]; i++)
        assert_true(o->scored[0][i].self.token != word);

    q = always(&r, 3, word);
    q->logprobs = q->keep_stop = true;
    q->stop_token[q->n_stop_tokens++] = word;
    o = run(&r, q);
    assert_int_equal(o->n_scored[0], 1);

    o = run(&r, always(&r, 4, word));
    assert_int_equal(o->n_scored[0], 0); /* not asked */

    q = always(&r, 5, word);
    q->logprobs = true;
    q->n_top = COG_MAX_TOP + 1;
    refuse(&r, q);
    settled(&r);
    close_rig(&r, 8);
}

static void what_could_index_anything_is_refused(void **state)
{
    const float bias[] = { 100.5f, -100.5f, NAN, INFINITY };
    cog_request *q;
    int vocab;
    rig r;

    open_default(&r);
    vocab = cog_engine_get_info(r.e)->vocab;
    for (int bad = -1; bad <= vocab; bad += vocab + 1) {
        refuse(&r, always(&r, 0, bad));
        q = always(&r, 0, 5);
        q->stop_token[q->n_stop_tokens++] = bad;
        refuse(&r, q);
        q = always(&r, 0, 5);
        q->sampling.allowed = cog_array(int32_t, 1);
        q->sampling.allowed[0] = bad;
        q->sampling.n_allowed = 1;
        refuse(&r, q);
    }
    for (int i = 0; i < 4; i++) {
        q = always(&r, 0, 5);
        q->sampling.bias[0].bias = bias[i];
        refuse(&r, q);
    }
    q = always(&r, 0, 5);
    add_bias(q, 5, 1); /* twice */
    refuse(&r, q);
    q = always(&r, 0, 5);
    q->n_stop_tokens = COG_MAX_STOP_TOKENS + 1;
    refuse(&r, q);
    for (int i = 0; i < 2; i++) {
        q = always(&r, 0, 5);
        q->min_tokens = i ? -1 : MAX + 1;
        refuse(&r, q);
    }
    close_rig(&r, 8);
}

/* The answer is to have a token, and each that may be drawn would end it. */
static void a_mask_leaves_a_token(void **state)
{
    const int32_t *eos;
    cog_request *q;
    rig r;

    open_default(&r);
    eos = cog_engine_get_info(r.e)->eos;
    for (int is_fine = 0; is_fine < 2; is_fine++) {
        int32_t word = word_of(&r, "cat");
        bool is_first = eos[0] < word;

        q = always(&r, (uint64_t)is_fine, 5);
        q->min_tokens = 1;
        q->sampling.allowed = cog_array(int32_t, 2);
        q->sampling.allowed[is_first ? 0 : 1] = eos[0];
        q->sampling.allowed[is_first ? 1 : 0] = word;
        q->sampling.n_allowed = 2;
        if (is_fine) {
            assert_int_equal(run(&r, q)->n_tokens[0] >= 1, 1);
        } else {
            q->stop_token[q->n_stop_tokens++] = word;
            refuse(&r, q);
        }
    }
    settled(&r);
    close_rig(&r, 8);
}

/* With an argument only the tests whose names match it. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_token_ends_an_answer),
        cmocka_unit_test(ends_wait_for_the_least_number_of_tokens),
        cmocka_unit_test(stop_strings_wait_as_well),
        cmocka_unit_test(end_tokens_may_end_nothing),
        cmocka_unit_test(only_what_is_allowed_is_drawn),
        cmocka_unit_test(what_could_index_anything_is_refused),
        cmocka_unit_test(a_mask_leaves_a_token),
        cmocka_unit_test(tokens_tell_how_likely_they_were),
        cmocka_unit_test(tokens_without_text_are_not_told),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
