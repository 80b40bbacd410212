#include "proto/grounding.h"

#include "base/alloc.h"
#include "base/err.h"
#include "proto/field.h"
#include "proto/json_write.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum { MAX_DIGITS = 4 };

typedef struct finder {
    cog_grounding *out;
    const char *text;
    size_t len;
    size_t from; /* no phrase begins before: the end of the last boxes */
    int item_room, box_room;
} finder;

/* ------------------------------------------------------------------ phrases */

/* Words that a phrase begins with, and words that it begins after. */
static const char *const openers[] = { "a",     "an",    "the",   "this",    "these",   "those",
                                       "my",    "your",  "his",   "her",     "its",     "our",
                                       "their", "one",   "two",   "three",   "four",    "five",
                                       "six",   "seven", "eight", "nine",    "ten",     "some",
                                       "many",  "few",   "all",   "several", "another", "each" };
static const char *const links[] = { "and",     "or",     "but",    "with",   "of",      "in",
                                     "on",      "at",     "by",     "for",    "from",    "to",
                                     "into",    "onto",   "over",   "under",  "above",   "below",
                                     "near",    "behind", "beside", "around", "between", "across",
                                     "through", "along",  "inside", "is",     "are",     "was",
                                     "were",    "has",    "have",   "be",     "it",      "they",
                                     "there",   "here",   "that",   "which",  "who",     "as" };

static bool is_among(const char *word, size_t len, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(list[i]) == len && strncasecmp(word, list[i], len) == 0)
            return true;
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_number(const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_digit(word[i]))
            return false;
    return true;
}

static bool is_opener(const char *word, size_t len)
{
    return is_among(word, len, openers, sizeof(openers) / sizeof(openers[0])) ||
           is_number(word, len);
}

static bool is_link(const char *word, size_t len)
{
    return is_among(word, len, links, sizeof(links) / sizeof(links[0]));
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_border(char c)
{
    return c == '\n' || (c && strchr(".,;:!?()[]{}\"", c));
}

/* The word that ends at end, going back to from; its beginning. */
static size_t word_before(const finder *f, size_t end, size_t from)
{
    while (end > from && !is_space(f->text[end - 1]) && !is_border(f->text[end - 1]))
        end--;
    return end;
}

static size_t space_before(const finder *f, size_t end, size_t from)
{
    while (end > from && is_space(f->text[end - 1]) && !is_border(f->text[end - 1]))
        end--;
    return end;
}

/* The phrase of boxes that begin at `at`. */
static void find_phrase(const finder *f, cog_grounding_item *item, size_t at)
{
    const char *t = f->text;
    size_t end = at, start;
    bool is_open = false; /* only more openers may come before */

    while (end > f->from && (is_space(t[end - 1]) || is_border(t[end - 1])))
        end--;
    start = word_before(f, end, f->from);
    for (;;) {
        size_t word_end = space_before(f, start, f->from);
        size_t word = word_before(f, word_end, f->from);
        bool opens;

        if (word == word_end)
            break;
        opens = is_opener(t + word, word_end - word);
        if (is_open ? !opens : is_link(t + word, word_end - word))
            break;
        is_open = opens;
        start = word;
    }
    *item = start == end ? (cog_grounding_item){ .start = at, .end = at }
                         : (cog_grounding_item){ .start = start, .end = end };
}

/* ------------------------------------------------------------------ boxes */

/* One coordinate at *at, before end. */
static bool read_coordinate(const finder *f, int *value, size_t *at, size_t end)
{
    size_t begin = *at;
    int v = 0;

    for (; *at < end && *at - begin < MAX_DIGITS && is_digit(f->text[*at]); ++*at)
        v = 10 * v + (f->text[*at] - '0');
    *value = v > COG_GROUNDING_SCALE ? COG_GROUNDING_SCALE : v;
    return *at > begin;
}

/* Four coordinates are all there is between at and end, and the corners are in order. */
static bool read_box(const finder *f, cog_grounding_box *box, size_t at, size_t end)
{
    int v[4];

    for (int i = 0; i < 4; i++) {
        if (!read_coordinate(f, &v[i], &at, end))
            return false;
        if (i < 3 && (at == end || f->text[at++] != ','))
            return false;
    }
    *box = (cog_grounding_box){ v[0], v[1], v[2], v[3] };
    return at == end && box->x0 <= box->x1 && box->y0 <= box->y1;
}

static void add_box(finder *f, const cog_grounding_box *box)
{
    cog_grounding *g = f->out;

    if (g->n_boxes == f->box_room) {
        f->box_room = f->box_room ? 2 * f->box_room : 8;
        g->boxes = cog_realloc(g->boxes, (size_t)f->box_room, sizeof(*g->boxes));
    }
    g->boxes[g->n_boxes++] = *box;
}

static void add_item(finder *f, const cog_grounding_item *item)
{
    cog_grounding *g = f->out;

    if (g->n_items == f->item_room) {
        f->item_room = f->item_room ? 2 * f->item_room : 8;
        g->items = cog_realloc(g->items, (size_t)f->item_room, sizeof(*g->items));
    }
    g->items[g->n_items++] = *item;
}

/* Boxes between brackets that begin at `at`, their inside being [inside, end). */
static void read_group(finder *f, size_t at, size_t inside, size_t end)
{
    cog_grounding_item item;
    int first = f->out->n_boxes;

    for (size_t part = inside, stop; part <= end; part = stop + 1) {
        const char *semicolon = memchr(f->text + part, ';', end - part);
        cog_grounding_box box;

        stop = semicolon ? (size_t)(semicolon - f->text) : end;
        if (read_box(f, &box, part, stop))
            add_box(f, &box);
        else
            f->out->n_broken++;
    }
    if (f->out->n_boxes == first)
        return;
    find_phrase(f, &item, at);
    item.first = first;
    item.n = f->out->n_boxes - first;
    add_item(f, &item);
}

static bool is_inside(char c)
{
    return is_digit(c) || c == ',' || c == ';';
}

/* At "[[": where to look on. */
static size_t read_brackets(finder *f, size_t at)
{
    size_t inside = at + 2, end = inside;

    if (inside < f->len && f->text[inside] == '[') /* the last two of several count */
        return at + 1;
    while (end < f->len && is_inside(f->text[end]))
        end++;
    if (f->len - end < 2 || memcmp(f->text + end, "]]", 2) != 0) {
        f->out->n_broken++;
        return end;
    }
    read_group(f, at, inside, end);
    f->from = end + 2;
    return f->from;
}

void cog_grounding_find(cog_grounding *out, const char *text, size_t len)
{
    finder f = { .out = out, .text = text, .len = len };

    *out = (cog_grounding){ 0 };
    for (size_t at = 0; at + 1 < len;) {
        const char *bracket = memchr(text + at, '[', len - 1 - at);

        if (!bracket)
            break;
        at = (size_t)(bracket - text);
        at = bracket[1] == '[' ? read_brackets(&f, at) : at + 1;
    }
}

void cog_grounding_fini(cog_grounding *g)
{
    cog_free(g->items);
    cog_free(g->boxes);
    *g = (cog_grounding){ 0 };
}

/* ------------------------------------------------------------------ the API's form */

int cog_grounding_read_field(cog_grounding_format *out, const struct json_t *v, cog_api_error *err)
{
    static const char *const names[] = { [COG_GROUNDING_PIXEL] = "pixel",
                                         [COG_GROUNDING_NORM1000] = "norm1000",
                                         [COG_GROUNDING_NORM1] = "norm1" };
    const char *name = NULL;
    const json_t *format = NULL;
    char quoted[COG_API_QUOTE];

    *out = COG_GROUNDING_OFF;
    if (!v || json_is_null(v) || json_is_false(v))
        return 0;
    if (!json_is_true(v) && !json_is_object(v))
        return cog_field_type_error(err, "grounding", "a boolean or an object", v);
    format = json_object_get(v, "format");
    if (!format || json_is_null(format)) {
        *out = COG_GROUNDING_PIXEL;
        return 0;
    }
    name = json_string_value(format);
    if (!name)
        return cog_field_type_error(err, "grounding.format", "a string", format);
    for (int i = COG_GROUNDING_PIXEL; i <= COG_GROUNDING_NORM1; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (cog_grounding_format)i;
            return 0;
        }
    }
    return cog_api_error_set(err, COG_API_INVALID_VALUE, "grounding.format",
                             "Invalid 'grounding.format': %s. Supported values are 'pixel', "
                             "'norm1000' and 'norm1'.",
                             cog_api_quote(quoted, name, json_string_length(format)));
}

static void write_coordinate(cog_buf *out, cog_grounding_format format, int value, int side)
{
    switch (format) {
    case COG_GROUNDING_PIXEL:
        cog_buf_printf(out, "%d", (int)((int64_t)value * side / COG_GROUNDING_SCALE));
        break;
    case COG_GROUNDING_NORM1:
        cog_buf_printf(out, "%d.%03d", value / COG_GROUNDING_SCALE, value % COG_GROUNDING_SCALE);
        break;
    default:
        cog_buf_printf(out, "%d", value);
        break;
    }
}

static void write_box(cog_buf *out, const cog_grounding_view *view, const cog_grounding_box *b)
{
    const struct {
        const char *name;
        int value, side;
    } member[] = { { "{\"x0\":", b->x0, view->width },
                   { ",\"y0\":", b->y0, view->height },
                   { ",\"x1\":", b->x1, view->width },
                   { ",\"y1\":", b->y1, view->height } };

    for (int i = 0; i < 4; i++) {
        cog_buf_puts(out, member[i].name);
        write_coordinate(out, view->format, member[i].value, member[i].side);
    }
    cog_buf_puts(out, "}");
}

cog_grounding_count cog_grounding_write(cog_buf *out, const cog_grounding_view *view,
                                        const char *text, size_t len)
{
    cog_grounding g;
    cog_grounding_count count;

    cog_grounding_find(&g, text, len);
    cog_buf_puts(out, "[");
    for (int i = 0; i < g.n_items; i++) {
        const cog_grounding_item *item = &g.items[i];

        cog_buf_printf(out, "%s{\"phrase\":\"", i ? "," : "");
        cog_json_write_text(out, text + item->start, item->end - item->start);
        cog_buf_printf(out, "\",\"start\":%zu,\"end\":%zu,\"boxes\":[", item->start, item->end);
        for (int k = 0; k < item->n; k++) {
            cog_buf_puts(out, k ? "," : "");
            write_box(out, view, &g.boxes[item->first + k]);
        }
        cog_buf_puts(out, "]}");
    }
    cog_buf_puts(out, "]");
    count = (cog_grounding_count){ g.n_boxes, g.n_broken };
    cog_grounding_fini(&g);
    return count;
}
