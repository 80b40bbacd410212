#include "engine/grammar/boxes.h"

#include <string.h>

enum {
    TEXT,                        /* outside */
    OPENED,                      /* after one '[' */
    FIRST,                       /* of the bytes of a box: 4 numbers, a byte behind each */
    NUMBER = 4,                  /* bytes of a number with what is behind it */
    CLOSED = FIRST + 4 * NUMBER, /* after one ']' */
    NOWHERE = -1,
};

/* A state is its place, and in 10 bits each what x and y must reach. */
enum { X_AT = 5, Y_AT = 15, LEAST = 1023 };

static int32_t pack(int place, int x, int y)
{
    return place | x << X_AT | y << Y_AT;
}

/* A corner's digit, with `scale` for its place in the number: the first corner's is kept, the
 * second's is held against it. *least is what the digits from here on must reach. */
static bool take_digit(int *least, int digit, int scale, bool is_second)
{
    if (!is_second)
        *least += digit * scale;
    else if (digit < *least / scale)
        return false;
    else
        *least = digit > *least / scale ? 0 : *least % scale;
    return true;
}

static int32_t step_number(int place, int x, int y, uint8_t byte)
{
    static const int scales[] = { 100, 10, 1 };
    int number = (place - FIRST) / NUMBER, digit = (place - FIRST) % NUMBER;

    if (byte < '0' || byte > '9' ||
        !take_digit(number % 2 ? &y : &x, byte - '0', scales[digit], number >= 2))
        return NOWHERE;
    return pack(place + 1, x, y);
}

int32_t cog_boxes_step(int32_t state, uint8_t byte)
{
    int place = state & ((1 << X_AT) - 1), x = state >> X_AT & LEAST, y = state >> Y_AT;

    if (place == TEXT || place == OPENED)
        return byte != '[' ? TEXT : place == TEXT ? OPENED : FIRST;
    if (place == CLOSED)
        return byte == ']' ? TEXT : NOWHERE;
    if ((place - FIRST) % NUMBER < NUMBER - 1)
        return step_number(place, x, y, byte);
    if (place < CLOSED - 1)
        return byte == ',' ? pack(place + 1, x, y) : NOWHERE;
    return byte == ';' ? FIRST : byte == ']' ? CLOSED : NOWHERE;
}

bool cog_boxes_may_end(int32_t state)
{
    return state == TEXT || state == OPENED;
}

void cog_boxes_classes(uint8_t class_of[256])
{
    static const char apart[] = "0123456789,;[]";

    memset(class_of, 0, 256);
    for (int i = 0; apart[i]; i++)
        class_of[(uint8_t)apart[i]] = (uint8_t)(i + 1);
}
