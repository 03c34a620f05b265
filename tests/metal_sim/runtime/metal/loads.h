// In a build that counts loads (METAL_SIM_COUNT) clang calls one of these before each load that the
// code contains, of so many bytes; also before the library is connected. Hidden, so that a
// sanitizer's own are not taken instead.
#pragma once
#include "exchange.h"

#ifdef METAL_SIM_COUNT
#define SIM_LOADED(bytes)                                                               \
  extern "C" __attribute__((visibility("hidden"), used, no_sanitize("coverage"))) void  \
      __sanitizer_cov_load##bytes(const void* from) {                                   \
    if (metal_sim::runtime) metal_sim::runtime->loaded(from);                           \
  }
SIM_LOADED(1)
SIM_LOADED(2)
SIM_LOADED(4)
SIM_LOADED(8)
SIM_LOADED(16)
#undef SIM_LOADED
#endif
