// Atomics: relaxed, as all of Metal's are. Threads switch only where they meet, so that plain runs
// order them by the schedule; for the thread sanitizer they have to be atomic in earnest.
#pragma once
#include "address_spaces.h"
#include "functions.h"

namespace metal {

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
  T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;

#define SIM_FETCH(SPACE, name, expression)                                              \
  template <class T>                                                                    \
  inline T atomic_fetch_##name##_explicit(volatile SPACE atomic<T>* object, T operand,  \
                                          memory_order) {                               \
    T old, next;                                                                        \
    __atomic_load(&object->value, &old, __ATOMIC_RELAXED);                              \
    do next = T(expression);                                                            \
    while (!__atomic_compare_exchange(&object->value, &old, &next, false,               \
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED));             \
    return old;                                                                         \
  }

#define SIM_ATOMICS(SPACE)                                                              \
  SIM_FETCH(SPACE, add, old + operand)                                                  \
  SIM_FETCH(SPACE, sub, old - operand)                                                  \
  SIM_FETCH(SPACE, and, old & operand)                                                  \
  SIM_FETCH(SPACE, or, old | operand)                                                   \
  SIM_FETCH(SPACE, xor, old ^ operand)                                                  \
  SIM_FETCH(SPACE, max, old < operand ? operand : old)                                  \
  SIM_FETCH(SPACE, min, operand < old ? operand : old)                                  \
  template <class T>                                                                    \
  inline T atomic_load_explicit(const volatile SPACE atomic<T>* object, memory_order) { \
    T now;                                                                              \
    __atomic_load(&object->value, &now, __ATOMIC_RELAXED);                              \
    return now;                                                                         \
  }                                                                                     \
  template <class T>                                                                    \
  inline void atomic_store_explicit(volatile SPACE atomic<T>* object, T next,           \
                                    memory_order) {                                     \
    __atomic_store(&object->value, &next, __ATOMIC_RELAXED);                            \
  }                                                                                     \
  template <class T>                                                                    \
  inline T atomic_exchange_explicit(volatile SPACE atomic<T>* object, T next,           \
                                    memory_order) {                                     \
    T old;                                                                              \
    __atomic_exchange(&object->value, &next, &old, __ATOMIC_RELAXED);                   \
    return old;                                                                         \
  }                                                                                     \
  template <class T, class U>                                                           \
  inline bool atomic_compare_exchange_weak_explicit(volatile SPACE atomic<T>* object,   \
                                                    U* expected, T next, memory_order,  \
                                                    memory_order) {                     \
    return __atomic_compare_exchange(&object->value, expected, &next, true,             \
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED);               \
  }
SIM_ATOMICS(SIM_DEVICE)
#ifdef METAL_SIM_CHECK
SIM_ATOMICS(SIM_THREADGROUP)
#endif
#undef SIM_ATOMICS
#undef SIM_FETCH

}  // namespace metal
