/* What kernels use of NVIDIA's cuda_bf16.h, each conversion rounded once to nearest even. */
#pragma once
#include "narrow.h"

typedef cuda_host::Narrow<8, 7> __nv_bfloat16;

inline float __bfloat162float(__nv_bfloat16 b) { return float(b.to_double()); }
inline __nv_bfloat16 __double2bfloat16(double value) { return __nv_bfloat16(value); }
inline __nv_bfloat16 __float2bfloat16(float value) { return __nv_bfloat16(value); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return __nv_bfloat16(value); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) { return b.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16::of(bits); }
