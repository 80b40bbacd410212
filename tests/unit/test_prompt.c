#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "engine/prompt.h"

#include <string.h>

static const cog_turn turns[] = {
    { "Hi", 2, "Hello", 5, false },
    { " two  words ", 12, "", 0, false },
    { "What is it?", 11, NULL, 0, false },
};

static void expect_text(cog_template tmpl, int first, const char *text)
{
    cog_buf b = { 0 };

    cog_buf_puts(&b, "|");
    cog_prompt_text(&b, tmpl, turns + first, 3 - first);
    assert_string_equal(b.data, text);
    assert_int_equal(b.len, strlen(text));
    cog_buf_fini(&b);
}

/* One space after "Question:" and before "Answer:", none after the last marker, a newline between
 * turns only, queries and answers to the byte. */
static void trap_templates_to_the_byte(void **state)
{
    expect_text(COG_TEMPLATE_CHAT, 2, "|Question: What is it? Answer:");
    expect_text(COG_TEMPLATE_CHAT, 0,
                "|Question: Hi Answer: Hello\nQuestion:  two  words  Answer: \n"
                "Question: What is it? Answer:");
    expect_text(COG_TEMPLATE_VQA, 2, "|Question: What is it? Short answer:");
    expect_text(COG_TEMPLATE_VQA, 0,
                "|Question: Hi Short answer: Hello\nQuestion:  two  words  Short answer: \n"
                "Question: What is it? Short answer:");
}

static void trap_base_ignores_history(void **state)
{
    static const cog_turn empty = { "", 0, NULL, 0, false };
    cog_buf b = { 0 };

    expect_text(COG_TEMPLATE_BASE, 2, "|What is it?");
    expect_text(COG_TEMPLATE_BASE, 0, "|What is it?");
    cog_prompt_text(&b, COG_TEMPLATE_BASE, &empty, 1); /* base models caption with no text at all */
    assert_int_equal(b.len, 0);
    cog_buf_fini(&b);
}

static void ends_of_a_prompt(void **state)
{
    static const struct {
        cog_template form;
        cog_turn last;
        const char *text;
    } cases[] = {
        { COG_TEMPLATE_CHAT, { "Hi", 2, "It is", 5, false }, "|Question: Hi Answer: It is" },
        { COG_TEMPLATE_CHAT, { "Hi", 2, "It ", 3, false }, "|Question: Hi Answer: It " },
        { COG_TEMPLATE_CHAT, { "Hi", 2, "", 0, false }, "|Question: Hi Answer:" },
        { COG_TEMPLATE_VQA, { "Hi", 2, "It", 2, false }, "|Question: Hi Short answer: It" },
        { COG_TEMPLATE_BASE, { "Hi", 2, "It", 2, false }, "|Hi It" },
        { COG_TEMPLATE_CHAT, { "Hi", 2, NULL, 0, true }, "|Question: Hi" },
        { COG_TEMPLATE_BASE, { "Hi", 2, NULL, 0, true }, "|Hi" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_buf b = { 0 };

        cog_buf_puts(&b, "|");
        cog_prompt_text(&b, cases[i].form, &cases[i].last, 1);
        assert_string_equal(b.data, cases[i].text);
        cog_buf_fini(&b);
    }
}

static void lengths_count_not_terminators(void **state)
{
    static const cog_turn turn = { "ab\0cd", 5, NULL, 0, false };
    cog_buf b = { 0 };

    cog_prompt_text(&b, COG_TEMPLATE_CHAT, &turn, 1);
    assert_int_equal(b.len, 10 + 5 + 8);
    assert_memory_equal(b.data, "Question: ab\0cd Answer:", b.len);
    cog_buf_fini(&b);
}

/* The general rules, over token types: a token is vision when it and the next one are the
 * picture's; the position moves on at every token but the picture's second patch and later. */
static void by_the_rules(const int *type, int n, int i, bool *is_vision, int *position)
{
    int first = 1; /* boi */

    *is_vision = type[i] == 1 && i + 1 < n && type[i + 1] == 1;
    *position = 0;
    for (int k = 1; k <= i; k++) {
        bool is_patch = type[k] == 1 && k > first && k + 1 < n && type[k + 1] == 1;
        *position += !is_patch || k == first + 1;
    }
}

/* Types 0 1 1 1 1 1 0 0: eoi (index 5) is language. */
static void trap_eoi_is_a_language_token(void **state)
{
    static const bool vision[] = { false, true, true, true, true, false, false, false };

    for (int i = 0; i < 8; i++)
        assert_int_equal(cog_prompt_is_vision(i, true, 5), vision[i]);
}

/* All patches share position 2, eoi is 3, text goes on from 4. */
static void trap_patches_share_a_position(void **state)
{
    static const int position[] = { 0, 1, 2, 2, 2, 3, 4, 5 };

    for (int i = 0; i < 8; i++)
        assert_int_equal(cog_prompt_position(i, true, 5), position[i]);
    assert_int_equal(cog_prompt_position(1228, true, 1227), 4);
    assert_int_equal(cog_prompt_position(2047, true, 1227), 823);
}

static void features_are_the_pictures_rows(void **state)
{
    static const int feature[] = { -1, 0, 1, 2, 3, 4, -1, -1 };

    for (int i = 0; i < 8; i++)
        assert_int_equal(cog_prompt_feature(i, true, 5), feature[i]);
}

static void any_picture_size_follows_the_rules(void **state)
{
    for (int image_tokens = 3; image_tokens < 40; image_tokens++) {
        int n = 1 + image_tokens + 5, type[64] = { 0 };
        for (int i = 1; i <= image_tokens; i++)
            type[i] = 1;
        for (int i = 0; i < n; i++) {
            bool is_vision;
            int position;
            by_the_rules(type, n, i, &is_vision, &position);
            assert_int_equal(cog_prompt_is_vision(i, true, image_tokens), is_vision);
            assert_int_equal(cog_prompt_position(i, true, image_tokens), position);
            assert_int_equal(cog_prompt_feature(i, true, image_tokens), type[i] ? i - 1 : -1);
        }
    }
}

static void text_alone_counts_on(void **state)
{
    for (int i = 0; i < 100; i++) {
        assert_false(cog_prompt_is_vision(i, false, 66));
        assert_int_equal(cog_prompt_position(i, false, 66), i);
        assert_int_equal(cog_prompt_feature(i, false, 66), -1);
    }
}

static void templates_have_names(void **state)
{
    assert_string_equal(cog_template_name(COG_TEMPLATE_DEFAULT), "default");
    assert_string_equal(cog_template_name(COG_TEMPLATE_CHAT), "chat");
    assert_string_equal(cog_template_name(COG_TEMPLATE_VQA), "vqa");
    assert_string_equal(cog_template_name(COG_TEMPLATE_BASE), "base");
}

static void fini_leaves_an_empty_prompt(void **state)
{
    cog_prompt p = { .n_tokens = 3, .n_image_tokens = 2 };

    p.tokens = cog_array(int32_t, 3);
    cog_prompt_fini(&p);
    assert_null(p.tokens);
    assert_int_equal(p.n_tokens, 0);
    assert_int_equal(p.n_image_tokens, 0);
    cog_prompt_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trap_templates_to_the_byte),
        cmocka_unit_test(trap_base_ignores_history),
        cmocka_unit_test(ends_of_a_prompt),
        cmocka_unit_test(lengths_count_not_terminators),
        cmocka_unit_test(trap_eoi_is_a_language_token),
        cmocka_unit_test(trap_patches_share_a_position),
        cmocka_unit_test(features_are_the_pictures_rows),
        cmocka_unit_test(any_picture_size_follows_the_rules),
        cmocka_unit_test(text_alone_counts_on),
        cmocka_unit_test(templates_have_names),
        cmocka_unit_test(fini_leaves_an_empty_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
