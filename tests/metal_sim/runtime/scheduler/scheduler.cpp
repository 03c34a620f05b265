// Runs a dispatch: one threadgroup after the other, each GPU thread a fiber. A fiber runs until it
// meets others, at a simdgroup operation or a barrier. The caller chooses the order in which fibers
// and threadgroups run: a right kernel gives the same result in any.
#include <sys/stat.h>

#include "buffers.h"
#include "faults.h"
#include "meeting.h"
#include "races.h"
#include "threadgroup_memory.h"
#include "worker.h"

namespace metal_sim {
namespace {

Body body;
void** buffers;
uint32_t full[3];  // threads in a threadgroup that the edge of the grid does not cut
uint32_t groups[3];  // threadgroups in the grid

// ---- fibers ----

size_t made_workers;
size_t made_stack_bytes;

// Stacks start at different cache sets: at one and the same, 128 of them would evict each other.
constexpr size_t kOffsets = 64, kOffsetBytes = 832;
size_t stack_offset(size_t index) { return index % kOffsets * kOffsetBytes; }

void worker_main() {
  arrived();
  for (;;) {  // once a threadgroup
    body(buffers);
    running->state = State::kDone;
    go_on_from(running->fiber);
  }
}

bool make_workers(size_t count) {
  const size_t bytes = dispatch->stack_bytes + kOffsets * kOffsetBytes;
  if (bytes != made_stack_bytes) {
    for (size_t i = 0; i < made_workers; i++) release(workers[i].fiber);
    made_workers = 0;
    made_stack_bytes = bytes;
  }
  for (; made_workers < count; made_workers++) {
    Fiber& fiber = workers[made_workers].fiber;
    if (!allocate(fiber, bytes)) return false;
    prepare(fiber, worker_main, stack_offset(made_workers));
  }
  return true;
}

// After an error fibers stand in the middle of the kernel: they start anew.
void reset_workers() {
  for (size_t i = 0; i < made_workers; i++) {
    prepare(workers[i].fiber, worker_main, stack_offset(i));
  }
}

// ---- the grid ----

// Makes `worker` thread number `index` of a threadgroup.
void place(Worker& worker, const uint32_t* group, const uint32_t* size, uint32_t index) {
  const uint32_t position[3] = {index % size[0], index / size[0] % size[1],
                                index / size[0] / size[1]};
  Thread& thread = worker.thread;
  thread = Thread{};
  for (int d = 0; d < 3; d++) {
    thread.position_in_threadgroup[d] = position[d];
    thread.position_in_grid[d] = group[d] * full[d] + position[d];
    thread.threadgroup_position[d] = group[d];
    thread.threads_per_threadgroup[d] = size[d];
    thread.full_threads_per_threadgroup[d] = full[d];
    thread.threads_per_grid[d] = dispatch->grid[d];
    thread.threadgroups_per_grid[d] = groups[d];
  }
  thread.index_in_threadgroup = index;
  thread.lane = index % kLanes;
  thread.simdgroup = index / kLanes;
  thread.simdgroups = (size[0] * size[1] * size[2] + kLanes - 1) / kLanes;
  thread.full_simdgroups = (full[0] * full[1] * full[2] + kLanes - 1) / kLanes;
  worker.state = State::kReady;
  worker.site = Site{};
  worker.barriers = worker.simdgroup_barriers = 0;
  worker.loads = worker.products = 0;
}

// What a sanitizer has written so far: more after a threadgroup means that this one did something.
off_t report_bytes() {
  struct stat file;
  return dispatch->reports && !stat(dispatch->reports, &file) ? file.st_size : 0;
}

// Threadgroup `number` of the grid. Those at its far edges may be smaller, as with dispatchThreads.
void run_number(uint64_t number) {
  const uint32_t group[3] = {static_cast<uint32_t>(number % groups[0]),
                             static_cast<uint32_t>(number / groups[0] % groups[1]),
                             static_cast<uint32_t>(number / groups[0] / groups[1])};
  uint32_t size[3];
  for (int d = 0; d < 3; d++) {
    const uint32_t left = dispatch->grid[d] - group[d] * full[d];
    size[d] = left < full[d] ? left : full[d];
  }
  const uint32_t count = size[0] * size[1] * size[2];
  for (uint32_t i = 0; i < count; i++) place(workers[i], group, size, i);
  const off_t reported = report_bytes();
  running = workers;
  start_threads(count);
  run_threadgroup(count);
  end_threads(count);
  if (report_bytes() > reported) report("reported by the sanitizer");
  running = nullptr;
  drop_shared();
  dispatch->threadgroups++;
  dispatch->threads += count;
}

uint64_t common_divisor(uint64_t a, uint64_t b) {
  while (b) {
    const uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

// All threadgroups: every `stride`-th, around the grid. A stride without a divisor in common with
// their number meets each once.
void run_grid() {
  const uint64_t total = uint64_t(groups[0]) * groups[1] * groups[2];
  uint64_t number = 0, stride = 1;
  if (dispatch->order == Order::kReverse) number = stride = total - 1;
  if (dispatch->order == Order::kRandom) {
    const uint32_t bound = total < UINT32_MAX ? static_cast<uint32_t>(total) : UINT32_MAX;
    number = random_below(bound);
    do stride = 1 + random_below(bound);
    while (common_divisor(stride, total) != 1);
  }
  for (uint64_t i = 0; i < total && !failed; i++) {
    run_number(number);
    number = (number + stride) % total;
  }
}

}  // namespace

extern "C" Runtime* metal_sim_runtime() { return &runtime; }

// Runs kernel(values) once a thread. 0, or 1 with what went wrong in to_run->error.
extern "C" int metal_sim_dispatch(Dispatch* to_run, Body kernel, void** values) {
  dispatch = to_run;
  body = kernel;
  buffers = values;
  failed = false;
  seed_random(to_run->seed);
  for (int d = 0; d < 3; d++) {
    const uint32_t threads = to_run->threadgroup[d];
    full[d] = threads < to_run->grid[d] ? threads : to_run->grid[d];
    groups[d] = (to_run->grid[d] + full[d] - 1) / full[d];
  }
  if (!make_workers(size_t(full[0]) * full[1] * full[2])) {
    report("no memory for the threads of a threadgroup");
    return 1;
  }
  catch_faults();
  run_grid();
  stop_catching();
  if (failed) reset_workers();
  end_dispatch();
  return failed;
}

}  // namespace metal_sim
