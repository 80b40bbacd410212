#include "tests/unit/unit.h"

#include "server/picture/decode_wire.h"

#include <string.h>

static const cog_image_options options = { .max_side = 100, .max_pixels = 5000 };

static cog_say good(cog_say_kind kind)
{
    return (cog_say){ .id = 7,
                      .kind = kind,
                      .result = COG_SAY_FINE,
                      .fault = COG_IMAGE_FINE,
                      .format = COG_WEBP,
                      .width = 100,
                      .height = 50 };
}

static bool check(const cog_say *say, cog_say_kind kind)
{
    return cog_say_check(say, sizeof(*say), kind, 7, &options);
}

static void what_a_helper_says_is_accepted(void **state)
{
    cog_say say = good(COG_SAY_HEADER);

    assert_true(check(&say, COG_SAY_HEADER));
    say = good(COG_SAY_END);
    assert_true(check(&say, COG_SAY_END));
    for (int fault = COG_IMAGE_EMPTY; fault <= COG_IMAGE_TOO_SMALL; fault++) {
        say = (cog_say){ .id = 7, .kind = COG_SAY_END, .result = COG_SAY_REFUSED, .fault = fault };
        strcpy(say.text, "the JPEG ends too early");
        assert_true(check(&say, COG_SAY_END));
    }
    say = (cog_say){ .id = 7, .kind = COG_SAY_END, .result = COG_SAY_NO_MEMORY };
    assert_true(check(&say, COG_SAY_END));
    say = (cog_say){ .id = 7, .kind = COG_SAY_HELLO, .result = COG_SAY_UNGUARDED };
    assert_true(check(&say, COG_SAY_HELLO));
}

/* One field at a time. */
static void what_makes_no_sense_is_not(void **state)
{
#define WRONG(kind_, change)              \
    do {                                  \
        cog_say say = good(kind_);        \
        change;                           \
        assert_false(check(&say, kind_)); \
    } while (0)
    for (int i = 0; i < 2; i++) {
        cog_say_kind kind = i ? COG_SAY_END : COG_SAY_HEADER;

        WRONG(kind, say.id = 8);
        WRONG(kind, say.kind = COG_SAY_HELLO);
        WRONG(kind, say.kind = 0);
        WRONG(kind, say.result = -1);
        WRONG(kind, say.result = COG_SAY_UNGUARDED);
        WRONG(kind, say.format = -1);
        WRONG(kind, say.format = COG_GIF + 1);
        WRONG(kind, say.width = 0);
        WRONG(kind, say.height = -1);
        WRONG(kind, say.width = 101);
        WRONG(kind, say.height = 51); /* more pixels than allowed */
        WRONG(kind, strcpy(say.text, "two\nlines"));
        WRONG(kind, strcpy(say.text, "\xc3\xa4"));
        WRONG(kind, memset(say.text, 'x', sizeof(say.text)));
    }
    WRONG(COG_SAY_HEADER, say.result = COG_SAY_REFUSED);
    WRONG(COG_SAY_END, say.fault = COG_IMAGE_BROKEN);
    WRONG(COG_SAY_END, say.result = COG_SAY_REFUSED); /* of nothing */
    WRONG(COG_SAY_END, say.result = COG_SAY_REFUSED; say.fault = COG_IMAGE_TOO_SMALL + 1);
    WRONG(COG_SAY_END, say.result = COG_SAY_REFUSED; say.fault = -1);
    WRONG(COG_SAY_HELLO, say.result = COG_SAY_REFUSED);
#undef WRONG
}

static void the_length_is_the_messages(void **state)
{
    cog_say say = good(COG_SAY_END);

    assert_false(cog_say_check(&say, sizeof(say) - 1, COG_SAY_END, 7, &options));
    assert_false(cog_say_check(&say, sizeof(say) + 1, COG_SAY_END, 7, &options));
    assert_false(cog_say_check(&say, 0, COG_SAY_END, 7, &options));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_helper_says_is_accepted),
        cmocka_unit_test(what_makes_no_sense_is_not),
        cmocka_unit_test(the_length_is_the_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
