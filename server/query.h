/* query.h - the parameters behind the ? of an address. Pure. */
#ifndef COG_SERVER_QUERY_H
#define COG_SERVER_QUERY_H

#include <stddef.h>

/* The value of the first parameter of that name, with + and %XX undone, as a string. 0: it is
 * there; 1: it is not, and dst is ""; COG_EINVAL: it has size bytes or more, or a NUL. */
int cog_query_get(char *dst, size_t size, const char *target, const char *name);

#endif
