/* stops.h - finds stop strings in text that arrives in pieces. Pure.
 *
 * Text that may be the beginning of a stop string is held back until it is known; so the pieces
 * that come out, joined, are the same however the text was cut. */
#ifndef COG_ENGINE_STOPS_H
#define COG_ENGINE_STOPS_H

#include "base/buf.h"

#include <stdbool.h>

typedef struct cog_stops {
    char *const *text; /* borrowed, [n], not empty */
    int n;
    cog_buf held; /* the end of the text so far that may begin a stop string */
    int hit;      /* index of the string that was found, -1 so far */
    bool keeps;   /* the string that was found comes out, too */
    bool is_off;  /* strings that become complete now are text, and not found later */
} cog_stops;

void cog_stops_init(cog_stops *s, char *const *text, int n);
void cog_stops_fini(cog_stops *s);

/* Takes more text, appends to out what is certain. True as soon as a stop string is complete (the
 * longest, when several end at the same byte): it, unless keeps, and what follows are dropped, and
 * nothing may be pushed any more. So no text that comes out holds a stop string but one that was
 * complete while is_off, or at its end the one that keeps. */
bool cog_stops_push(cog_stops *s, cog_buf *out, const char *text, size_t len);

/* The text ended without a stop string: what was held comes out. */
void cog_stops_finish(cog_stops *s, cog_buf *out);

#endif
