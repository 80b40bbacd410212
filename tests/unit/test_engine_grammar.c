/* Answers that are held to a grammar, through the whole engine: what comes out is what the grammar
 * takes, whoever else asks, and whatever else a request says of its tokens. */
#include "tests/unit/engine_rig.h"

static void open_with(rig *r, int max_seqs, uint64_t kv_bytes)
{
    cog_engine_config cfg = cog_engine_defaults;

    cfg.max_seqs = max_seqs;
    cfg.step_tokens = 64;
    cfg.kv_bytes = kv_bytes;
    open_rig(r, cfg, 16);
    assert_true(cog_engine_get_info(r->e)->takes_grammars);
}

static cog_grammar *grammar(cog_grammar_kind kind, const char *text)
{
    cog_grammar *g;
    cog_err err;

    if (cog_grammar_new(&g, kind, text, strlen(text), &err) < 0)
        fail_msg("%s", err.text);
    return g;
}

/* Takes g; hot, so that without a grammar anything would come. */
static cog_request *held_to(rig *r, uint64_t id, cog_grammar *g)
{
    cog_request *q = make_request(r, id, "what is this", false, 0);

    q->grammar = g;
    q->sampling.temperature = 1.5f;
    q->max_tokens = 30;
    return q;
}

static const char *text_of(const outcome *o, int choice)
{
    return o->text[choice].data ? o->text[choice].data : "";
}

static bool is_number(const char *text, int digits)
{
    return (int)strlen(text) == digits && (int)strspn(text, "0123456789") == digits;
}

static void answers_hold_to_their_grammar(void **state)
{
    const outcome *o;
    cog_request *q;
    rig r;

    (void)state;
    open_with(&r, 4, 0);
    o = run(&r, held_to(&r, 0, grammar(COG_GRAMMAR_REGEX, "[0-9]{7}")));
    assert_true(is_number(text_of(o, 0), 7));
    assert_int_equal(o->finish[0], COG_FINISH_STOP);
    assert_int_equal(o->stop_token[0], -1);

    o = run(&r, held_to(&r, 1, grammar(COG_GRAMMAR_CHOICE, "[\"a dog\",\" a \\u00e9 cat\"]")));
    assert_true(strcmp(text_of(o, 0), "a dog") == 0 || strcmp(text_of(o, 0), " a é cat") == 0);

    q = held_to(&r, 2, grammar(COG_GRAMMAR_REGEX, "[0-9]+")); /* the length ends it */
    q->ignore_eos = true;
    o = run(&r, q);
    assert_int_equal(o->finish[0], COG_FINISH_LENGTH);
    assert_int_equal(o->n_tokens[0], 30);
    assert_true(is_number(text_of(o, 0), (int)o->text[0].len));
    settled(&r);
    close_rig(&r, 16);
}

/* Of the commonest letters none is left, wherever in a token it stands; with an end to draw or
 * none, alone and in company. */
static void words_do_not_come_up(void **state)
{
    static const char *const words[] = { "e", "a", "th" };
    cog_grammar *g = grammar(COG_GRAMMAR_WITHOUT, "[\"e\",\"a\",\"th\"]");
    int n_found = 0;
    rig r;

    (void)state;
    open_with(&r, 4, 0);
    for (uint64_t id = 0; id < 8; id++) {
        cog_request *q = held_to(&r, id, id % 2 ? cog_grammar_ref(g) : NULL);

        q->ignore_eos = true;
        q->n = 1 + (int)id % CHOICES;
        submit(&r, q);
    }
    wait_for(&r, 8);
    for (int id = 0; id < 8; id++) {
        for (int c = 0; c < 1 + id % CHOICES; c++) {
            assert_int_equal(r.out[id].n_tokens[c], 30);
            for (int w = 0; w < 3; w++) {
                bool is_there = strstr(text_of(&r.out[id], c), words[w]) != NULL;
                if (id % 2)
                    assert_false(is_there);
                n_found += is_there;
            }
        }
    }
    assert_true(n_found > 2); /* where nothing is said */
    settled(&r);
    close_rig(&r, 16);
    cog_grammar_free(g);
}

static int32_t first_token(rig *r, const char *text)
{
    int32_t *ids, first;
    cog_err err;
    int n;

    assert_int_equal(cog_engine_tokenize(&ids, &n, r->e, text, strlen(text), &err), 0);
    assert_true(n > 0);
    first = ids[0];
    cog_free(ids);
    return first;
}

/* A text that goes on after its prompt keeps the space that it begins with: it counts. */
static void a_text_that_goes_on_is_held_from_its_space_on(void **state)
{
    rig r;

    (void)state;
    open_with(&r, 4, 0);
    for (uint64_t id = 0; id < 6; id++) {
        cog_request *q =
            held_to(&r, id, grammar(COG_GRAMMAR_REGEX, id % 2 ? " ?[a-z]{3}" : "[a-z]{3}"));
        const char *text;

        q->continues_prompt = true;
        if (id % 2) {
            q->sampling.bias = cog_array(cog_logit_bias, 1); /* " cat" */
            q->sampling.bias[0] = (cog_logit_bias){ first_token(&r, "cat"), 100 };
            q->sampling.n_bias = 1;
        }
        text = text_of(run(&r, q), 0);
        assert_int_equal(strspn(text, "abcdefghijklmnopqrstuvwxyz"), id % 2 ? 0 : 3);
        assert_int_equal(strlen(text), id % 2 ? 4 : 3);
    }
    settled(&r);
    close_rig(&r, 16);
}

/* Each choice is followed by itself; equal ones are computed once. */
static void choices_are_followed_apart(void **state)
{
    const outcome *o;
    cog_request *q;
    rig r;

    (void)state;
    open_with(&r, 4, 0);
    for (uint64_t id = 0; id < 2; id++) {
        q = held_to(&r, id, grammar(COG_GRAMMAR_REGEX, "[0-9]{5}|[a-z]{6}"));
        q->n = 3;
        q->sampling.temperature = id ? 0 : 1.5f;
        o = run(&r, q);
        for (int c = 0; c < 3; c++)
            assert_true(is_number(text_of(o, c), 5) || o->text[c].len == 6);
        assert_true((strcmp(text_of(o, 0), text_of(o, 1)) == 0) == (id == 1));
    }
    settled(&r);
    close_rig(&r, 16);
}

/* What else a request may say does not leave a draw without a token. */
static void other_wishes_give_way(void **state)
{
    const outcome *o;
    cog_request *q;
    rig r;

    (void)state;
    open_with(&r, 4, 0);
    q = held_to(&r, 0, grammar(COG_GRAMMAR_REGEX, "[0-9]{4}"));
    q->min_tokens = 20;
    o = run(&r, q);
    assert_true(is_number(text_of(o, 0), 4));

    q = held_to(&r, 1, grammar(COG_GRAMMAR_REGEX, "[0-9]{2,9}")); /* and waits where it can */
    q->min_tokens = 9;
    o = run(&r, q);
    assert_true(o->text[0].len >= 8);

    q = held_to(&r, 2, grammar(COG_GRAMMAR_REGEX, "[0-9]{4}")); /* a stop string still counts */
    q->stop[q->n_stop++] = cog_strdup("7");
    q->sampling.bias = cog_array(cog_logit_bias, 1);
    q->sampling.bias[0] = (cog_logit_bias){ 3 + '7', 100 };
    q->sampling.n_bias = 1;
    o = run(&r, q);
    assert_int_equal(o->text[0].len, 0);
    assert_int_equal(o->stop[0], 0);
    settled(&r);
    close_rig(&r, 16);
}

static void the_same_in_any_company(void **state)
{
    static const char *const sources[] = { "[0-9]{7}", "[a-z ]{9}", "(yes|no)( [a-z]{3}){3}" };
    cog_grammar *g[3];
    rig alone, small;

    (void)state;
    for (int i = 0; i < 3; i++)
        g[i] = grammar(COG_GRAMMAR_REGEX, sources[i]);
    open_with(&alone, 1, 0);
    for (uint64_t id = 0; id < 9; id++)
        run(&alone, held_to(&alone, id, cog_grammar_ref(g[id % 3])));
    settled(&alone);
    open_with(&small, 8, 0);
    for (uint64_t id = 0; id < 9; id++)
        submit(&small, held_to(&small, id, cog_grammar_ref(g[id % 3])));
    wait_for(&small, 9);
    for (int id = 0; id < 9; id++)
        assert_string_equal(text_of(&alone.out[id], 0), text_of(&small.out[id], 0));
    settled(&small);
    close_rig(&small, 16);
    close_rig(&alone, 16);
    for (int i = 0; i < 3; i++)
        cog_grammar_free(g[i]);
}

/* The engine says so, and goes on. */
static void a_grammar_too_ambiguous_ends_its_request(void **state)
{
    cog_buf s = { 0 };
    cog_request *q;
    rig r;

    (void)state;
    cog_buf_puts(&s, "{\"$ref\":\"#/$defs/a0\",\"$defs\":{");
    for (int i = 0; i < 12; i++)
        cog_buf_printf(
            &s,
            "\"a%d\":{\"anyOf\":[{\"prefixItems\":[{\"$ref\":\"#/$defs/b%d\"},{\"const\":1}],"
            "\"minItems\":2},{\"prefixItems\":[{\"$ref\":\"#/$defs/c%d\"},{\"const\":2}],"
            "\"minItems\":2}]},\"b%d\":{\"prefixItems\":[{\"$ref\":\"#/$defs/a%d\"}],"
            "\"minItems\":1},\"c%d\":{\"prefixItems\":[{\"$ref\":\"#/$defs/a%d\"}],"
            "\"minItems\":1},",
            i, i, i, i, i + 1, i, i + 1);
    cog_buf_puts(&s, "\"a12\":{\"const\":1}}}");
    open_with(&r, 4, 0);
    q = held_to(&r, 0, grammar(COG_GRAMMAR_SCHEMA, s.data));
    submit(&r, q);
    wait_for(&r, 1);
    assert_int_equal(r.out[0].status, COG_ELIMIT);
    assert_int_equal(r.out[0].n_finish[0], 0);
    assert_true(
        is_number(text_of(run(&r, held_to(&r, 1, grammar(COG_GRAMMAR_REGEX, "[0-9]{3}"))), 0), 3));
    settled(&r);
    close_rig(&r, 16);
    cog_buf_fini(&s);
}

static void what_does_not_fit_together_is_refused(void **state)
{
    cog_request *q;
    cog_err err;
    rig r;

    (void)state;
    open_with(&r, 4, 0);
    q = held_to(&r, 0, grammar(COG_GRAMMAR_REGEX, "a"));
    q->sampling.allowed = cog_array(int32_t, 1);
    q->sampling.allowed[0] = 5;
    q->sampling.n_allowed = 1;
    assert_int_equal(cog_engine_submit(r.e, q, &err), COG_EINVAL);
    cog_request_free(q);
    close_rig(&r, 16);
}

/* With an argument only the tests whose names match it. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_hold_to_their_grammar),
        cmocka_unit_test(words_do_not_come_up),
        cmocka_unit_test(a_text_that_goes_on_is_held_from_its_space_on),
        cmocka_unit_test(choices_are_followed_apart),
        cmocka_unit_test(other_wishes_give_way),
        cmocka_unit_test(the_same_in_any_company),
        cmocka_unit_test(a_grammar_too_ambiguous_ends_its_request),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
