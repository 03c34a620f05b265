// simdgroup_matrix: 8 x 8 elements over 32 lanes, two a lane.
#pragma once
#include "address_spaces.h"
#include "simdgroup.h"

namespace metal_sim {

// Lane -> its row and the first of its two columns: the layout MLX's own kernels rely on. Metal
// leaves it open, so that a kernel may use thread_elements() only where it does not matter.
inline int matrix_row(uint32_t lane) { return int((lane / 4 & 4) + lane / 2 % 4); }
inline int matrix_column(uint32_t lane) { return int((lane / 4 & 2) * 2 + lane % 2 * 2); }

struct Place {
  int row, column;
};
inline Place place() {
  const uint32_t lane = runtime->thread->lane;
  return {matrix_row(lane), matrix_column(lane)};
}

// Notes what must be the same in all lanes (see Thread::trace).
SIM_UNSEEN inline void trace(const void* address, uint64_t stride, bool transposed, Site site) {
  Thread& thread = *runtime->thread;
  const uint64_t values[] = {reinterpret_cast<uint64_t>(address), stride * 2 + transposed,
                             uint64_t(site.line) << 16 | uint64_t(site.column)};
  for (uint64_t value : values) thread.trace = (thread.trace ^ value) * 0x9E3779B97F4A7C15u;
  thread.traced = site;
}

// One lane's elements of a, b and c; the product is left in c.
struct Operands {
  float a[2], b[2], c[2];
};

// c += a * b in float32, k ascending. The sums of a GPU may be ordered otherwise.
struct MultiplyAccumulate {
  SIM_UNSEEN static void combine(void** io, uint32_t) {
    float a[8][8], b[8][8], c[8][8];
    for (int lane = 0; lane < kLanes; lane++) {
      const Operands& from = *static_cast<Operands*>(io[lane]);
      const int row = matrix_row(lane), column = matrix_column(lane);
      __builtin_memcpy(&a[row][column], from.a, sizeof from.a);
      __builtin_memcpy(&b[row][column], from.b, sizeof from.b);
      __builtin_memcpy(&c[row][column], from.c, sizeof from.c);
    }
    for (int row = 0; row < 8; row++) {
      for (int k = 0; k < 8; k++) {
        for (int column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
      }
    }
    for (int lane = 0; lane < kLanes; lane++) {
      Operands& to = *static_cast<Operands*>(io[lane]);
      __builtin_memcpy(to.c, &c[matrix_row(lane)][matrix_column(lane)], sizeof to.c);
    }
  }
};

}  // namespace metal_sim

namespace metal {

template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8, "Metal has 8 x 8 simdgroup matrices only");
  static_assert(is_floating_point<T>::value, "simdgroup matrices hold float, half or bfloat");
  vec<T, 2> elements;

  simdgroup_matrix() : elements(metal_sim::poison<vec<T, 2>>()) {}
  explicit simdgroup_matrix(T all) {
    elements[0] = all;
    elements[1] = all;
  }
  vec<T, 2>& thread_elements() { return elements; }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int Columns, int Rows>
inline simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T all) {
  return simdgroup_matrix<T, Columns, Rows>(all);
}

// origin is (column, row), stride the elements from row to row; transposed swaps the two.
#define SIM_LOAD_STORE(SPACE)                                                                   \
  template <class T>                                                                            \
  inline void simdgroup_load(simdgroup_matrix<T, 8, 8>& to, const SPACE T* from,                \
                             ulong stride = 8, ulong2 origin = ulong2{0, 0},                    \
                             bool transposed = false, SIM_SITE) {                               \
    const metal_sim::Place at = metal_sim::place();                                             \
    from += origin[1] * stride + origin[0];                                                     \
    metal_sim::trace((const void*)from, stride, transposed, SIM_HERE);                          \
    for (int j = 0; j < 2; j++) {                                                               \
      const ulong row = transposed ? at.column + j : at.row;                                    \
      const ulong column = transposed ? at.row : at.column + j;                                 \
      to.elements[j] = from[row * stride + column];                                             \
    }                                                                                           \
  }                                                                                             \
  template <class T>                                                                            \
  inline void simdgroup_store(simdgroup_matrix<T, 8, 8> from, SPACE T* to, ulong stride = 8,    \
                              ulong2 origin = ulong2{0, 0}, bool transposed = false,            \
                              SIM_SITE) {                                                       \
    const metal_sim::Place at = metal_sim::place();                                             \
    to += origin[1] * stride + origin[0];                                                       \
    metal_sim::trace((const void*)to, stride, transposed, SIM_HERE);                            \
    for (int j = 0; j < 2; j++) {                                                               \
      const ulong row = transposed ? at.column + j : at.row;                                    \
      const ulong column = transposed ? at.row : at.column + j;                                 \
      to[row * stride + column] = from.elements[j];                                             \
    }                                                                                           \
  }
SIM_LOAD_STORE(SIM_DEVICE)
#ifdef METAL_SIM_CHECK
SIM_LOAD_STORE(SIM_THREADGROUP)
#endif
#undef SIM_LOAD_STORE

template <class D, class A, class B, class C>
inline void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                                          simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c,
                                          SIM_SITE) {
  metal_sim::Operands all;
  for (int j = 0; j < 2; j++) {
    all.a[j] = static_cast<float>(a.elements[j]);
    all.b[j] = static_cast<float>(b.elements[j]);
    all.c[j] = static_cast<float>(c.elements[j]);
  }
  metal_sim::runtime->meet(metal_sim::Meeting::kMatrix, &metal_sim::MultiplyAccumulate::combine,
                           &all, 0, SIM_HERE);
  for (int j = 0; j < 2; j++) d.elements[j] = static_cast<D>(all.c[j]);
}

template <class D, class A, class B>
inline void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                               simdgroup_matrix<B, 8, 8> b, SIM_SITE) {
  const simdgroup_matrix<D, 8, 8> zero(static_cast<D>(0.0f));
  simdgroup_multiply_accumulate(d, a, b, zero, SIM_SAME_SITE);
}

}  // namespace metal
