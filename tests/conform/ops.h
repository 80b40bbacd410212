/* ops.h - the operations of the CPU backend that conform_cpu.c runs. */
#ifndef COG_TESTS_CONFORM_OPS_H
#define COG_TESTS_CONFORM_OPS_H

#include "tests/conform/conform.h"

void conform_gemm(conform *c);
void conform_gemm_out(conform *c);
void conform_attention(conform *c);
void conform_norms(conform *c);
void conform_functions(conform *c);
void conform_exact(conform *c);

#endif
