// What the thread sanitizer is told. To it each thread of each threadgroup is a thread of its own,
// which starts and ends within the dispatch; barriers with mem_flags are all that orders it with
// others. Without the sanitizer the functions here do nothing.
#pragma once
#include "worker.h"

namespace metal_sim {
namespace {

#ifdef SIM_TSAN

constexpr unsigned kNoOrder = __tsan_switch_to_fiber_no_sync;

// Memory that nobody had before in this dispatch: accesses to it are compared with nobody else's.
// Freed after the dispatch, since freeing is an access too. That malloc is none is the doing of
// ignore_noninstrumented_modules.
struct Chunk {
  Chunk* next;
};
Chunk* chunks;

void* chunk(size_t bytes) {
  Chunk* made = static_cast<Chunk*>(malloc(64 + bytes));
  made->next = chunks;
  chunks = made;
  return reinterpret_cast<char*>(made) + 64;
}

// What barriers release and acquire: two marks for the threadgroup and two for each simdgroup, in
// turns. A thread may come to the next barrier before another has left this one, and what it did in
// between must stay unordered.
constexpr size_t kMarkBytes = (1 + kMaxThreads / kLanes) * 16;
char* marks;
char launched, finished;

char* barrier_mark(Worker& worker, int mem_flags) {
  if (!mem_flags) return nullptr;
  const bool whole = worker.meeting == Meeting::kThreadgroupBarrier;
  uint32_t& passed = whole ? worker.barriers : worker.simdgroup_barriers;
  const size_t scope = whole ? 0 : 1 + worker.thread.simdgroup;
  return marks + scope * 16 + passed++ % 2 * 8;
}

void release_mark(char* mark) {
  if (mark) __tsan_release(mark);
}

void acquire_mark(char* mark) {
  if (mark) __tsan_acquire(mark);
}

void start_threads(uint32_t count) {
  caller.context = __tsan_get_current_fiber();
  marks = static_cast<char*>(chunk(kMarkBytes));
  __tsan_release(&launched);
  for (uint32_t i = 0; i < count; i++) {
    workers[i].fiber.context = __tsan_create_fiber(0);
    __tsan_switch_to_fiber(workers[i].fiber.context, kNoOrder);
    __tsan_acquire(&launched);
    __tsan_switch_to_fiber(caller.context, kNoOrder);
  }
}

void end_threads(uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    __tsan_switch_to_fiber(workers[i].fiber.context, kNoOrder);
    __tsan_release(&finished);
    __tsan_switch_to_fiber(caller.context, kNoOrder);
    __tsan_destroy_fiber(workers[i].fiber.context);
  }
}

void end_dispatch() {
  __tsan_acquire(&finished);
  for (Chunk* next; chunks; chunks = next) {
    next = chunks->next;
    free(chunks);
  }
}

#else

char* barrier_mark(Worker&, int) { return nullptr; }
void release_mark(char*) {}
void acquire_mark(char*) {}
void start_threads(uint32_t) {}
void end_threads(uint32_t) {}
void end_dispatch() {}

#endif

}  // namespace
}  // namespace metal_sim
