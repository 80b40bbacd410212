/* bench_ceiling.h - what a device can do, measured in the run whose results are held against it. */
#ifndef COG_TOOLS_BENCH_CEILING_H
#define COG_TOOLS_BENCH_CEILING_H

#include "base/err.h"

typedef struct bench_ceiling {
    double read; /* bytes a second, memory to registers */
    double copy; /* bytes a second, read and written both counted */
    double gemm; /* floating-point operations a second of a large bf16 product */
    double node; /* seconds for a kernel that does nothing, in a recorded chain of them */
    double h2d;  /* bytes a second from pinned host memory */
} bench_ceiling;

/* scale divides the sizes: 1 for a device, more for a smoke test. COG_EUNSUPPORTED where nothing is
 * known of the backend called name. */
int bench_ceiling_measure(bench_ceiling *out, const char *name, int scale, cog_err *err);

#endif
