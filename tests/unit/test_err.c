#include "tests/unit/unit.h"

#include "base/err.h"

#include <string.h>

static void a_message_is_set_with_its_code(void **state)
{
    cog_err err = { 0 };

    assert_int_equal(cog_err_set(&err, COG_ELIMIT, "%d is more than %s", 3, "2"), COG_ELIMIT);
    assert_int_equal(err.code, COG_ELIMIT);
    assert_string_equal(err.text, "3 is more than 2");
    assert_int_equal(cog_err_set(NULL, COG_EIO, "nobody reads it"), COG_EIO);
}

static void control_characters_of_a_file_reach_no_terminal(void **state)
{
    cog_err err = { 0 };

    cog_err_set(&err, COG_EFORMAT, "near '%s'", "a\x1b[2Jb\n\r\t\x7f.");
    assert_string_equal(err.text, "near 'a?[2Jb????.'");
    cog_err_prefix(&err, "file '%s'", "\a");
    assert_string_equal(err.text, "file '?': near 'a?[2Jb????.'");
}

static void long_text_is_cut_on_a_character(void **state)
{
    char text[2048];
    cog_err err = { 0 };

    /* two bytes each, from an odd place: the last one does not fit whole */
    for (size_t i = 0; i + 1 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    text[sizeof(text) - 2] = '\0';
    cog_err_set(&err, COG_EFORMAT, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 2);
    cog_err_prefix(&err, "%s", "12");
    assert_int_equal(strlen(err.text), sizeof(err.text) - 2);
    assert_int_equal((unsigned char)err.text[sizeof(err.text) - 3], 0xa9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_set_with_its_code),
        cmocka_unit_test(control_characters_of_a_file_reach_no_terminal),
        cmocka_unit_test(long_text_is_cut_on_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
