// Barriers and the operations of a simdgroup, as Metal names them.
#pragma once
#include "exchange.h"

namespace metal {

// ---- barriers ----

enum class mem_flags : int {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
};
inline mem_flags operator|(mem_flags a, mem_flags b) {
  return static_cast<mem_flags>(static_cast<int>(a) | static_cast<int>(b));
}

inline void threadgroup_barrier(mem_flags flags, SIM_SITE) {
  metal_sim::runtime->meet(metal_sim::Meeting::kThreadgroupBarrier, nullptr, nullptr,
                           static_cast<int>(flags), SIM_HERE);
}
inline void simdgroup_barrier(mem_flags flags, SIM_SITE) {
  metal_sim::runtime->meet(metal_sim::Meeting::kSimdgroupBarrier, nullptr, nullptr,
                           static_cast<int>(flags), SIM_HERE);
}

// ---- reductions and prefix sums ----

#define SIM_REDUCE(name, Kind, Operation)                                                       \
  template <class T>                                                                            \
  inline T name(T value, SIM_SITE) {                                                            \
    return metal_sim::exchange(&metal_sim::Kind<T, metal_sim::Operation<T>>::combine, value, 0, \
                               value, SIM_HERE);                                                \
  }
SIM_REDUCE(simd_sum, Reduce, Sum)
SIM_REDUCE(simd_product, Reduce, Product)
SIM_REDUCE(simd_max, Reduce, Max)
SIM_REDUCE(simd_min, Reduce, Min)
SIM_REDUCE(simd_and, Reduce, And)
SIM_REDUCE(simd_or, Reduce, Or)
SIM_REDUCE(simd_xor, Reduce, Xor)
SIM_REDUCE(quad_sum, QuadReduce, Sum)
SIM_REDUCE(quad_product, QuadReduce, Product)
SIM_REDUCE(quad_max, QuadReduce, Max)
SIM_REDUCE(quad_min, QuadReduce, Min)
SIM_REDUCE(quad_and, QuadReduce, And)
SIM_REDUCE(quad_or, QuadReduce, Or)
SIM_REDUCE(quad_xor, QuadReduce, Xor)
#undef SIM_REDUCE

#define SIM_PREFIX(name, Operation, inclusive)                                                  \
  template <class T>                                                                            \
  inline T name(T value, SIM_SITE) {                                                            \
    return metal_sim::exchange(                                                                 \
        &metal_sim::Prefix<T, metal_sim::Operation<T>, inclusive>::combine, value, 0, value,    \
        SIM_HERE);                                                                              \
  }
SIM_PREFIX(simd_prefix_inclusive_sum, Sum, true)
SIM_PREFIX(simd_prefix_exclusive_sum, Sum, false)
SIM_PREFIX(simd_prefix_inclusive_product, Product, true)
SIM_PREFIX(simd_prefix_exclusive_product, Product, false)
#undef SIM_PREFIX

// ---- shuffles and broadcasts ----

#define SIM_SHUFFLE(name, Source)                                                               \
  template <class T>                                                                            \
  inline T name(T value, ushort by, SIM_SITE) {                                                 \
    return metal_sim::exchange(&metal_sim::Shuffle<T, metal_sim::Source>::combine, value, by,   \
                               value, SIM_HERE);                                                \
  }
SIM_SHUFFLE(simd_shuffle, From)
SIM_SHUFFLE(simd_broadcast, From)
SIM_SHUFFLE(simd_shuffle_xor, FromXor)
SIM_SHUFFLE(simd_shuffle_down, FromAbove)
SIM_SHUFFLE(simd_shuffle_up, FromBelow)
SIM_SHUFFLE(simd_shuffle_rotate_down, RotatedDown)
SIM_SHUFFLE(simd_shuffle_rotate_up, RotatedUp)
SIM_SHUFFLE(quad_shuffle, FromQuad)
SIM_SHUFFLE(quad_broadcast, FromQuad)
SIM_SHUFFLE(quad_shuffle_xor, FromQuadXor)
SIM_SHUFFLE(quad_shuffle_down, FromQuadAbove)
SIM_SHUFFLE(quad_shuffle_up, FromQuadBelow)
#undef SIM_SHUFFLE

#define SIM_FILL(name, Source)                                                                  \
  template <class T>                                                                            \
  inline T name(T value, T filling, ushort by, SIM_SITE) {                                      \
    return metal_sim::exchange(&metal_sim::Fill<T, metal_sim::Source>::combine, value, by,      \
                               filling, SIM_HERE);                                              \
  }
SIM_FILL(simd_shuffle_and_fill_down, FromAbove)
SIM_FILL(simd_shuffle_and_fill_up, FromBelow)
#undef SIM_FILL

// ---- votes ----

struct simd_vote {
  typedef ulong vote_t;
  vote_t votes;
  explicit simd_vote(vote_t v) : votes(v) {}
  explicit operator vote_t() const { return votes; }
};

inline simd_vote simd_ballot(bool vote, SIM_SITE) {
  return simd_vote(metal_sim::ballot(vote, SIM_HERE));
}
inline simd_vote simd_active_threads_mask(SIM_SITE) {
  return simd_vote(metal_sim::ballot(true, SIM_HERE));
}
inline bool simd_any(bool vote, SIM_SITE) { return metal_sim::ballot(vote, SIM_HERE) != 0; }
inline bool simd_all(bool vote, SIM_SITE) { return metal_sim::ballot(!vote, SIM_HERE) == 0; }
inline bool simd_is_first(SIM_SITE) {
  const uint here = metal_sim::ballot(true, SIM_HERE);
  return metal_sim::runtime->thread->lane == uint(__builtin_ctz(here));
}
template <class T>
inline T simd_broadcast_first(T value, SIM_SITE) {
  const uint here = metal_sim::ballot(true, SIM_HERE);
  return simd_broadcast(value, ushort(__builtin_ctz(here)), SIM_SAME_SITE);
}

}  // namespace metal
