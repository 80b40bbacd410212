/* picture_fault.h - what a client is told about a picture that could not be decoded. */
#ifndef COG_SERVER_PICTURE_FAULT_H
#define COG_SERVER_PICTURE_FAULT_H

#include "server/internal.h"

/* Fills err and returns COG_EINVAL when the decode ended badly; 0, and err as it was, when it ended
 * well or was cancelled. param: path of the picture; is_bare: what it was may not even have been
 * meant as a picture, so that is what is told. Any thread, for a decode that is REFUSED. */
int cog_picture_fault(cog_api_error *err, const cog_decode *d, const char *param, bool is_bare,
                      const cog_exchange *x);

/* The server has no memory or no helper for a picture now. */
void cog_picture_fault_later(cog_api_error *err);

#endif
