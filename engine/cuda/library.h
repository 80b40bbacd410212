/* library.h - NVIDIA's libraries are found at run time, so that one program starts everywhere. */
#ifndef COG_ENGINE_CUDA_LIBRARY_H
#define COG_ENGINE_CUDA_LIBRARY_H

#include "base/err.h"

#include <dlfcn.h>

/* COG_EUNSUPPORTED with the loader's reason. Closed or not, the library stays in memory: what it
 * registers at exit must still be there then. */
static inline int cog_cuda_library_open(void **out, const char *name, cog_err *err)
{
    const char *reason;

    *out = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (*out)
        return 0;
    reason = dlerror();
    return cog_err_set(err, COG_EUNSUPPORTED, "%s", reason ? reason : "no reason given");
}

#endif
