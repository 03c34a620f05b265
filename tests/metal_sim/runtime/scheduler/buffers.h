// Memory for a kernel's buffers. Each ends, to 16 bytes, where a page without access begins:
// running past it faults. Under the address sanitizer malloc sees to that, to the byte.
#pragma once
#include <string.h>

#include "fiber.h"
#include "../thread.h"

namespace metal_sim {

inline size_t guarded_bytes(size_t bytes) {
  return (bytes + kGuardBytes - 1) / kGuardBytes * kGuardBytes + 2 * kGuardBytes;
}

extern "C" void* metal_sim_allocate(size_t bytes) {
#if defined(SIM_ASAN) || defined(SIM_TSAN)
  return malloc(bytes);
#else
  const size_t all = guarded_bytes(bytes);
  void* map = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  char* first = static_cast<char*>(map);
  mprotect(first, kGuardBytes, PROT_NONE);
  mprotect(first + all - kGuardBytes, kGuardBytes, PROT_NONE);
  char* buffer = first + all - kGuardBytes - (bytes + 15) / 16 * 16;
  memset(first + kGuardBytes, kPoison, static_cast<size_t>(buffer - first) - kGuardBytes);
  return buffer;
#endif
}

extern "C" void metal_sim_free(void* buffer, size_t bytes) {
#if defined(SIM_ASAN) || defined(SIM_TSAN)
  (void)bytes;
  free(buffer);
#else
  const size_t all = guarded_bytes(bytes);
  munmap(static_cast<char*>(buffer) + (bytes + 15) / 16 * 16 + kGuardBytes - all, all);
#endif
}

}  // namespace metal_sim
