// The [[attributes]] of a kernel's parameters: attribute_NAME() is what one thread sees.
#pragma once
#include "simdgroup.h"

namespace metal_sim {

// A parameter may be a scalar or a vector of any integer type.
template <class T>
struct Parameter {
  static T from(const uint32_t* values) { return static_cast<T>(values[0]); }
};
#ifndef METAL_SIM_CHECK
template <class T>
struct Parameter<metal::vec<T, 2>> {
  static metal::vec<T, 2> from(const uint32_t* values) {
    return {static_cast<T>(values[0]), static_cast<T>(values[1])};
  }
};
template <class T>
struct Parameter<metal::vec<T, 3>> {
  static metal::vec<T, 3> from(const uint32_t* values) {
    return {static_cast<T>(values[0]), static_cast<T>(values[1]), static_cast<T>(values[2])};
  }
};
#endif

static const uint32_t lanes_of_a_simdgroup = kLanes;
static const uint32_t origin[3] = {0, 0, 0};

#define SIM_ATTRIBUTE(name, values) \
  inline const uint32_t* attribute_##name() { return values; }
SIM_ATTRIBUTE(thread_position_in_grid, runtime->thread->position_in_grid)
SIM_ATTRIBUTE(thread_position_in_threadgroup, runtime->thread->position_in_threadgroup)
SIM_ATTRIBUTE(thread_index_in_threadgroup, &runtime->thread->index_in_threadgroup)
SIM_ATTRIBUTE(thread_index_in_simdgroup, &runtime->thread->lane)
SIM_ATTRIBUTE(threadgroup_position_in_grid, runtime->thread->threadgroup_position)
SIM_ATTRIBUTE(threads_per_threadgroup, runtime->thread->threads_per_threadgroup)
SIM_ATTRIBUTE(dispatch_threads_per_threadgroup, runtime->thread->full_threads_per_threadgroup)
SIM_ATTRIBUTE(threads_per_grid, runtime->thread->threads_per_grid)
SIM_ATTRIBUTE(grid_size, runtime->thread->threads_per_grid)
SIM_ATTRIBUTE(grid_origin, origin)
SIM_ATTRIBUTE(threadgroups_per_grid, runtime->thread->threadgroups_per_grid)
SIM_ATTRIBUTE(simdgroup_index_in_threadgroup, &runtime->thread->simdgroup)
SIM_ATTRIBUTE(simdgroups_per_threadgroup, &runtime->thread->simdgroups)
SIM_ATTRIBUTE(dispatch_simdgroups_per_threadgroup, &runtime->thread->full_simdgroups)
SIM_ATTRIBUTE(threads_per_simdgroup, &lanes_of_a_simdgroup)
SIM_ATTRIBUTE(thread_execution_width, &lanes_of_a_simdgroup)
#undef SIM_ATTRIBUTE

}  // namespace metal_sim
