// The scheduler's state: the threads of the threadgroup that runs, what went wrong, and orders.
#pragma once
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../thread.h"
#include "fiber.h"

namespace metal_sim {
namespace {

enum class State : uint8_t { kReady, kAtSimdgroup, kAtThreadgroup, kDone };

// A GPU thread: its fiber, what its kernel sees, and where it waits.
struct Worker {
  Fiber fiber;
  Thread thread;
  State state;
  Meeting meeting;
  Combine combine;
  void* io;
  Site site;
  uint32_t barriers, simdgroup_barriers;  // passed so far, of those that order memory
  uint64_t loads;  // from device memory so far
  uint64_t products;  // of matrices; a simdgroup's first lane has them
};

Worker workers[kMaxThreads];
Worker* running;  // null between threadgroups
Fiber caller;  // what runs the scheduler
Dispatch* dispatch;
bool failed;

// ---- errors ----

void report(const char* format, ...) {
  if (failed) return;  // the first one is the cause
  failed = true;
  va_list values;
  va_start(values, format);
  vsnprintf(dispatch->error, sizeof dispatch->error, format, values);
  va_end(values);
  if (!running) return;
  const uint32_t* group = running->thread.threadgroup_position;
  const size_t used = strlen(dispatch->error);
  snprintf(dispatch->error + used, sizeof dispatch->error - used, " (threadgroup %u, %u, %u)",
           group[0], group[1], group[2]);
}

const char* name(Meeting meeting) {
  switch (meeting) {
    case Meeting::kSimd: return "simdgroup operation";
    case Meeting::kMatrix: return "simdgroup matrix operation";
    case Meeting::kSimdgroupBarrier: return "simdgroup_barrier";
    case Meeting::kThreadgroupBarrier: return "threadgroup_barrier";
  }
  return "meeting";
}

bool same(Site a, Site b) {
  if (a.line != b.line || a.column != b.column) return false;
  return a.file == b.file || !strcmp(a.file, b.file);
}

// ---- orders ----

uint32_t random_state;

void seed_random(uint32_t seed) {
  random_state = seed * 2654435761u + 0x9E3779B9u;
  if (!random_state) random_state = 1;  // xorshift stays at 0
}

uint32_t random_below(uint32_t bound) {  // xorshift32: the same numbers on every machine
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state % bound;
}

// Fills order[0..count) with 0..count-1 as the dispatch wants them.
void arrange(uint8_t* order, uint32_t count) {
  const bool reverse = dispatch->order == Order::kReverse;
  for (uint32_t i = 0; i < count; i++) {
    order[i] = static_cast<uint8_t>(reverse ? count - 1 - i : i);
  }
  if (dispatch->order != Order::kRandom) return;
  for (uint32_t i = count; i > 1; i--) {
    const uint32_t j = random_below(i);
    const uint8_t kept = order[i - 1];
    order[i - 1] = order[j];
    order[j] = kept;
  }
}

}  // namespace
}  // namespace metal_sim
