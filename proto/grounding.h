/* grounding.h - boxes in an answer, "a dog [[120,340,560,780]] and two cats [[...;...]]", as data.
 *
 * CogVLM writes a box as [[x0,y0,x1,y1]], thousandths of the picture's width and height from the
 * top left; several boxes of one phrase stand in one pair of brackets with ';' between them. The
 * phrase is what stands before. Pure; linear in the text. */
#ifndef COG_PROTO_GROUNDING_H
#define COG_PROTO_GROUNDING_H

#include "base/buf.h"
#include "proto/api_error.h"

#include <stddef.h>

struct json_t;

enum { COG_GROUNDING_SCALE = 1000 };

/* 0 <= x0 <= x1 <= COG_GROUNDING_SCALE, and so for y. */
typedef struct cog_grounding_box {
    int x0, y0, x1, y1;
} cog_grounding_box;

/* A phrase with its boxes. The phrase is the nearest group of words before the boxes: back to an
 * article or a number, which belongs to it, else up to a preposition, a conjunction or a form of
 * "to be", which do not; never across punctuation or other boxes. It may be empty, and then lies
 * where the boxes begin. */
typedef struct cog_grounding_item {
    size_t start, end; /* the phrase: bytes of the text, on character boundaries */
    int first, n;      /* boxes; n >= 1 */
} cog_grounding_item;

typedef struct cog_grounding {
    cog_grounding_item *items; /* in the order of the text */
    cog_grounding_box *boxes;
    int n_items, n_boxes;
    int n_broken; /* what began like boxes and is none: left out */
} cog_grounding;

/* out is to be given to cog_grounding_fini. Coordinates beyond the scale are set to its end. */
void cog_grounding_find(cog_grounding *out, const char *text, size_t len);
void cog_grounding_fini(cog_grounding *g);

typedef enum cog_grounding_format {
    COG_GROUNDING_OFF,
    COG_GROUNDING_PIXEL,    /* whole pixels: thousandths times the side, rounded down */
    COG_GROUNDING_NORM1000, /* as the model writes them */
    COG_GROUNDING_NORM1,    /* 0 to 1 */
} cog_grounding_format;

/* How boxes are told, and of which picture. */
typedef struct cog_grounding_view {
    cog_grounding_format format;
    int width, height; /* of the picture as a person sees it */
} cog_grounding_view;

/* The request's field: true, false, or an object with a format. v may be NULL. */
int cog_grounding_read_field(cog_grounding_format *out, const struct json_t *v, cog_api_error *err);

typedef struct cog_grounding_count {
    int n_boxes, n_broken;
} cog_grounding_count;

/* Adds the boxes in a text as a JSON array; how many it has, and how many were left out. */
cog_grounding_count cog_grounding_write(cog_buf *out, const cog_grounding_view *view,
                                        const char *text, size_t len);

#endif
