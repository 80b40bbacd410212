/* Boxes in an answer: those that a plain search finds, in order; phrases are whole characters of
 * the text before them, none inside another; what is written parses and says the same. The last
 * three bytes choose how it is told, and the picture's size. */
#include "tests/fuzz/fuzz_json.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "proto/grounding.h"

#include <string.h>

static const char digits[] = "0123456789";

/* One box that ends where `end` is; false when it is none. */
static bool plain_box(const char *text, const char *end, int v[4])
{
    for (int i = 0; i < 4; i++) {
        size_t n = strspn(text, digits);

        if (n < 1 || n > 4)
            return false;
        v[i] = atoi(text) > 1000 ? 1000 : atoi(text);
        text += n;
        if (i < 3 && *text++ != ',')
            return false;
    }
    return text == end && v[0] <= v[2] && v[1] <= v[3];
}

/* The boxes of a text without NUL, the brackets followed from each place anew. */
static int plain_search(const char *text, int (*boxes)[4])
{
    int n = 0;

    for (const char *at = text; (at = strstr(at, "[[")) != NULL; at++) {
        const char *end = at + 2 + strspn(at + 2, "0123456789,;");

        if (strncmp(end, "]]", 2) != 0)
            continue;
        for (const char *part = at + 2, *stop; part <= end; part = stop + 1) {
            stop = part + strcspn(part, ";]");
            n += plain_box(part, stop, boxes[n]);
        }
    }
    return n;
}

static void check_find(const cog_grounding *g, const char *text, size_t len)
{
    int(*boxes)[4] = cog_alloc(len + 1, sizeof(*boxes));
    size_t from = 0;
    int next = 0;

    REQUIRE(g->n_boxes == plain_search(text, boxes));
    for (int i = 0; i < g->n_boxes; i++) {
        const cog_grounding_box *b = &g->boxes[i];
        REQUIRE(memcmp((int[]){ b->x0, b->y0, b->x1, b->y1 }, boxes[i], sizeof(boxes[i])) == 0);
    }
    for (int i = 0; i < g->n_items; i++) {
        const cog_grounding_item *item = &g->items[i];

        REQUIRE(item->first == next && item->n > 0);
        next += item->n;
        REQUIRE(from <= item->start && item->start <= item->end && item->end + 4 < len);
        REQUIRE(cog_utf8_valid(text + item->start, item->end - item->start));
        from = item->end;
    }
    REQUIRE(next == g->n_boxes && g->n_broken >= 0);
    cog_free(boxes);
}

static void require_number(const json_t *box, const char *name, const cog_grounding_view *view,
                           int value, int side)
{
    double want = view->format == COG_GROUNDING_PIXEL   ? (double)((int64_t)value * side / 1000)
                  : view->format == COG_GROUNDING_NORM1 ? value / 1000.0
                                                        : value;
    double got = json_number_value(json_object_get(box, name));

    REQUIRE_SAY(got == want && got <= (view->format == COG_GROUNDING_PIXEL ? side : 1000),
                "%s: %f is not %f", name, got, want);
}

static void check_write(const cog_grounding *g, const char *text, size_t len,
                        const cog_grounding_view *view)
{
    cog_grounding_count count;
    cog_buf out = { 0 };
    json_t *root;

    count = cog_grounding_write(&out, view, text, len);
    REQUIRE(count.n_boxes == g->n_boxes && count.n_broken == g->n_broken);
    root = fuzz_parse(out.data, out.len);
    REQUIRE(json_array_size(root) == (size_t)g->n_items);
    for (int i = 0; i < g->n_items; i++) {
        const cog_grounding_item *item = &g->items[i];
        const json_t *v = json_array_get(root, (size_t)i), *boxes = json_object_get(v, "boxes");
        const json_t *phrase = json_object_get(v, "phrase");

        REQUIRE((size_t)json_integer_value(json_object_get(v, "start")) == item->start);
        REQUIRE((size_t)json_integer_value(json_object_get(v, "end")) == item->end);
        REQUIRE(json_string_length(phrase) == item->end - item->start);
        REQUIRE(memcmp(json_string_value(phrase), text + item->start, item->end - item->start) ==
                0);
        REQUIRE(json_array_size(boxes) == (size_t)item->n);
        for (int k = 0; k < item->n; k++) {
            const cog_grounding_box *b = &g->boxes[item->first + k];
            const json_t *box = json_array_get(boxes, (size_t)k);

            require_number(box, "x0", view, b->x0, view->width);
            require_number(box, "y0", view, b->y0, view->height);
            require_number(box, "x1", view, b->x1, view->width);
            require_number(box, "y1", view, b->y1, view->height);
        }
    }
    json_decref(root);
    cog_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_tail tail = { bytes, len };
    cog_grounding_view view = { .format = COG_GROUNDING_PIXEL + fuzz_take(&tail) % 3,
                                .width = 1 + (int)(fuzz_take(&tail) * fuzz_take(&tail)),
                                .height = 32768 };
    char *raw = cog_strndup((const char *)bytes, tail.len), *text = cog_alloc(3 * len + 1, 1);
    size_t n = cog_utf8_sanitize(text, raw, strlen(raw)); /* as the tokenizer gives it */
    cog_grounding g;

    cog_grounding_find(&g, text, n);
    check_find(&g, text, n);
    check_write(&g, text, n, &view);
    cog_grounding_fini(&g);
    cog_free(raw);
    cog_free(text);
    return 0;
}
