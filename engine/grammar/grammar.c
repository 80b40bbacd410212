#include "engine/grammar/grammar.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "engine/grammar/boxes.h"
#include "engine/grammar/regex.h"
#include "engine/grammar/schema.h"
#include "engine/grammar/without.h"

#include <jansson.h>
#include <string.h>

enum {
    MAX_DEPTH = 16,        /* of recursion, and of json_object's values in each other */
    BUDGET_NS = 150000000, /* of CPU time */
};

static int parse_choice(int32_t *out, cog_exprs *x, const char *text, size_t len, cog_err *err)
{
    json_t *list = json_loadb(text, len, 0, NULL);
    size_t n = json_array_size(list);
    int32_t *way = cog_array(int32_t, n + 1);
    int rc = n > 0 ? 0 : cog_err_set(err, COG_EINVAL, "no list of choices");

    for (size_t i = 0; i < n && rc == 0; i++) {
        const json_t *v = json_array_get(list, i);
        if (json_string_length(v) == 0)
            rc = cog_err_set(err, COG_EINVAL, "a choice is no string, or empty");
        else
            way[i] = cog_expr_bytes(x, json_string_value(v), json_string_length(v));
    }
    if (rc == 0)
        *out = cog_expr_alt(x, way, (int)n);
    cog_free(way);
    json_decref(list);
    return rc;
}

static int parse(int32_t *out, cog_exprs *x, cog_grammar_kind kind, const char *text, size_t len,
                 cog_err *err)
{
    cog_json_parts parts;

    switch (kind) {
    case COG_GRAMMAR_REGEX:
        return cog_regex_parse(out, x, text, len, (cog_regex_options){ 0 }, err);
    case COG_GRAMMAR_CHOICE:
        return parse_choice(out, x, text, len, err);
    case COG_GRAMMAR_SCHEMA:
        return cog_schema_parse(out, x, text, len, err);
    default:
        cog_json_parts_init(&parts, x);
        *out = parts.object;
        return 0;
    }
}

static int compile_without(cog_automaton *out, const char *text, size_t len, cog_err *err)
{
    json_t *list = json_loadb(text, len, 0, NULL);
    size_t n = json_array_size(list);
    cog_without_word word[COG_WITHOUT_MAX_WORDS];
    int rc = 0;

    if (n == 0)
        rc = cog_err_set(err, COG_EINVAL, "no list of words");
    else if (n > COG_WITHOUT_MAX_WORDS)
        rc = cog_err_set(err, COG_ELIMIT, "it has more than %d words", COG_WITHOUT_MAX_WORDS);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const json_t *v = json_array_get(list, i);

        word[i] = (cog_without_word){ json_string_value(v), json_string_length(v) };
        if (word[i].len == 0)
            rc = cog_err_set(err, COG_EINVAL, "a word is no string, or empty");
        else if (word[i].len > COG_WITHOUT_MAX_LEN)
            rc = cog_err_set(err, COG_ELIMIT, "a word has more than %d bytes", COG_WITHOUT_MAX_LEN);
    }
    if (rc == 0)
        cog_without_init(out, word, (int)n);
    json_decref(list);
    return rc;
}

static cog_grammar *new_grammar(void)
{
    cog_grammar *g = cog_new(cog_grammar);

    atomic_init(&g->refs, 1);
    return g;
}

static int compile(cog_grammar *g, cog_grammar_kind kind, const char *text, size_t len,
                   cog_err *err)
{
    uint64_t deadline = cog_nfa_cpu_ns() + BUDGET_NS;
    cog_exprs *x = cog_new(cog_exprs);
    cog_nfa nfa = { 0 };
    int32_t whole = 0;
    int rc = parse(&whole, x, kind, text, len, err);

    if (rc == 0)
        rc = cog_nfa_init(&nfa, x, whole, deadline, err);
    if (rc == 0) /* the outermost object is a level, too */
        rc = cog_automaton_init(&g->automaton, &nfa,
                                kind == COG_GRAMMAR_OBJECT ? MAX_DEPTH - 1 : MAX_DEPTH, deadline,
                                err);
    cog_nfa_fini(&nfa);
    cog_exprs_fini(x);
    cog_free(x);
    return rc;
}

int cog_grammar_new(cog_grammar **out, cog_grammar_kind kind, const char *text, size_t len,
                    cog_err *err)
{
    cog_grammar *g = new_grammar();
    int rc = 0;

    if (kind == COG_GRAMMAR_BOXES) {
        g->has_boxes = true;
        g->automaton.n_classes = COG_BOXES_CLASSES;
        cog_boxes_classes(g->automaton.class_of);
    } else if (len > COG_GRAMMAR_MAX_TEXT) {
        rc = cog_err_set(err, COG_ELIMIT, "it has more than %d bytes", COG_GRAMMAR_MAX_TEXT);
    } else if (kind == COG_GRAMMAR_WITHOUT) {
        rc = compile_without(&g->automaton, text, len, err);
    } else {
        rc = compile(g, kind, text, len, err);
    }
    if (rc == 0)
        *out = g;
    else
        cog_grammar_free(g);
    return rc;
}

cog_grammar *cog_grammar_ref(cog_grammar *g)
{
    if (g)
        atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    return g;
}

void cog_grammar_free(cog_grammar *g)
{
    if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) > 1)
        return;
    cog_automaton_fini(&g->automaton);
    cog_free(g);
}

size_t cog_grammar_bytes(const cog_grammar *g)
{
    return sizeof(*g) + cog_automaton_bytes(&g->automaton);
}
