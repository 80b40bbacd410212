#include "tests/unit/unit.h"

#include "base/rng.h"
#include "engine/prefix.h"

#include <string.h>

enum { BLOCK = 16, TOKENS = 100, N_VISUAL = 37 };

static bool equal(const cog_sha256 *a, const cog_sha256 *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* All names of a sequence: of five full pages, and of the one in which the picture ends. */
typedef struct names {
    cog_sha256 full[5], partial;
} names;

static names names_of(const int32_t *tokens, int block, uint8_t salt, int n_visual, uint8_t picture)
{
    const cog_sha256 s = { { salt } }, p = { { picture } };
    cog_prefix_chain c;
    names n;

    memset(&n, 0, sizeof(n));
    cog_prefix_chain_init(&c, tokens, TOKENS, block, &s, n_visual, &p);
    if (n_visual % block)
        n.partial = *cog_prefix_partial(&c);
    for (int i = 0; i < 5 && i < TOKENS / block; i++)
        n.full[i] = *cog_prefix_full(&c, i);
    cog_prefix_chain_fini(&c);
    return n;
}

/* The pages from `first` on differ, those before are equal. */
static void assert_differ_from(const names *a, const names *b, int first)
{
    for (int i = 0; i < 5; i++)
        assert_int_equal(equal(&a->full[i], &b->full[i]), i < first);
}

static void a_name_depends_on_all_that_is_before_it(void **state)
{
    int32_t tokens[TOKENS];
    names whole, other;

    for (int i = 0; i < TOKENS; i++)
        tokens[i] = i % 7;
    whole = names_of(tokens, BLOCK, 1, N_VISUAL, 1);
    other = names_of(tokens, BLOCK, 1, N_VISUAL, 1);
    assert_memory_equal(&whole, &other, sizeof(whole));
    for (int i = 0; i < 5 * BLOCK; i++) {
        tokens[i] ^= 8;
        other = names_of(tokens, BLOCK, 1, N_VISUAL, 1);
        tokens[i] ^= 8;
        assert_differ_from(&whole, &other, i / BLOCK);
        assert_int_equal(equal(&whole.partial, &other.partial), i >= N_VISUAL);
    }
}

static void salts_and_pictures_have_names_of_their_own(void **state)
{
    int32_t tokens[TOKENS] = { 0 };
    names whole = names_of(tokens, BLOCK, 1, N_VISUAL, 1), other;

    other = names_of(tokens, BLOCK, 2, N_VISUAL, 1);
    assert_differ_from(&whole, &other, 0);
    assert_false(equal(&whole.partial, &other.partial));
    other = names_of(tokens, BLOCK, 1, N_VISUAL, 2);
    assert_differ_from(&whole, &other, 0);
    assert_false(equal(&whole.partial, &other.partial));
    other = names_of(tokens, BLOCK, 1, 0, 0); /* the same tokens as text */
    assert_differ_from(&whole, &other, 0);
    /* a picture that ends one token later is in one more page, or in more of one */
    other = names_of(tokens, BLOCK, 1, N_VISUAL + 1, 1);
    assert_false(equal(&whole.partial, &other.partial));
    /* a page is not the first half of one of twice its size */
    other = names_of(tokens, 2 * BLOCK, 1, 2 * BLOCK + BLOCK / 2, 1);
    for (int i = 0; i < 3; i++)
        assert_false(equal(&other.partial, &whole.full[i]));
    assert_false(equal(&whole.full[0], &whole.full[1]));
}

/* ---- the index against a list ---- */

enum { PAGES = 12, NAMES = 40 };

static void random_operations_agree_with_a_list(void **state)
{
    int32_t page_of[2][NAMES], at_page[2][PAGES]; /* -1: none */
    cog_sha256 name[NAMES] = { { { 0 } } };
    cog_rng rng = { .key = 5 };
    cog_prefix x;

    cog_prefix_init(&x, PAGES);
    memset(page_of, -1, sizeof(page_of));
    memset(at_page, -1, sizeof(at_page));
    for (int i = 0; i < NAMES; i++) { /* few buckets, many meetings */
        name[i].byte[0] = (uint8_t)(i % 3);
        name[i].byte[31] = (uint8_t)i;
    }
    for (int step = 0; step < 50000; step++) {
        int kind = (int)cog_rng_below(&rng, 2), n = (int)cog_rng_below(&rng, NAMES);
        int page = (int)cog_rng_below(&rng, PAGES);

        if (cog_rng_below(&rng, 3) == 0) {
            cog_prefix_forget(&x, page);
            for (int k = 0; k < 2; k++) {
                if (at_page[k][page] >= 0)
                    page_of[k][at_page[k][page]] = -1;
                at_page[k][page] = -1;
            }
        } else if (at_page[kind][page] < 0 && page_of[kind][n] < 0) {
            cog_prefix_add(&x, (cog_prefix_kind)kind, &name[n], page, -1);
            at_page[kind][page] = n;
            page_of[kind][n] = page;
        }
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < NAMES; i++)
                assert_int_equal(cog_prefix_find(&x, (cog_prefix_kind)k, &name[i]), page_of[k][i]);
        for (int i = 0; i < PAGES; i++)
            assert_int_equal(cog_prefix_knows(&x, i), at_page[0][i] >= 0 || at_page[1][i] >= 0);
        assert_true(cog_prefix_is_sound(&x));
    }
    cog_prefix_fini(&x);
}

static void an_index_that_keeps_nothing_finds_nothing(void **state)
{
    const cog_sha256 name = { { 1 } };
    cog_prefix x;

    cog_prefix_init(&x, 0);
    assert_int_equal(cog_prefix_find(&x, COG_PREFIX_FULL, &name), -1);
    assert_false(cog_prefix_knows(&x, 3));
    cog_prefix_forget(&x, 3);
    assert_true(cog_prefix_is_sound(&x));
    cog_prefix_fini(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_depends_on_all_that_is_before_it),
        cmocka_unit_test(salts_and_pictures_have_names_of_their_own),
        cmocka_unit_test(random_operations_agree_with_a_list),
        cmocka_unit_test(an_index_that_keeps_nothing_finds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
