/* Grammars: what they take and refuse, against texts given here, against a matcher that goes back
 * (for random regular expressions), and their masks against trying every token. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/rng.h"
#include "engine/grammar/matcher.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ------------------------------------------------------------------ a vocabulary */

enum { N_BYTES = 256, FIRST_PIECE = N_BYTES + 2, EOS = N_BYTES, NOTHING = N_BYTES + 1 };

static const char *const pieces[] = {
    "a",   "ab",   "b",    "abc", "ba",   " ",      "  ", "\"", "\":",  "\", \"", "{\"",  "\"}",
    "}}",  "]}",   "],",   "[[",  "true", "rue",    "tr", "12", "0",    ".5",     "1e",   "null",
    ", ",  ": \"", "\\n",  "\\u", "\n",   "\n  ",   "é",  "éa", "\xc3", "\xa9",   " {\"", " yes",
    "yes", " no",  "name", "na",  "me\"", "\"name", "}",  "{",  "[1,",  "-1",     "e",    "\"a\"",
};

enum { N_PIECES = sizeof(pieces) / sizeof(pieces[0]), VOCAB = FIRST_PIECE + N_PIECES };

static const char *piece_of(const void *arg, int32_t token, size_t *len)
{
    static char bytes[N_BYTES];

    (void)arg;
    if (token < N_BYTES) {
        bytes[token] = (char)token;
        *len = 1;
        return &bytes[token];
    }
    if (token < FIRST_PIECE) { /* the end, and a token that is nothing */
        *len = 0;
        return "";
    }
    *len = strlen(pieces[token - FIRST_PIECE]);
    return pieces[token - FIRST_PIECE];
}

static cog_trie *vocabulary(void)
{
    static const int32_t eos = EOS;

    return cog_trie_new(piece_of, NULL, VOCAB, &eos, 1);
}

typedef struct bench {
    cog_trie *trie;
    cog_grammar *grammar;
    cog_matcher *m;
} bench;

static void open_bench(bench *b, cog_grammar_kind kind, const char *text)
{
    cog_err err = { 0 };

    b->trie = vocabulary();
    if (cog_grammar_new(&b->grammar, kind, text, strlen(text), &err) < 0)
        fail_msg("%s: %s", text, err.text);
    b->m = cog_matcher_new(b->grammar, b->trie);
}

static void close_bench(bench *b)
{
    cog_matcher_free(b->m);
    cog_grammar_free(b->grammar);
    cog_trie_free(b->trie);
}

static bool takes(bench *b, const char *text)
{
    int32_t at = cog_matcher_text(b->m, cog_matcher_start(b->m), text, strlen(text));

    assert_true(at >= COG_MATCHER_NOWHERE);
    return at >= 0 && cog_matcher_may_end(b->m, at);
}

/* Texts that end with NULL: those it takes, then those it does not. */
static void check(cog_grammar_kind kind, const char *source, const char *const *yes,
                  const char *const *no)
{
    bench b;

    open_bench(&b, kind, source);
    for (; *yes; yes++)
        if (!takes(&b, *yes))
            fail_msg("%s does not take %s", source, *yes);
    for (; *no; no++)
        if (takes(&b, *no))
            fail_msg("%s takes %s", source, *no);
    close_bench(&b);
}

#define LIST(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void check_refused(cog_grammar_kind kind, const char *source, int rc, const char *why)
{
    cog_grammar *g = NULL;
    cog_err err = { 0 };
    int got = cog_grammar_new(&g, kind, source, strlen(source), &err);

    if (got != rc || !strstr(err.text, why))
        fail_msg("%.200s: %d, %s", source, got, err.text);
    assert_null(g);
}

/* ------------------------------------------------------------------ regular expressions */

static void expressions_take_what_they_say(void **state)
{
    const cog_grammar_kind re = COG_GRAMMAR_REGEX;

    (void)state;
    check(re, "yes|no", LIST("yes", "no"), LIST("", "ye", "yesno", "yes "));
    check(re, "a{2,3}b?", LIST("aa", "aaab", "aab"), LIST("a", "ab", "aaaa", "aabb"));
    check(re, "(ab)+?c*", LIST("ab", "abab", "ababcc"), LIST("", "aba", "c"));
    check(re, "[a-c]{2}", LIST("ac", "bb"), LIST("ad", "a", "abc"));
    check(re, "[^a-c\\n]", LIST("d", "é", "\xf0\x9f\xa6\x99"), LIST("a", "\n", "de", "\xc3"));
    check(re, "[]-]x", LIST("]x", "-x"), LIST("ax"));
    check(re, ".", LIST("x", "é"), LIST("\n", "", "xy"));
    check(re, "\\d{3}-\\w+\\s", LIST("123-a_Z ", "007-x\t"), LIST("12-a ", "123-a"));
    check(re, "\\D\\W\\S", LIST("a b", "é-é"), LIST("1 b", "aab", "a  "));
    check(re, "\\x41\\u00e9\\u{1f999}\\.\\n", LIST("Aé🦙.\n"), LIST("Aé🦙x\n"));
    check(re, "^a|b$", LIST("a", "b"), LIST("ab", "ax", "xb"));
    check(re, "(?:a|(?P<n>b))(?<m>c)", LIST("ac", "bc"), LIST("c", "ab"));
    check(re, "a{,2}b{x}", LIST("b{x}", "aab{x}"), LIST("a{,2}b{x}", "aaab{x}"));
    check(re, "[é-ü]+", LIST("é", "üö"), LIST("e", "ÿ"));
    check(re, "", LIST(""), LIST("a"));
    check(re, "(a*)*b", LIST("b", "aaab"), LIST("a", "ba"));
}

static void expressions_outside_the_subset_are_named(void **state)
{
    const cog_grammar_kind re = COG_GRAMMAR_REGEX;

    (void)state;
    check_refused(re, "(a", COG_EINVAL, "parenthesis");
    check_refused(re, "a)", COG_EINVAL, "closes no group");
    check_refused(re, "[a", COG_EINVAL, "bracket");
    check_refused(re, "*a", COG_EINVAL, "nothing");
    check_refused(re, "a**", COG_EINVAL, "follows another");
    check_refused(re, "a++", COG_EINVAL, "follows another");
    check_refused(re, "a{3,2}", COG_EINVAL, "ends before");
    check_refused(re, "[b-a]", COG_EINVAL, "range");
    check_refused(re, "(a)\\1", COG_EINVAL, "\\1");
    check_refused(re, "a\\b", COG_EINVAL, "\\b");
    check_refused(re, "(?=a)", COG_EINVAL, "look-around");
    check_refused(re, "(?i)a", COG_EINVAL, "look-around");
    check_refused(re, "a^b", COG_EINVAL, "anchor");
    check_refused(re, "\\ud800", COG_EINVAL, "no text");
    check_refused(re, "a\\", COG_EINVAL, "backslash");
    check_refused(re, "\xff", COG_EINVAL, "UTF-8");
    check_refused(re, "a{200000}", COG_ELIMIT, "count");
    check_refused(re, "[^\\x01-\\u{10ffff}]", COG_EINVAL, "no text satisfies");
}

/* ---- random expressions, and a matcher that tries everything ---- */

typedef struct node {
    char kind; /* 'c' a set, '.' one after the other, '|' either, '*' min to max times, 'e' empty */
    unsigned set; /* bits of a, b, c, d */
    int min, max; /* max < 0: any number */
    struct node *left, *right;
} node;

static node *random_node(cog_rng *rng, cog_buf *text, int depth)
{
    static const char letters[] = "abcd";
    node *n = cog_new(node);
    unsigned what = depth == 0 ? 0 : (unsigned)cog_rng_below(rng, 7);

    if (what < 2) {
        n->kind = 'c';
        n->set = 1 + (unsigned)cog_rng_below(rng, 15);
        cog_buf_puts(text, "[");
        for (int i = 0; i < 4; i++)
            if (n->set >> i & 1)
                cog_buf_add(text, &letters[i], 1);
        cog_buf_puts(text, "]");
    } else if (what < 4) {
        n->kind = '.';
        n->left = random_node(rng, text, depth - 1);
        n->right = random_node(rng, text, depth - 1);
    } else if (what < 5) {
        n->kind = '|';
        cog_buf_puts(text, "(?:");
        n->left = random_node(rng, text, depth - 1);
        cog_buf_puts(text, "|");
        n->right = random_node(rng, text, depth - 1);
        cog_buf_puts(text, ")");
    } else {
        n->kind = '*';
        n->min = (int)cog_rng_below(rng, 3);
        n->max = cog_rng_below(rng, 2) ? -1 : n->min + (int)cog_rng_below(rng, 3);
        cog_buf_puts(text, "(?:");
        n->left = random_node(rng, text, depth - 1);
        cog_buf_printf(text, n->max < 0 ? "){%d,}" : "){%d,%d}", n->min, n->max);
    }
    return n;
}

static void free_node(node *n)
{
    if (!n)
        return;
    free_node(n->left);
    free_node(n->right);
    cog_free(n);
}

/* Where a match that begins at one of the positions may end; bit i: at i. */
static unsigned ends(const node *n, const char *text, unsigned from)
{
    unsigned to = 0, here = from;

    switch (n->kind) {
    case 'c':
        for (int i = 0; text[i]; i++)
            if (from >> i & 1 && n->set >> (text[i] - 'a') & 1)
                to |= 2u << i;
        return to;
    case '.':
        return ends(n->right, text, ends(n->left, text, from));
    case '|':
        return ends(n->left, text, from) | ends(n->right, text, from);
    default:
        for (int i = 0; i < n->min; i++)
            here = ends(n->left, text, here);
        to = here;
        for (int i = n->min; here && (n->max < 0 ? i < n->min + 16 : i < n->max); i++) {
            here = ends(n->left, text, here);
            to |= here;
        }
        return to;
    }
}

static void random_expressions_agree_with_a_search(void **state)
{
    cog_rng rng = { .key = 5 };
    int n_yes = 0, n_no = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        cog_buf source = { 0 };
        node *n = random_node(&rng, &source, 4);
        bench b;

        open_bench(&b, COG_GRAMMAR_REGEX, source.data);
        for (int k = 0; k < 60; k++) {
            char text[12] = { 0 };
            int len = (int)cog_rng_below(&rng, 11);
            bool want;

            for (int at = 0; at < len; at++)
                text[at] = (char)('a' + cog_rng_below(&rng, 4));
            want = ends(n, text, 1) >> len & 1;
            if (takes(&b, text) != want)
                fail_msg("%s: '%s' is %d", source.data, text, want);
            n_yes += want;
            n_no += !want;
        }
        close_bench(&b);
        free_node(n);
        cog_buf_fini(&source);
    }
    assert_true(n_yes > 5000 && n_no > 5000);
}

/* ------------------------------------------------------------------ words that may not come */

static void words_do_not_come_up(void **state)
{
    (void)state;
    check(COG_GRAMMAR_WITHOUT, "[\"cat\",\"at a\",\" b\"]",
          LIST("", "ca", "a t", "Cat", "cacactat", "at", "at\xc3\xa9"),
          LIST("cat", "concatenate", "at a", "a b"));
    check(COG_GRAMMAR_WITHOUT, "[\"\xc3\xa9\",\"aa\"]", LIST("\xc3", "\xc3\xa8", "aba", "\xff"),
          LIST("\xc3\xa9", "aa", "b\xc3\xa9"));
    check_refused(COG_GRAMMAR_WITHOUT, "[]", COG_EINVAL, "no list");
    check_refused(COG_GRAMMAR_WITHOUT, "[\"a\",\"\"]", COG_EINVAL, "empty");
    check_refused(COG_GRAMMAR_WITHOUT, "[\"a\",7]", COG_EINVAL, "no string");
}

/* Of letters few enough that words are parts of each other, and begin where others end. */
static void random_words_agree_with_a_search(void **state)
{
    cog_rng rng = { .key = 6 };
    int n_yes = 0, n_no = 0;

    (void)state;
    for (int i = 0; i < 300; i++) {
        int n = 1 + (int)cog_rng_below(&rng, 6);
        char word[6][6] = { { 0 } };
        cog_buf source = { 0 };
        bench b;

        for (int w = 0; w < n; w++) {
            int len = 1 + (int)cog_rng_below(&rng, 5);
            for (int at = 0; at < len; at++)
                word[w][at] = (char)('a' + cog_rng_below(&rng, 3));
            cog_buf_printf(&source, "%s\"%s\"", w ? "," : "[", word[w]);
        }
        cog_buf_puts(&source, "]");
        open_bench(&b, COG_GRAMMAR_WITHOUT, source.data);
        for (int k = 0; k < 60; k++) {
            char text[12] = { 0 };
            int len = (int)cog_rng_below(&rng, 11);
            bool want = true;

            for (int at = 0; at < len; at++)
                text[at] = (char)('a' + cog_rng_below(&rng, 3));
            for (int w = 0; w < n; w++)
                want &= !strstr(text, word[w]);
            if (takes(&b, text) != want)
                fail_msg("%s: '%s' is %d", source.data, text, want);
            n_yes += want;
            n_no += !want;
        }
        close_bench(&b);
        cog_buf_fini(&source);
    }
    assert_true(n_yes > 2000 && n_no > 2000);
}

/* ------------------------------------------------------------------ schemas */

static void schemas_take_what_is_valid(void **state)
{
    const cog_grammar_kind s = COG_GRAMMAR_SCHEMA;

    (void)state;
    check(s, "{\"type\":\"integer\"}", LIST("0", "-12", "123456789012345678"),
          LIST("-0", "01", "1.0", "1234567890123456789", "", "\"1\""));
    check(s, "{\"type\":\"number\"}", LIST("0", "-1.5", "1e9", "2.5E-3"),
          LIST("01", "1.", ".5", "1e", "+1"));
    check(s, "{\"type\":[\"boolean\",\"null\"]}", LIST("true", "false", "null"), LIST("nul", "1"));
    check(s, "{\"type\":\"string\",\"maxLength\":2,\"minLength\":1}",
          LIST("\"a\"", "\"éa\"", "\"\\n\\u00e9\"", "\"\\ud83e\\udd99a\""),
          LIST("\"\"", "\"abc\"", "\"\\ud83e\"", "\"\n\"", "\"\\u0000\"", "\"a"));
    check(s, "{\"type\":\"string\",\"pattern\":\"^a.b$\"}",
          LIST("\"axb\"", "\"a\\\"b\"", "\"a\\tb\"", "\"a\\u0001b\""),
          LIST("\"a\"b\"", "\"ab\"", "\"xaxb\"", "\"a\\nb\""));
    check(s, "{\"pattern\":\"b\"}", LIST("\"abc\"", "\"b\"", "\"b\\n\""), LIST("\"ac\"", "\"\""));
    check(s, "{\"type\":\"integer\",\"minimum\":-5,\"maximum\":123}",
          LIST("-5", "-1", "0", "9", "10", "99", "100", "123"),
          LIST("-6", "124", "-0", "1000", "05", "200"));
    check(s, "{\"minimum\":98,\"type\":\"integer\"}", LIST("98", "99", "100", "5000"),
          LIST("97", "0", "-98"));
    check(s, "{\"maximum\":-7.5,\"type\":\"integer\"}", LIST("-8", "-10", "-100"), LIST("-7", "0"));
    check(s, "{\"enum\":[\"a\\\"b\",1,null,[1,{\"k\":0.1}],2.0]}",
          LIST("\"a\\\"b\"", "1", "null", "[1, {\"k\": 0.1}]", "2.0"), LIST("2", "a", "[1]"));
    check(s, "{\"type\":\"string\",\"enum\":[\"x\",1]}", LIST("\"x\""), LIST("1"));
    check(s, "{\"const\":\"x\"}", LIST("\"x\""), LIST("x"));
    check(s, "{\"format\":\"date\"}", LIST("\"2024-02-29\"", "\"2023-12-31\""),
          LIST("\"2023-02-29\"", "\"1900-02-29\"", "\"2023-04-31\"", "\"0000-01-01\""));
    check(s, "{\"format\":\"date-time\"}",
          LIST("\"2000-02-29T23:59:59.5Z\"", "\"2001-01-01T00:00:00+01:30\""),
          LIST("\"2001-01-01\"", "\"2001-01-01T24:00:00Z\""));
    check(s, "{\"format\":\"uuid\"}", LIST("\"01234567-89ab-cdef-0123-456789abcdef\""),
          LIST("\"0123\""));
    check(s, "{\"anyOf\":[{\"type\":\"integer\"},{\"allOf\":[{\"type\":\"null\"}]}]}",
          LIST("1", "null"), LIST("\"\""));
    check(s, "{}", LIST("1", "\"x\"", "{\"a\":[1,{}]}", "[]", "null"), LIST("", "{]", "tru"));
    check(s, "{\"type\":\"object\"}", LIST("{}", "{\"a\": 1, \"b\":{}}"), LIST("[]", "{\"a\"}"));
}

static void objects_and_arrays_are_in_order(void **state)
{
    const cog_grammar_kind s = COG_GRAMMAR_SCHEMA;

    (void)state;
    check(s,
          "{\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"null\"},"
          "\"c\":{\"type\":\"boolean\"}},\"required\":[\"b\"]}",
          LIST("{\"b\":null}", "{ \"a\": 1, \"b\": null }", "{\"a\":1,\"b\":null,\"c\":true}",
               "{\n  \"b\": null,\n  \"c\": false\n}"),
          LIST("{}", "{\"a\":1}", "{\"b\":null,\"a\":1}", "{\"b\":null,}", "{,\"b\":null}",
               "{\"b\":null,\"d\":1}", "{  \"b\":null}"));
    check(s, "{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2}}}",
          LIST("{}", "{\"a\":1}", "{\"b\":2}", "{\"a\":1,\"b\":2}"), LIST("{\"b\":2,\"a\":1}"));
    check(s,
          "{\"properties\":{\"ab\":{\"const\":1},\"aé\":{\"const\":2}},"
          "\"additionalProperties\":{\"type\":\"null\"}}",
          LIST("{\"ab\":1,\"x\":null}", "{\"a\":null,\"abc\":null}", "{\"\":null}", "{\"aé\":2}",
               "{\"ac\":null}"),
          LIST("{\"ab\":null}", "{\"aé\":null}", "{\"x\":1}", "{\"\\u0061b\":null}",
               "{\"x\":null,\"ab\":1}"));
    check(s, "{\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":3}",
          LIST("[1]", "[1, 2,3]"), LIST("[]", "[1,2,3,4]", "[1,]", "[\"\"]"));
    check(s, "{\"maxItems\":0}", LIST("[]", "[ ]"), LIST("[1]"));
    check(s,
          "{\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},\"minItems\":1,"
          "\"maxItems\":4}",
          LIST("[1]", "[1,2]", "[1,2,3,3]"), LIST("[]", "[2]", "[1,3]", "[1,2,3,3,3]"));
    check(s, "{\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":false}",
          LIST("[]", "[1]", "[1,2]"), LIST("[1,2,3]"));
}

static void recursion_ends_in_time(void **state)
{
    static const char tree[] = "{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"properties\":{"
                               "\"c\":{\"items\":{\"$ref\":\"#/$defs/t\"}}}}}}";
    cog_buf deep[2] = { { 0 }, { 0 } };

    (void)state;
    check(COG_GRAMMAR_SCHEMA, tree, LIST("{}", "{\"c\":[]}", "{\"c\":[{},{\"c\":[{}]}]}"),
          LIST("[]", "{\"c\":[1]}"));
    for (int levels = 16; levels <= 17; levels++) {
        cog_buf *b = &deep[levels - 16];
        for (int i = 1; i < levels; i++)
            cog_buf_puts(b, "{\"a\":");
        cog_buf_puts(b, "{}");
        for (int i = 1; i < levels; i++)
            cog_buf_puts(b, "}");
    }
    check(COG_GRAMMAR_OBJECT, "", LIST("{}", "{\"a\":[1,true,\"x\"]}", deep[0].data),
          LIST("[]", "1", "{\"a\":[}", deep[1].data));
    cog_buf_fini(&deep[0]);
    cog_buf_fini(&deep[1]);
}

/* A list is not begun where there is no depth left for the item that it must have. */
static void what_could_not_be_finished_is_not_begun(void **state)
{
    static const char open[] = "[[[[[[[[[[[[[[[[[", close[] = "]]]]]]]]]]]]]]]]";
    int32_t at;
    bench b;

    (void)state;
    open_bench(&b, COG_GRAMMAR_SCHEMA,
               "{\"anyOf\":[{\"const\":1},{\"items\":{\"$ref\":\"#\"},\"minItems\":1}]}");
    at = cog_matcher_text(b.m, cog_matcher_start(b.m), open, 16);
    assert_true(at >= 0);
    assert_int_equal(cog_matcher_step(b.m, at, '['), COG_MATCHER_NOWHERE);
    at = cog_matcher_step(b.m, at, '1');
    assert_true(at >= 0);
    at = cog_matcher_text(b.m, at, close, 16);
    assert_true(at >= 0 && cog_matcher_may_end(b.m, at));
    close_bench(&b);
}

static void schemas_outside_the_subset_are_named(void **state)
{
    const cog_grammar_kind s = COG_GRAMMAR_SCHEMA;

    (void)state;
    check_refused(s, "{", COG_EINVAL, "not valid JSON");
    check_refused(s, "7", COG_EINVAL, "no object");
    check_refused(s, "false", COG_EINVAL, "no object");
    check_refused(s, "{\"not\":{}}", COG_EINVAL, "'not'");
    check_refused(s, "{\"type\":\"thing\"}", COG_EINVAL, "'type'");
    check_refused(s, "{\"type\":[]}", COG_EINVAL, "'type'");
    check_refused(s, "{\"multipleOf\":2}", COG_EINVAL, "'multipleOf'");
    check_refused(s, "{\"type\":\"number\",\"minimum\":2}", COG_EINVAL, "'minimum'");
    check_refused(s, "{\"minimum\":3,\"maximum\":2}", COG_EINVAL, "no integer");
    check_refused(s, "{\"minLength\":-1}", COG_EINVAL, "'minLength'");
    check_refused(s, "{\"minLength\":3,\"maxLength\":2}", COG_EINVAL, "'maxLength'");
    check_refused(s, "{\"pattern\":\"(\"}", COG_EINVAL, "'pattern'");
    check_refused(s, "{\"pattern\":\"a\",\"minLength\":2}", COG_EINVAL, "'pattern'");
    check_refused(s, "{\"format\":\"email\"}", COG_EINVAL, "'format'");
    check_refused(s, "{\"enum\":[]}", COG_EINVAL, "'enum'");
    check_refused(s, "{\"enum\":[1],\"minimum\":1}", COG_EINVAL, "'minimum' beside 'enum'");
    check_refused(s, "{\"anyOf\":[{}],\"type\":\"null\"}", COG_EINVAL, "'type' beside 'anyOf'");
    check_refused(s, "{\"allOf\":[{},{}]}", COG_EINVAL, "'allOf'");
    check_refused(s, "{\"$ref\":\"#/x\"}", COG_EINVAL, "'$ref'");
    check_refused(s, "{\"$ref\":\"http://x/\"}", COG_EINVAL, "'$ref'");
    check_refused(s, "{\"properties\":{},\"required\":[\"q\"]}", COG_EINVAL, "'q'");
    check_refused(s, "{\"$ref\":\"#\"}", COG_EINVAL, "no text satisfies");
    check_refused(s, "{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", COG_EINVAL,
                  "no text satisfies");
    check_refused(COG_GRAMMAR_CHOICE, "[]", COG_EINVAL, "choices");
    check_refused(COG_GRAMMAR_CHOICE, "[\"\"]", COG_EINVAL, "choice");
}

/* ------------------------------------------------------------------ boxes */

static void boxes_stand_in_free_text(void **state)
{
    (void)state;
    check(COG_GRAMMAR_BOXES, "",
          LIST("", "a dog", "a [dog] é \xff ]]", "[", "[ [", "[[000,000,000,000]]",
               "a dog [[100,200,301,999]] [x [[001,002,001,003;000,999,999,999]]]",
               "[[010,020,030,040]][[010,020,030,040]]["),
          LIST("[[", "[[ 000,000,000,000]]", "[[00,000,000,000]]", "[[0000,000,000,000]]",
               "[[000,000,000]]", "[[000,000,000,000,000]]", "[[000,000,000,000]",
               "[[000,000,000,000] ]", "[[000,000,000,000;]]", "[[;000,000,000,000]]", "[[]]",
               "[[[000,000,000,000]]", "[[000;000,000,000]]", "a [[100,200,301,999", "[[a]]"));
}

static int near(cog_rng *rng, int value)
{
    static const int steps[] = { -100, -11, -10, -1, 0, 1, 10, 99 };
    int near_by = value + steps[cog_rng_below(rng, 8)];

    return near_by < 0 || near_by > 999 ? value : near_by;
}

static void corners_are_in_order(void **state)
{
    cog_rng rng = { .key = 8 };
    int n_yes = 0;
    bench b;

    (void)state;
    open_bench(&b, COG_GRAMMAR_BOXES, "");
    for (int i = 0; i < 20000; i++) {
        int x0 = (int)cog_rng_below(&rng, 1000), y0 = (int)cog_rng_below(&rng, 1000);
        int x1 = near(&rng, x0), y1 = near(&rng, y0);
        bool want = x0 <= x1 && y0 <= y1;
        char text[48];

        snprintf(text, sizeof(text), "[[%03d,%03d,%03d,%03d]]", x0, y0, x1, y1);
        if (takes(&b, text) != want)
            fail_msg("%s: %d", text, want);
        n_yes += want;
        cog_matcher_tidy(b.m);
    }
    assert_in_range(n_yes, 5000, 15000);
    close_bench(&b);
}

/* ------------------------------------------------------------------ masks */

static const struct {
    cog_grammar_kind kind;
    const char *text;
} grammars[] = {
    { COG_GRAMMAR_REGEX, "(ab|a)*c?" },
    { COG_GRAMMAR_REGEX, "[é]+ ?(yes|no)" },
    { COG_GRAMMAR_REGEX, " +a" },
    { COG_GRAMMAR_CHOICE, "[\"yes\",\"yes sir\",\" no\"]" },
    { COG_GRAMMAR_OBJECT, "" },
    { COG_GRAMMAR_BOXES, "" },
    { COG_GRAMMAR_WITHOUT, "[\"ab\",\"\xc3\xa9\",\" no\",\"name\"]" },
    { COG_GRAMMAR_SCHEMA, "{\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":3},"
                          "\"x\":{\"type\":\"array\"}},\"required\":[\"name\"]}" },
    { COG_GRAMMAR_SCHEMA, "{\"anyOf\":[{\"$ref\":\"#/$defs/a\"},{\"items\":{\"$ref\":\"#\"}}],"
                          "\"$defs\":{\"a\":{\"enum\":[true,12,\"name\"]}}}" },
};

static bool is_set(const uint64_t *mask, int32_t token)
{
    return mask[token / 64] >> (token % 64) & 1;
}

/* A mask is what trying every token says. Returns how many may come. */
static int check_mask(bench *b, const uint64_t *mask, int32_t at, bool is_first)
{
    int n = 0;

    for (int32_t token = 0; token < VOCAB; token++) {
        size_t len;
        const char *bytes = piece_of(NULL, token, &len);
        bool want = token == EOS && cog_matcher_may_end(b->m, at);

        if (len > 0 && is_first && bytes[0] == ' ') {
            bytes++;
            len--;
            want = len == 0;
        }
        if (len > 0)
            want = cog_matcher_text(b->m, at, bytes, len) >= 0;
        if (is_set(mask, token) != want)
            fail_msg("token %d '%.*s': %d", token, (int)len, bytes, want);
        n += want;
    }
    return n;
}

/* Answers of random tokens: there is always one to draw, and what may end is taken as a whole. */
static void walk_at_random(bench *b, cog_rng *rng)
{
    int32_t at = cog_matcher_start(b->m);
    cog_buf text = { 0 };
    bool is_first = true;

    cog_buf_puts(&text, "");
    for (int step = 0; step < 60; step++) {
        const uint64_t *mask = cog_matcher_mask(b->m, at, is_first);
        int n = check_mask(b, mask, at, is_first), skip;
        int32_t token = -1;
        size_t len;
        const char *bytes;

        assert_true(n > 0);
        for (skip = (int)cog_rng_below(rng, (uint64_t)n); skip >= 0; skip -= is_set(mask, token))
            token++;
        if (token == EOS) {
            assert_true(takes(b, text.data));
            break;
        }
        bytes = piece_of(NULL, token, &len);
        if (is_first && bytes[0] == ' ') {
            bytes++;
            len--;
        }
        is_first = false;
        cog_buf_add(&text, bytes, len);
        at = cog_matcher_text(b->m, at, bytes, len);
        assert_true(at >= 0);
    }
    cog_buf_fini(&text);
}

static void masks_are_exact_and_never_empty(void **state)
{
    cog_rng rng = { .key = 9 };

    (void)state;
    for (size_t i = 0; i < sizeof(grammars) / sizeof(grammars[0]); i++) {
        bench b;

        open_bench(&b, grammars[i].kind, grammars[i].text);
        assert_true(b.trie->has_bytes);
        for (int k = 0; k < 30; k++)
            walk_at_random(&b, &rng);
        close_bench(&b);
    }
}

static void a_matcher_begins_anew_when_it_holds_too_much(void **state)
{
    uint32_t epoch;
    bench b;

    (void)state;
    open_bench(&b, COG_GRAMMAR_REGEX, "[aceg]{49000}");
    epoch = cog_matcher_epoch(b.m);
    cog_matcher_tidy(b.m);
    assert_int_equal(cog_matcher_epoch(b.m), epoch);
    for (int32_t at = cog_matcher_start(b.m); !cog_matcher_may_end(b.m, at);) {
        cog_matcher_mask(b.m, at, false);
        cog_matcher_mask(b.m, at, true);
        at = cog_matcher_step(b.m, at, 'a');
        assert_true(at >= 0);
    }
    cog_matcher_tidy(b.m);
    assert_int_equal(cog_matcher_epoch(b.m), epoch + 1);
    assert_false(takes(&b, "ace"));
    close_bench(&b);
}

/* ------------------------------------------------------------------ limits */

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check_bomb(cog_grammar_kind kind, cog_buf *source, int rc, const char *name)
{
    double began = seconds();
    cog_err err = { 0 };
    cog_grammar *g = NULL;
    int got = cog_grammar_new(&g, kind, source->data, source->len, &err);

    print_message("# %s: %d after %.0f ms\n", name, got, (seconds() - began) * 1e3);
    if (rc != 1)
        assert_int_equal(got, rc);
    cog_grammar_free(g);
    cog_buf_fini(source);
}

static void repeat_text(cog_buf *b, const char *begin, const char *end, int n)
{
    for (int i = 0; i < n; i++)
        cog_buf_puts(b, begin);
    cog_buf_puts(b, "{}");
    for (int i = 0; i < n; i++)
        cog_buf_puts(b, end);
}

static void bombs_are_refused(void **state)
{
    cog_buf b = { 0 };

    (void)state;
    repeat_text(&b, "{\"oneOf\":[", "]}", 33);
    check_bomb(COG_GRAMMAR_SCHEMA, &b, COG_ELIMIT, "deep oneOf");
    cog_buf_puts(&b, "{\"enum\":[0");
    while (b.len < 70000)
        cog_buf_printf(&b, ",%zu", b.len);
    cog_buf_puts(&b, "]}");
    check_bomb(COG_GRAMMAR_SCHEMA, &b, COG_ELIMIT, "long enum");
    cog_buf_puts(&b, "{\"pattern\":\"(a|b)*a(a|b){20}\"}");
    check_bomb(COG_GRAMMAR_SCHEMA, &b, COG_ELIMIT, "subsets");
    cog_buf_puts(&b, "((((a{100}){100}){100}){100})");
    check_bomb(COG_GRAMMAR_REGEX, &b, COG_ELIMIT, "nested counts");
    cog_buf_puts(&b, "(.{0,900}x){50}");
    check_bomb(COG_GRAMMAR_REGEX, &b, COG_ELIMIT, "overlapping counts");
    for (int i = 0; i < 65; i++)
        cog_buf_puts(&b, "(");
    check_bomb(COG_GRAMMAR_REGEX, &b, COG_ELIMIT, "deep groups");
    cog_buf_puts(&b,
                 "{\"items\":{\"items\":{\"items\":{\"items\":{\"type\":\"string\",\"maxLength\":"
                 "200},\"minItems\":50},\"minItems\":50},\"minItems\":50},\"minItems\":50}");
    check_bomb(COG_GRAMMAR_SCHEMA, &b, COG_ELIMIT, "minItems in minItems");
    cog_buf_puts(&b, "{\"$ref\":\"#/$defs/a0\",\"$defs\":{");
    for (int i = 0; i < 40; i++)
        cog_buf_printf(&b,
                       "\"a%d\":{\"anyOf\":[{\"prefixItems\":[{\"$ref\":\"#/$defs/a%d\"}]},"
                       "{\"prefixItems\":[{\"$ref\":\"#/$defs/a%d\"},{\"const\":%d}]}]},",
                       i, i + 1, i + 1, i);
    cog_buf_puts(&b, "\"a40\":{\"const\":1}}}");
    check_bomb(COG_GRAMMAR_SCHEMA, &b, 1, "doubling references");
}

/* Alternatives that look the same for long, so that both must be followed at each level. */
static void ambiguity_is_bounded(void **state)
{
    cog_buf s = { 0 };
    int32_t at;
    bench b;

    (void)state;
    cog_buf_puts(&s, "{\"$ref\":\"#/$defs/a0\",\"$defs\":{");
    for (int i = 0; i < 12; i++) {
        cog_buf_printf(&s, "\"a%d\":{\"anyOf\":[", i);
        for (int k = 0; k < 2; k++)
            cog_buf_printf(&s, "%s{\"prefixItems\":[{\"$ref\":\"#/$defs/b%d%d\"},{\"const\":%d}]}",
                           k ? "," : "", k, i, k);
        cog_buf_puts(&s, "]},");
        for (int k = 0; k < 2; k++)
            cog_buf_printf(&s, "\"b%d%d\":{\"prefixItems\":[{\"$ref\":\"#/$defs/a%d\"}]},", k, i,
                           i + 1);
    }
    cog_buf_puts(&s, "\"a12\":{\"const\":1}}}");
    open_bench(&b, COG_GRAMMAR_SCHEMA, s.data);
    at = cog_matcher_text(b.m, cog_matcher_start(b.m), "[[[[[[[[[[[[[[[[[[[[[[[[", 24);
    assert_int_equal(at, COG_ELIMIT);
    assert_true(takes(&b, "[[[[]],0]]"));
    assert_true(takes(&b, "[[[[]],1], 0]"));
    assert_false(takes(&b, "[[[[]],1], 2]"));
    close_bench(&b);
    cog_buf_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_take_what_they_say),
        cmocka_unit_test(expressions_outside_the_subset_are_named),
        cmocka_unit_test(random_expressions_agree_with_a_search),
        cmocka_unit_test(words_do_not_come_up),
        cmocka_unit_test(random_words_agree_with_a_search),
        cmocka_unit_test(schemas_take_what_is_valid),
        cmocka_unit_test(objects_and_arrays_are_in_order),
        cmocka_unit_test(recursion_ends_in_time),
        cmocka_unit_test(what_could_not_be_finished_is_not_begun),
        cmocka_unit_test(schemas_outside_the_subset_are_named),
        cmocka_unit_test(boxes_stand_in_free_text),
        cmocka_unit_test(corners_are_in_order),
        cmocka_unit_test(masks_are_exact_and_never_empty),
        cmocka_unit_test(a_matcher_begins_anew_when_it_holds_too_much),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(ambiguity_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
