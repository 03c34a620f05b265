// <metal_stdlib> for a kernel: what kernels use of Metal's standard library, in C++ for clang. The
// kernel's text is compiled as it stands; its keywords become macros.
#pragma once
#pragma clang system_header

#define __METAL__ 1
#define __METAL_VERSION__ 310  // macOS 14, the oldest that MLX runs on
#define __HAVE_BFLOAT__ 1
#define METAL_FUNC inline __attribute__((always_inline))

#include "address_spaces.h"
#include "atomics.h"
#include "attributes.h"
#include "functions.h"
#include "loads.h"
#include "matrix.h"
#include "simdgroup.h"
#include "types.h"

namespace metal_sim {

// A threadgroup variable: one object for all threads of a threadgroup.
template <class T, int kIndex>
inline T& shared() {
  static_assert(kIndex < kMaxVariables, "more threadgroup variables than the simulator has");
  return *static_cast<T*>(runtime->shared(kIndex, sizeof(T)));
}

}  // namespace metal_sim

#undef SIM_SITE
#undef SIM_HERE
#undef SIM_SAME_SITE
#undef SIM_UNSEEN

// MLX's generated signatures use these two without `metal::`.
using metal::uint2;
using metal::uint3;

// Keywords, last: the headers above use some of them as names.
#define double Metal_has_no_double
#define kernel
#define thread
#define device SIM_DEVICE
#define constant const SIM_CONSTANT
#define threadgroup SIM_THREADGROUP
