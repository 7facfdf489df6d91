#!/bin/sh
# Run the emulated CUDA tests with the kernels under AddressSanitizer and UBSan.
# The runtimes must be in the process before Python loads the kernels; Python itself leaks by design.
set -e
CXX=${CXX:-g++}
LD_PRELOAD="$($CXX -print-file-name=libasan.so):$($CXX -print-file-name=libubsan.so)"
export LD_PRELOAD
export NORMCORE_CUDA_HOST_SANITIZE=1
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1
exec "$@"
