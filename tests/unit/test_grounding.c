/* Boxes in answers: what is one, which words it belongs to, and how it is told. */
#include "tests/unit/unit.h"

#include "base/alloc.h"
#include "base/err.h"
#include "proto/grounding.h"

#include <jansson.h>
#include <string.h>

/* What a text holds, as "phrase@start-end:x0,y0,x1,y1;... " and the number left out. */
static void expect(const char *text, const char *want, int n_broken)
{
    cog_grounding g;
    cog_buf got = { 0 };

    cog_grounding_find(&g, text, strlen(text));
    for (int i = 0; i < g.n_items; i++) {
        const cog_grounding_item *item = &g.items[i];

        cog_buf_printf(&got, "%s%.*s@%zu-%zu:", i ? " | " : "", (int)(item->end - item->start),
                       text + item->start, item->start, item->end);
        for (int k = 0; k < item->n; k++) {
            const cog_grounding_box *b = &g.boxes[item->first + k];
            cog_buf_printf(&got, "%s%d,%d,%d,%d", k ? ";" : "", b->x0, b->y0, b->x1, b->y1);
        }
    }
    assert_string_equal(cog_buf_text(&got), want);
    if (g.n_broken != n_broken)
        fail_msg("%s: %d left out, not %d", text, g.n_broken, n_broken);
    cog_grounding_fini(&g);
    cog_buf_fini(&got);
}

static void boxes(void **state)
{
    expect("", "", 0);
    expect("[", "", 0);
    expect("no box [here]", "", 0);
    expect("[[654,637,710,728]]", "@0-0:654,637,710,728", 0);
    expect("[[000,000,999,999]]", "@0-0:0,0,999,999", 0);
    expect("cats [[001,2,30,400;5,6,7,8;010,010,010,010]].",
           "cats@0-4:1,2,30,400;5,6,7,8;10,10,10,10", 0);
    expect("[[0,0,1000,1001]]", "@0-0:0,0,1000,1000", 0);
    expect("[[[1,2,3,4]]]", "@1-1:1,2,3,4", 0);
    expect("[[1,2,3,4]][[5,6,7,8]]", "@0-0:1,2,3,4 | @11-11:5,6,7,8", 0);
}

/* Left in the text, out of the list, and counted. */
static void broken(void **state)
{
    static const char *const texts[] = {
        "[[",
        "[[]]",
        "[[1,2,3]]",
        "[[1,2]]",
        "[[1,2,3,4,5]]",
        "[[1,2,3,4",
        "[[1,2,3,4]",
        "[[1,2,3,4] ]",
        "[[1, 2, 3, 4]]",
        "[[,1,2,3,4]]",
        "[[1,2,3,4,]]",
        "[[1,,3,4]]",
        "[[x0,y0,x1,y1]]",
        "[[0.1,0.2,0.3,0.4]]",
        "[[-1,2,3,4]]",
        "[[12345,2,3,4]]",
        "[[500,2,400,9]]", /* corners the wrong way round */
        "[[1,500,2,400]]",
        "[[99999999999999999999,1,1,1]]",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        expect(texts[i], "", 1);
    expect("[[1,2,3,4;5,6]]", "@0-0:1,2,3,4", 1);
    expect("[[;1,2,3,4;]]", "@0-0:1,2,3,4", 2);
    expect("[[1,2,3,4 [[5,6,7,8]]", "4@8-9:5,6,7,8", 1);
    expect("[[12[[5,6,7,8]]", "12@2-4:5,6,7,8", 1);
}

static void phrases(void **state)
{
    expect("a dog [[1,1,2,2]] to the left of a red cat [[3,3,4,4]] on grass",
           "a dog@0-5:1,1,2,2 | a red cat@33-42:3,3,4,4", 0);
    expect("A piggy bank [[302,198,694,857]] with a smile [[400,520,582,643]] on it is surrounded "
           "by coins [[028,820,986,997]], toy houses [[052,697,174,892;526,763,636,952]], and "
           "greenery.",
           "A piggy bank@0-12:302,198,694,857 | a smile@38-45:400,520,582,643 | "
           "coins@89-94:28,820,986,997 | toy houses@116-126:52,697,174,892;526,763,636,952",
           0);
    expect("Find the flowers [[1,1,2,2]]. Check the girl holding it, got the girl [[3,3,4,4]].",
           "the flowers@5-16:1,1,2,2 | the girl@61-69:3,3,4,4", 0);
    expect("There are two red apples[[1,1,2,2]]", "two red apples@10-24:1,1,2,2", 0);
    expect("all the 12 eggs [[1,1,2,2]]", "all the 12 eggs@0-15:1,1,2,2", 0);
    expect("It is object 2: [[1,1,2,2]]", "object 2@6-14:1,1,2,2", 0);
    expect("look at it [[1,1,2,2]]", "it@8-10:1,1,2,2", 0);
    expect("yes.\ndogs\nrun \"fast\" [[1,1,2,2]]", "fast@15-19:1,1,2,2", 0);
    expect("THE DOG AND THE CAT [[1,1,2,2]]", "THE CAT@12-19:1,1,2,2", 0);
    expect(" \n [[1,1,2,2]]", "@3-3:1,1,2,2", 0);
    expect("caf\xc3\xa9 \xe7\x8c\xab [[1,1,2,2]]", "caf\xc3\xa9 \xe7\x8c\xab@0-9:1,1,2,2", 0);
}

/* Text that would take for ever where each bracket was followed to the end. */
static void hostile_text(void **state)
{
    enum { N = 1 << 20 };
    static const char *const pieces[] = { "[", "[[", "[[1", "[[1,2,3,4;", "a ", "[[1,2,3,4]]" };

    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        size_t len = strlen(pieces[i]);
        cog_grounding g;
        cog_buf text = { 0 };

        for (size_t n = 0; n + len <= N; n += len)
            cog_buf_add(&text, pieces[i], len);
        cog_buf_puts(&text, "[[1,2,3,4]]");
        cog_grounding_find(&g, text.data, text.len);
        assert_int_equal(g.n_boxes, i == 5 ? N / (int)len + 1 : 1);
        assert_int_equal(g.items[g.n_items - 1].n, 1);
        cog_grounding_fini(&g);
        cog_buf_fini(&text);
    }
}

static void written(cog_grounding_format format, int width, int height, const char *text,
                    const char *want, int n_broken)
{
    const cog_grounding_view view = { format, width, height };
    cog_buf out = { 0 };

    assert_int_equal(cog_grounding_write(&out, &view, text, strlen(text)).n_broken, n_broken);
    assert_string_equal(out.data, want);
    cog_buf_fini(&out);
}

static void writing(void **state)
{
    written(COG_GROUNDING_PIXEL, 640, 480, "nothing [[1]]", "[]", 1);
    written(COG_GROUNDING_PIXEL, 640, 480, "a \\ [[100,200,301,999]]",
            "[{\"phrase\":\"a \\\\\",\"start\":0,\"end\":3,"
            "\"boxes\":[{\"x0\":64,\"y0\":96,\"x1\":192,\"y1\":479}]}]",
            0);
    /* 290 * 100 / 1000 is 29: in floating point it would be a little less, and be cut to 28 */
    written(COG_GROUNDING_PIXEL, 100, 16000, "[[290,001,580,1000]]",
            "[{\"phrase\":\"\",\"start\":0,\"end\":0,"
            "\"boxes\":[{\"x0\":29,\"y0\":16,\"x1\":58,\"y1\":16000}]}]",
            0);
    written(COG_GROUNDING_NORM1000, 640, 480, "a [[007,20,301,999]] b [[1,2,3,4;5,6,7,8]]",
            "[{\"phrase\":\"a\",\"start\":0,\"end\":1,"
            "\"boxes\":[{\"x0\":7,\"y0\":20,\"x1\":301,\"y1\":999}]},"
            "{\"phrase\":\"b\",\"start\":21,\"end\":22,"
            "\"boxes\":[{\"x0\":1,\"y0\":2,\"x1\":3,\"y1\":4},"
            "{\"x0\":5,\"y0\":6,\"x1\":7,\"y1\":8}]}]",
            0);
    written(COG_GROUNDING_NORM1, 640, 480, "[[007,20,301,1000]]",
            "[{\"phrase\":\"\",\"start\":0,\"end\":0,"
            "\"boxes\":[{\"x0\":0.007,\"y0\":0.020,\"x1\":0.301,\"y1\":1.000}]}]",
            0);
}

static void field(void **state)
{
    static const struct {
        const char *json;
        int format; /* -1: refused */
        const char *param;
    } cases[] = {
        { "null", COG_GROUNDING_OFF, NULL },
        { "false", COG_GROUNDING_OFF, NULL },
        { "true", COG_GROUNDING_PIXEL, NULL },
        { "{}", COG_GROUNDING_PIXEL, NULL },
        { "{\"format\":null}", COG_GROUNDING_PIXEL, NULL },
        { "{\"format\":\"pixel\"}", COG_GROUNDING_PIXEL, NULL },
        { "{\"format\":\"norm1000\"}", COG_GROUNDING_NORM1000, NULL },
        { "{\"format\":\"norm1\"}", COG_GROUNDING_NORM1, NULL },
        { "{\"format\":\"\"}", -1, "grounding.format" },
        { "{\"format\":\"percent\"}", -1, "grounding.format" },
        { "{\"format\":1}", -1, "grounding.format" },
        { "1", -1, "grounding" },
        { "\"pixel\"", -1, "grounding" },
        { "[]", -1, "grounding" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *v = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
        cog_grounding_format format = COG_GROUNDING_NORM1;
        cog_api_error err = { 0 };
        int rc = cog_grounding_read_field(&format, v, &err);

        assert_int_equal(rc, cases[i].format < 0 ? COG_EINVAL : 0);
        if (rc < 0)
            assert_string_equal(err.param, cases[i].param);
        else
            assert_int_equal(format, cases[i].format);
        json_decref(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boxes),        cmocka_unit_test(broken),  cmocka_unit_test(phrases),
        cmocka_unit_test(hostile_text), cmocka_unit_test(writing), cmocka_unit_test(field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
