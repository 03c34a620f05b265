// The variables that the threads of a threadgroup share.
#pragma once
#include "races.h"
#include "worker.h"

namespace metal_sim {
namespace {

void* variables[kMaxVariables];
size_t shared_bytes;

// Each variable is a block of its own, for the address sanitizer.
void* allocate_shared(size_t bytes) {
#ifdef SIM_TSAN
  return chunk(bytes);
#else
  void* made = nullptr;
  return posix_memalign(&made, 64, bytes) ? nullptr : made;
#endif
}

// Variable `index`, made and poisoned for the first thread of a threadgroup that gets there.
void* shared(int index, size_t bytes) {
  if (variables[index]) return variables[index];
  shared_bytes += (bytes + 15) & ~size_t(15);
  if (shared_bytes > dispatch->shared_bytes) dispatch->shared_bytes = shared_bytes;
  if (shared_bytes > kMaxShared) {
    report("threadgroup memory: %zu bytes, the limit is %zu", shared_bytes, kMaxShared);
    switch_fibers(running->fiber, caller);
  }
  variables[index] = memset(allocate_shared(bytes), kPoison, bytes);
  return variables[index];
}

void drop_shared() {
  for (void*& variable : variables) {
#ifndef SIM_TSAN
    free(variable);
#endif
    variable = nullptr;
  }
  shared_bytes = 0;
}

}  // namespace
}  // namespace metal_sim
