/* What kernels use of NVIDIA's cuda_fp16.h, each conversion rounded once to nearest even. */
#pragma once
#include "narrow.h"

typedef cuda_host::Narrow<5, 10> __half;

inline float __half2float(__half h) { return float(h.to_double()); }
inline __half __double2half(double value) { return __half(value); }
inline __half __float2half(float value) { return __half(value); }
inline __half __float2half_rn(float value) { return __half(value); }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline __half __ushort_as_half(unsigned short bits) { return __half::of(bits); }
