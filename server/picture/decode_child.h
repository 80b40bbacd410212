/* decode_child.h - a helper process that decodes pictures for the server, in a sandbox. */
#ifndef COG_SERVER_PICTURE_DECODE_CHILD_H
#define COG_SERVER_PICTURE_DECODE_CHILD_H

/* The first argument that makes a program a helper. */
#define COG_DECODE_CHILD "decode-helper"

enum { COG_DECODE_CHILD_FD = 3 }; /* the socket to the server */

/* What main does then; argv as main has it: program, COG_DECODE_CHILD, bytes of address space.
 * Serves until the server closes the socket or dies; returns the exit code. */
int cog_decode_child_main(int argc, char **argv);

#endif
