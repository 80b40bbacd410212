/* exif.h - the one fact of Exif metadata that changes pixels: which way up the picture is.
 *
 * Exif 2.32 (CIPA DC-008), section 4.6: a TIFF header in either byte order, and tag 0x0112 in the
 * first directory. */
#ifndef COG_ENGINE_EXIF_H
#define COG_ENGINE_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* The orientation in an Exif block, 1 to 8; 1 (upright) when it has none or makes no sense. The
 * block may begin with "Exif\0\0", as in JPEG, or with the TIFF header, as in PNG and WebP. Reads
 * only bytes[0 .. len - 1]. Any thread. */
int cog_exif_orientation(const uint8_t *bytes, size_t len);

/* Turns rgb [*height, *width, 3] upright: orientation k says where the stored first row and first
 * column belong (1 top left, 2 top right, 3 bottom right, 4 bottom left, 5 left top, 6 right top,
 * 7 right bottom, 8 left bottom). Takes the pixels and returns the turned ones, from cog_alloc
 * both; 5 to 8 swap the sides and need memory for a second picture meanwhile. */
uint8_t *cog_exif_turn(uint8_t *rgb, int *width, int *height, int orientation);

#endif
