/* bench_ceiling_none.c - in a build without CUDA. */
#include "tools/bench_ceiling.h"

int bench_ceiling_measure(bench_ceiling *out, const char *name, int scale, cog_err *err)
{
    return cog_err_set(err, COG_EUNSUPPORTED, "this build knows none for '%s'", name);
}
