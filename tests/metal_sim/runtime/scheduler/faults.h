// Signals that a kernel's mistakes raise become errors of its launch.
#pragma once
#include <signal.h>

#include "worker.h"

namespace metal_sim {
namespace {

// The sanitizers have handlers of their own, which say more.
#if defined(SIM_ASAN) || defined(SIM_TSAN)

void catch_faults() {}
void stop_catching() {}

#else

const int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
constexpr int kSignalCount = sizeof kSignals / sizeof *kSignals;
struct sigaction former[kSignalCount];
stack_t former_stack;
char signal_stack[65536];

const char* what(int signal, const char* address) {
  const Fiber& fiber = running->fiber;
  if (signal == SIGFPE) return "division by zero";
  if (signal == SIGILL) return "undefined behaviour";
  if (address >= fiber.guard && address < fiber.stack) return "private memory overflow";
  return "access to memory that is no buffer's";
}

void stop_catching() {
  for (int i = 0; i < kSignalCount; i++) sigaction(kSignals[i], &former[i], nullptr);
  sigaltstack(&former_stack, nullptr);
}

// Leaves for good the fiber that faulted, and with it this handler.
void on_fault(int signal, siginfo_t* info, void*) {
  if (!running) {  // not the kernel's fault: once more, without this handler
    stop_catching();
    return;
  }
  dispatch->fault = reinterpret_cast<uint64_t>(info->si_addr);
  const char* did = what(signal, static_cast<const char*>(info->si_addr));
  const uint32_t thread = running->thread.index_in_threadgroup;
  if (running->site.file) {
    report("%s by thread %u, after its %s at %s:%d", did, thread, name(running->meeting),
           running->site.file, running->site.line);
  } else {
    report("%s by thread %u, before any barrier", did, thread);
  }
  switch_fibers(running->fiber, caller);
}

void catch_faults() {
  stack_t own = {};
  own.ss_sp = signal_stack;
  own.ss_size = sizeof signal_stack;
  sigaltstack(&own, &former_stack);
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (int i = 0; i < kSignalCount; i++) sigaction(kSignals[i], &action, &former[i]);
}

#endif

}  // namespace
}  // namespace metal_sim
