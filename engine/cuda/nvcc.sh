#!/bin/sh
# nvcc.sh LOG NVCC ARGUMENT...: runs nvcc and keeps what ptxas says of each kernel in LOG, which
# tests/cuda/gates.py reads; shows it when nvcc fails.
set -u
log=$1
shift
if ! "$@" >"$log" 2>&1; then
    grep -vE '^ptxas info|bytes stack frame, 0 bytes spill stores, 0' "$log" >&2
    exit 1
fi
