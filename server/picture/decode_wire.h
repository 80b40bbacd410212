/* decode_wire.h - what the server and its decoding helpers say to each other, over a socket that
 * keeps the boundaries of messages (SOCK_SEQPACKET).
 *
 *     helper                                  server
 *     HELLO                            ->
 *                                      <-     LOOK and the picture's memory, as a descriptor
 *     HEADER, or END                   ->
 *                                      <-     DECODE, or DROP: no answer
 *     END                              ->
 *
 * Both ends are one program, so a message is a struct. The helper trusts the server; the server
 * trusts nothing: a helper may have been taken over by a picture. Pure. */
#ifndef COG_SERVER_PICTURE_DECODE_WIRE_H
#define COG_SERVER_PICTURE_DECODE_WIRE_H

#include "engine/engine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decoders take up to 11, besides the file and the pixels of the answer. */
enum { COG_DECODE_BYTES_PER_PIXEL = 12 };

typedef enum cog_ask_kind { COG_ASK_LOOK = 1, COG_ASK_DECODE, COG_ASK_DROP } cog_ask_kind;

/* The server's words. Of DECODE and DROP only kind and id count. */
typedef struct cog_ask {
    uint64_t id; /* of the picture, in every message about it */
    cog_ask_kind kind;
    int side;
    size_t size, pixels_at, file_len; /* as in cog_picture_memory */
    cog_image_options options;
} cog_ask;

typedef enum cog_say_kind { COG_SAY_HELLO = 1, COG_SAY_HEADER, COG_SAY_END } cog_say_kind;

typedef enum cog_say_result {
    COG_SAY_FINE,
    COG_SAY_REFUSED,   /* END: the file is at fault */
    COG_SAY_NO_MEMORY, /* END: takes more memory than the helper may have */
    COG_SAY_UNGUARDED, /* HELLO: there is no filter for system calls; text says why */
} cog_say_result;

/* The helper's words. */
typedef struct cog_say {
    uint64_t id;
    int32_t kind, result, fault;
    int32_t format, width, height; /* of HEADER as stored, of END as a person sees it */
    char text[256];                /* why; ends with a NUL */
} cog_say;

/* Whether len bytes at say are what a helper may say now: of that kind, about that picture, with
 * values in range and a text that may be shown. Anything else means that it cannot be trusted. */
bool cog_say_check(const cog_say *say, size_t len, cog_say_kind kind, uint64_t id,
                   const cog_image_options *options);

#endif
