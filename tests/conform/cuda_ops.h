/* cuda_ops.h - the operations that conform_cuda.c runs. */
#ifndef COG_TESTS_CONFORM_CUDA_OPS_H
#define COG_TESTS_CONFORM_CUDA_OPS_H

#include "tests/conform/device.h"

void conform_cuda_gemm(conform *c);
void conform_cuda_rmsnorm(conform *c);
void conform_cuda_skinny(conform *c);
void conform_cuda_layernorm(conform *c);
void conform_cuda_functions(conform *c);
void conform_cuda_exact(conform *c);
void conform_cuda_rope_kv(conform *c);
void conform_cuda_sample(conform *c);
void conform_cuda_attention_rows(conform *c);
void conform_cuda_attention_flash(conform *c);
void conform_cuda_attention_dense(conform *c);

#endif
