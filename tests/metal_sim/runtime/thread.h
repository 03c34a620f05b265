// What a kernel's code and the scheduler know of each other: plain data and two function pointers.
// Their libraries are compiled apart and need no common symbol.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace metal_sim {

constexpr int kLanes = 32;  // threads in a simdgroup
constexpr int kMaxThreads = 1024;  // threads in a threadgroup
constexpr size_t kMaxShared = 32768;  // bytes of threadgroup memory
constexpr int kMaxVariables = 64;  // threadgroup variables of one kernel

// A place in the kernel's text. Two calls meet only if they are the same place.
struct Site {
  const char* file;
  int line;
  int column;
};

// One GPU thread, as the [[attributes]] of its kernel describe it.
struct Thread {
  uint32_t position_in_grid[3];
  uint32_t position_in_threadgroup[3];
  uint32_t threadgroup_position[3];
  uint32_t threads_per_threadgroup[3];  // of this threadgroup: smaller at a ragged edge
  uint32_t full_threads_per_threadgroup[3];
  uint32_t threads_per_grid[3];
  uint32_t threadgroups_per_grid[3];
  uint32_t index_in_threadgroup;
  uint32_t lane;
  uint32_t simdgroup;
  uint32_t simdgroups;
  uint32_t full_simdgroups;
  // simdgroup_load and _store run lane by lane, without a switch of threads. What must be the same
  // in all lanes (place, address, stride) is hashed here and compared when the lanes next meet.
  uint64_t trace;
  Site traced;
};

enum class Meeting : uint32_t { kSimd, kMatrix, kSimdgroupBarrier, kThreadgroupBarrier };

// Runs once all lanes have come: io[lane] is what each brought, null where bit `lane` of present is
// not set.
using Combine = void (*)(void** io, uint32_t present);

struct Runtime {
  Thread* thread;  // the one that runs
  void (*loaded)(const void* from);  // called before every load of a build that counts them
  void (*meet)(Meeting kind, Combine combine, void* io, int mem_flags, Site site);
  void* (*shared)(int index, size_t bytes);  // the threadgroup's copy of variable `index`
};

using Body = void (*)(void** buffers);

// Addresses of a buffer in device memory.
struct Region {
  uint64_t begin, end;
};

enum class Order : uint32_t { kForward, kReverse, kRandom };

// One dispatch. Filled by the caller up to `device_buffers`, by the scheduler from there.
struct Dispatch {
  uint32_t grid[3];  // threads
  uint32_t threadgroup[3];  // threads
  Order order;
  uint32_t seed;
  uint64_t stack_bytes;  // private memory of a thread
  const char* reports;  // the file that a sanitizer writes to, or null
  const Region* device;  // the buffers whose loads are counted
  uint64_t device_buffers;
  uint64_t threadgroups;
  uint64_t threads;
  uint64_t barriers;  // threadgroup_barrier, one a threadgroup
  uint64_t collectives;  // simdgroup operations and barriers, one a simdgroup
  uint64_t matrix_products;  // of the collectives, those that multiply matrices
  uint64_t simdgroup_products;  // the most of these of one simdgroup
  uint64_t device_loads;  // of all threads, in a build that counts them
  uint64_t lane_loads;  // the most of one thread
  uint64_t shared_bytes;  // most threadgroup memory of a threadgroup
  uint64_t fault;  // the address of a forbidden access
  char error[512];
};

// The bytes of memory nobody has written: a NaN in every floating-point type, -1 in integers.
constexpr unsigned char kPoison = 0xFF;

}  // namespace metal_sim
