// Functions of single values. `precise` and `fast` are both what the C library gives.
// bfloat has none, as in Metal: it has to be cast to float first.
#pragma once
#include "types.h"

namespace metal {

#define SIM_UNARY(name, builtin)                                                      \
  inline float name(float x) { return builtin(x); }                                   \
  inline half name(half x) { return static_cast<half>(builtin(static_cast<float>(x))); } \
  void name(bfloat) = delete;

#define SIM_BINARY(name, builtin)                                                     \
  inline float name(float x, float y) { return builtin(x, y); }                       \
  inline half name(half x, half y) {                                                  \
    return static_cast<half>(builtin(static_cast<float>(x), static_cast<float>(y)));  \
  }                                                                                   \
  void name(bfloat, bfloat) = delete;

#define SIM_FUNCTIONS                       \
  SIM_UNARY(acos, __builtin_acosf)          \
  SIM_UNARY(acosh, __builtin_acoshf)        \
  SIM_UNARY(asin, __builtin_asinf)          \
  SIM_UNARY(asinh, __builtin_asinhf)        \
  SIM_UNARY(atan, __builtin_atanf)          \
  SIM_UNARY(atanh, __builtin_atanhf)        \
  SIM_UNARY(ceil, __builtin_ceilf)          \
  SIM_UNARY(cos, __builtin_cosf)            \
  SIM_UNARY(cosh, __builtin_coshf)          \
  SIM_UNARY(exp, __builtin_expf)            \
  SIM_UNARY(exp2, __builtin_exp2f)          \
  SIM_UNARY(fabs, __builtin_fabsf)          \
  SIM_UNARY(floor, __builtin_floorf)        \
  SIM_UNARY(log, __builtin_logf)            \
  SIM_UNARY(log10, __builtin_log10f)        \
  SIM_UNARY(log2, __builtin_log2f)          \
  SIM_UNARY(rint, __builtin_rintf)          \
  SIM_UNARY(round, __builtin_roundf)        \
  SIM_UNARY(rsqrt, 1.0f / __builtin_sqrtf)  \
  SIM_UNARY(sin, __builtin_sinf)            \
  SIM_UNARY(sinh, __builtin_sinhf)          \
  SIM_UNARY(sqrt, __builtin_sqrtf)          \
  SIM_UNARY(tan, __builtin_tanf)            \
  SIM_UNARY(tanh, __builtin_tanhf)          \
  SIM_UNARY(trunc, __builtin_truncf)        \
  SIM_BINARY(atan2, __builtin_atan2f)       \
  SIM_BINARY(copysign, __builtin_copysignf) \
  SIM_BINARY(fmax, __builtin_fmaxf)         \
  SIM_BINARY(fmin, __builtin_fminf)         \
  SIM_BINARY(fmod, __builtin_fmodf)         \
  SIM_BINARY(pow, __builtin_powf)           \
  inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

SIM_FUNCTIONS
namespace precise {
SIM_FUNCTIONS
}
namespace fast {
SIM_FUNCTIONS
}
#undef SIM_FUNCTIONS
#undef SIM_BINARY
#undef SIM_UNARY

// ---- any arithmetic type ----

template <class T>
inline T abs(T x) { return x < T(0) ? T(-x) : x; }
template <class T>
inline T min(T a, T b) { return b < a ? b : a; }
template <class T>
inline T max(T a, T b) { return a < b ? b : a; }
// Of a number and a NaN, the number.
inline float abs(float x) { return __builtin_fabsf(x); }
inline float min(float a, float b) { return __builtin_fminf(a, b); }
inline float max(float a, float b) { return __builtin_fmaxf(a, b); }
inline half min(half a, half b) { return static_cast<half>(min(float(a), float(b))); }
inline half max(half a, half b) { return static_cast<half>(max(float(a), float(b))); }
// With these, a call with two types is ambiguous where Metal has it so.
inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline uint min(uint a, uint b) { return b < a ? b : a; }
inline uint max(uint a, uint b) { return a < b ? b : a; }
template <class T>
inline T clamp(T x, T low, T high) { return min(max(x, low), high); }
template <class T>
inline T select(T if_false, T if_true, bool condition) { return condition ? if_true : if_false; }
template <class T>
inline T sign(T x) { return T((x > T(0)) - (x < T(0))); }
template <class T>
inline T mix(T a, T b, T part) { return T(a + (b - a) * part); }

inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }

#ifndef METAL_SIM_CHECK
template <class T, int N>
inline T dot(vec<T, N> a, vec<T, N> b) {
  T sum = a[0] * b[0];
  for (int i = 1; i < N; i++) sum = T(sum + a[i] * b[i]);
  return sum;
}
#else
template <class V>
inline auto dot(V a, V b) { return a[0] * b[0]; }
#endif

// ---- integers ----

inline uint mulhi(uint a, uint b) { return uint((uint64_t(a) * b) >> 32); }
inline int mulhi(int a, int b) { return int((int64_t(a) * b) >> 32); }
inline uint popcount(uint x) { return uint(__builtin_popcount(x)); }
inline int popcount(int x) { return __builtin_popcount(uint(x)); }
inline uint clz(uint x) { return x ? uint(__builtin_clz(x)) : 32u; }
inline int clz(int x) { return x ? __builtin_clz(uint(x)) : 32; }
inline uint ctz(uint x) { return x ? uint(__builtin_ctz(x)) : 32u; }
inline int ctz(int x) { return x ? __builtin_ctz(uint(x)) : 32; }
template <class T>
inline T rotate(T x, T by) {
  by &= T(8 * sizeof(T) - 1);
  return by ? T((x << by) | (x >> (T(8 * sizeof(T)) - by))) : x;
}
template <class T>
inline T extract_bits(T x, uint offset, uint bits) {
  return bits == 8 * sizeof(T) ? x : T((x >> offset) & ((T(1) << bits) - 1));
}

}  // namespace metal
