#include "tools/bench_ceiling.cu"
