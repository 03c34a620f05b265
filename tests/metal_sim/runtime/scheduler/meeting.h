// How threads meet: the lanes of a simdgroup at its operations, a threadgroup at its barriers. The
// last to come lets the others go on, so that a meeting costs one switch of fibers a thread.
#pragma once
#include "counts.h"
#include "threadgroup_memory.h"

namespace metal_sim {
namespace {

void meet(Meeting, Combine, void*, int, Site);
Runtime runtime = {nullptr, loaded, meet, shared};

Worker* lanes;  // of the simdgroup that runs
int lane_count;
uint8_t lane_order[kLanes];
int cursor;  // into lane_order: up to here they have run

// ---- a simdgroup ----

void report_divergence(const Worker& first, const Worker& other) {
  if (other.state == State::kDone) {
    report("%s at %s:%d: lane %u has returned", name(first.meeting), first.site.file,
           first.site.line, other.thread.lane);
  } else {
    report("divergent %s: lane %u is at %s:%d, lane %u at the %s at %s:%d", name(first.meeting),
           first.thread.lane, first.site.file, first.site.line, other.thread.lane,
           name(other.meeting), other.site.file, other.site.line);
  }
}

void report_traces(const Worker& first, const Worker& other) {
  const Site traced = first.thread.traced.file ? first.thread.traced : other.thread.traced;
  report("simdgroup_load or simdgroup_store at %s:%d, or one before it, differs between lanes %u "
         "and %u: in place, address or stride",
         traced.file, traced.line, first.thread.lane, other.thread.lane);
}

// Whether a lane may meet the first one where that waits; reports why not.
bool joins(const Worker& first, const Worker& lane) {
  if (lane.state != State::kAtSimdgroup || lane.combine != first.combine ||
      !same(lane.site, first.site)) {
    report_divergence(first, lane);
    return false;
  }
  if (lane.thread.trace != first.thread.trace) {
    report_traces(first, lane);
    return false;
  }
  return true;
}

Worker* first_waiting_lane() {
  for (int i = 0; i < lane_count; i++) {
    if (lanes[i].state == State::kAtSimdgroup) return &lanes[i];
  }
  return nullptr;
}

// Every lane waits or has returned: lets those at a simdgroup operation go on. False where there is
// none. Lanes that have returned take no part; a matrix operation needs all 32.
bool complete_simdgroup() {
  const Worker* first = first_waiting_lane();
  if (!first) return false;
  const bool matrix = first->meeting == Meeting::kMatrix;
  if (matrix && lane_count < kLanes) {
    report("%s at %s:%d in a simdgroup of %d threads: it needs 32", name(first->meeting),
           first->site.file, first->site.line, lane_count);
    return false;
  }
  void* io[kLanes] = {};
  uint32_t present = 0;
  for (int i = 0; i < lane_count; i++) {
    if (lanes[i].state == State::kDone && !matrix) continue;
    if (!joins(*first, lanes[i])) return false;
    io[i] = lanes[i].io;
    present |= 1u << i;
  }
  if (first->combine) first->combine(io, present);
  for (int i = 0; i < lane_count; i++) {
    if (present >> i & 1) lanes[i].state = State::kReady;
  }
  dispatch->collectives++;
  if (matrix) count_product(lanes[0]);
  return true;
}

// The next lane of this simdgroup that can run; null when all wait at a threadgroup_barrier or have
// returned, or after an error.
Worker* next_lane() {
  for (;;) {
    while (++cursor < lane_count) {
      Worker* lane = &lanes[lane_order[cursor]];
      if (lane->state == State::kReady) return lane;
    }
    if (failed || !complete_simdgroup()) return nullptr;
    if (dispatch->order == Order::kRandom) arrange(lane_order, lane_count);
    cursor = -1;
  }
}

// Leaves a fiber for the next lane's, or for the caller's where there is none.
void go_on_from(Fiber& fiber) {
  Worker* next = next_lane();
  if (next) {
    const bool stays = &next->fiber == &fiber;
    running = next;
    runtime.thread = &next->thread;
    if (stays) return;
  }
  Fiber& to = next ? next->fiber : caller;
  if (&to != &fiber) switch_fibers(fiber, to);
}

// Runs the lanes until all wait at a threadgroup_barrier or have returned.
void run_simdgroup(Worker* first, int count) {
  lanes = first;
  lane_count = count;
  arrange(lane_order, count);
  cursor = -1;
  go_on_from(caller);
}

void meet(Meeting kind, Combine combine, void* io, int mem_flags, Site site) {
  Worker& me = *running;
  me.meeting = kind;
  me.combine = combine;
  me.io = io;
  me.site = site;
  const bool whole = kind == Meeting::kThreadgroupBarrier;
  me.state = whole ? State::kAtThreadgroup : State::kAtSimdgroup;
  char* mark = barrier_mark(me, mem_flags);
  release_mark(mark);
  go_on_from(me.fiber);
  acquire_mark(mark);
}

// ---- a threadgroup ----

// All threads wait at a threadgroup_barrier or have returned: lets them go on if it is one barrier.
void release_barrier(uint32_t count) {
  const Worker* first = nullptr;
  uint32_t waiting = 0;
  for (uint32_t i = 0; i < count; i++) {
    const Worker& worker = workers[i];
    if (worker.state != State::kAtThreadgroup) continue;
    waiting++;
    if (!first) first = &worker;
    if (same(first->site, worker.site)) continue;
    report("divergent threadgroup_barrier: thread %u is at %s:%d, thread %u at %s:%d",
           first->thread.index_in_threadgroup, first->site.file, first->site.line,
           worker.thread.index_in_threadgroup, worker.site.file, worker.site.line);
    return;
  }
  if (waiting < count) {
    report("threadgroup_barrier at %s:%d reached by %u of %u threads: the others have returned",
           first->site.file, first->site.line, waiting, count);
    return;
  }
  for (uint32_t i = 0; i < count; i++) workers[i].state = State::kReady;
  dispatch->barriers++;
}

bool all_done(uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (workers[i].state != State::kDone) return false;
  }
  return true;
}

// Loads and stores after the last meeting of a simdgroup are compared when all have returned.
void check_last_traces(uint32_t count) {
  for (uint32_t i = 0; i < count && !failed; i++) {
    const Worker& first = workers[i / kLanes * kLanes];
    if (workers[i].thread.trace != first.thread.trace) report_traces(first, workers[i]);
  }
}

void run_threadgroup(uint32_t count) {
  const uint32_t simdgroups = (count + kLanes - 1) / kLanes;
  uint8_t order[kMaxThreads / kLanes];
  for (;;) {
    arrange(order, simdgroups);
    for (uint32_t i = 0; i < simdgroups; i++) {
      const uint32_t first = order[i] * kLanes;
      const uint32_t left = count - first;
      run_simdgroup(workers + first, left < kLanes ? left : kLanes);
      if (failed) return;
    }
    if (all_done(count)) return check_last_traces(count);
    release_barrier(count);
    if (failed) return;
  }
}

}  // namespace
}  // namespace metal_sim
