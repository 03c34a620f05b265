// A fiber: a stack and a saved stack pointer. Switching costs a few nanoseconds; the sanitizers are
// told of it.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
// The scheduler itself is compiled without -fsanitize=thread, which would record its own accesses.
#ifdef SIM_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateBenignRaceSized(const char* file, int line, const volatile void* memory,
                                        size_t bytes, const char* description);
#endif

namespace metal_sim {

struct Fiber {
  void* stack_pointer;
  char* guard;  // kStackGuardBytes without access, below the stack
  char* stack;
  size_t stack_bytes;
#ifdef SIM_ASAN
  void* fake_stack;
#endif
#ifdef SIM_TSAN
  void* context;
#endif
};

constexpr size_t kGuardBytes = 16384;  // a multiple of any page size in use
// Below a stack: a frame that is too large may first touch its lowest byte, and below the guard lies
// some other memory of this process, or none.
constexpr size_t kStackGuardBytes = 64 * kGuardBytes;

// Saves the callee-saved registers on the stack that is left, then loads those of the other.
// x86-64 (System V) and arm64 (AAPCS64); the floating-point control registers are never changed.
extern "C" void metal_sim_switch(void** save, void* load) __asm__("metal_sim_switch");
#if defined(__x86_64__)
constexpr int kSavedWords = 6;
__asm__(
    ".text\n.globl metal_sim_switch\nmetal_sim_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nretq\n");
#elif defined(__aarch64__)
constexpr int kSavedWords = 20;
__asm__(
    ".text\n.globl metal_sim_switch\n.p2align 2\nmetal_sim_switch:\n"
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp, #0]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\n"
    "stp x25, x26, [sp, #48]\nstp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
    "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\n"
    "stp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
    "mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
    "ldp x19, x20, [sp, #0]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\n"
    "ldp x25, x26, [sp, #48]\nldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
    "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\n"
    "ldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\nret\n");
#else
#error "metal_sim runs on x86-64 and arm64: write metal_sim_switch for this processor"
#endif

// Where a fiber starts: the stack looks as if it had once called metal_sim_switch from `entry`.
inline void prepare(Fiber& fiber, void (*entry)(), size_t offset) {
#ifdef SIM_ASAN
  __asan_unpoison_memory_region(fiber.stack, fiber.stack_bytes);  // frames that never returned
#endif
  uintptr_t top = reinterpret_cast<uintptr_t>(fiber.stack + fiber.stack_bytes - offset);
  void** slot = reinterpret_cast<void**>(top & ~uintptr_t(63));
#if defined(__x86_64__)
  *--slot = nullptr;  // the return address of `entry`, and its alignment
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedWords; i++) *--slot = nullptr;
#elif defined(__aarch64__)
  slot -= kSavedWords;
  for (int i = 0; i < kSavedWords; i++) slot[i] = nullptr;
  slot[11] = reinterpret_cast<void*>(entry);  // x30, the return address
#endif
  fiber.stack_pointer = slot;
}

inline bool allocate(Fiber& fiber, size_t stack_bytes) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* map = mmap(nullptr, kStackGuardBytes + stack_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (map == MAP_FAILED) return false;
  fiber.guard = static_cast<char*>(map);
  mprotect(fiber.guard, kStackGuardBytes, PROT_NONE);
  fiber.stack = fiber.guard + kStackGuardBytes;
  fiber.stack_bytes = stack_bytes;
#ifdef SIM_TSAN
  // Threads of different threadgroups take turns on it, each with private memory of its own.
  AnnotateBenignRaceSized(__FILE__, __LINE__, fiber.stack, stack_bytes, "private memory");
#endif
  return true;
}

inline void release(Fiber& fiber) {
  if (fiber.guard) munmap(fiber.guard, kStackGuardBytes + fiber.stack_bytes);
  fiber.guard = nullptr;
}

#ifdef SIM_ASAN
inline Fiber*& left_fiber() {
  static Fiber* fiber;
  return fiber;
}
#endif

// The first thing a new fiber does. The address sanitizer reports the bounds of the stack that was
// left, which is how those of the thread that called the scheduler become known.
inline void arrived() {
#ifdef SIM_ASAN
  Fiber* left = left_fiber();
  const void* stack;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &left->stack_bytes);
  left->stack = static_cast<char*>(const_cast<void*>(stack));
#endif
}

inline void switch_fibers(Fiber& from, Fiber& to) {
#ifdef SIM_ASAN
  left_fiber() = &from;
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
#ifdef SIM_TSAN
  __tsan_switch_to_fiber(to.context, __tsan_switch_to_fiber_no_sync);
#endif
  metal_sim_switch(&from.stack_pointer, to.stack_pointer);
#ifdef SIM_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

}  // namespace metal_sim
