/* boxes.h - free text in which what follows "[[" is boxes: [[x0,y0,x1,y1;x0,y0,x1,y1]], three
 * digits each, x0 <= x1 and y0 <= y1. Pure.
 *
 * An automaton whose states are computed: a table would need one for each pair of x0 and y0. What a
 * state holds is its place in the box and, for either axis, what the digits to come must reach; so
 * states that go on alike are equal. From each state some byte leads on, and the text can be
 * finished. */
#ifndef COG_ENGINE_GRAMMAR_BOXES_H
#define COG_ENGINE_GRAMMAR_BOXES_H

#include <stdbool.h>
#include <stdint.h>

enum { COG_BOXES_START = 0, COG_BOXES_CLASSES = 15 };

/* Where a byte leads; -1: nowhere. */
int32_t cog_boxes_step(int32_t state, uint8_t byte);
/* Outside of boxes. */
bool cog_boxes_may_end(int32_t state);

/* Bytes that no state tells apart have one number, below COG_BOXES_CLASSES. */
void cog_boxes_classes(uint8_t class_of[256]);

#endif
