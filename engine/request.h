/* request.h - what the engine asks of a request before it takes it. Pure. */
#ifndef COG_ENGINE_REQUEST_H
#define COG_ENGINE_REQUEST_H

#include "engine/engine.h"

/* COG_EINVAL, with the reason, for a request that could never run on the model of info. */
int cog_request_check(const cog_request *r, const cog_engine_info *info, cog_err *err);

#endif
