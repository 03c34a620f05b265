// What happens when the lanes of a simdgroup meet: each brings a value and takes one away.
#pragma once
#include "functions.h"

namespace metal_sim {

static Runtime* runtime;

// As default arguments they name the place of the call.
#define SIM_SITE                                                           \
  const char *file = __builtin_FILE(), int line = __builtin_LINE(),        \
             int column = __builtin_COLUMN()
#define SIM_HERE metal_sim::Site{file, line, column}
#define SIM_SAME_SITE file, line, column
#define SIM_UNSEEN __attribute__((no_sanitize("thread")))  // lanes' values change hands here

// Metal has these operations for 8 to 32 bits and vectors of them, and not for bfloat.
template <class T>
struct Exchangeable
    : std::integral_constant<bool, !std::is_same<T, bfloat>::value &&
                                       !std::is_same<T, bool>::value &&
                                       (!std::is_arithmetic<T>::value || sizeof(T) <= 4)> {};
#ifndef METAL_SIM_CHECK
template <class T, int N>
struct Exchangeable<metal::vec<T, N>> : Exchangeable<T> {};
#endif

// What a lane brings to a meeting and takes away.
template <class T>
struct Offer {
  T value;
  T filling;
  uint32_t argument;
  T result;
};

template <class T>
inline T exchange(Combine combine, T value, uint32_t argument, T filling, Site site) {
  static_assert(Exchangeable<T>::value,
                "simdgroup operations take 8 to 32 bit integers, half, float and vectors of them: "
                "cast bfloat to float");
  Offer<T> offer{value, filling, argument, value};
  runtime->meet(Meeting::kSimd, combine, &offer, 0, site);
  return offer.result;
}

template <class T>
SIM_UNSEEN inline Offer<T>& offer_of(void** io, int lane) {
  return *static_cast<Offer<T>*>(io[lane]);
}

// The reduction as a butterfly adds: pairs, pairs of pairs, whichever lane came first.
template <class T, class Operation>
struct Reduce {
  SIM_UNSEEN static void combine(void** io, uint32_t present) {
    T values[kLanes];
    uint32_t have = present;
    for (int i = 0; i < kLanes; i++) {
      if (present >> i & 1) values[i] = offer_of<T>(io, i).value;
    }
    for (int step = 1; step < kLanes; step *= 2) {
      for (int i = 0; i < kLanes; i += 2 * step) {
        const bool left = have >> i & 1, right = have >> (i + step) & 1;
        if (left && right) values[i] = Operation::of(values[i], values[i + step]);
        if (!left && right) values[i] = values[i + step];
        if (right) have |= 1u << i;
      }
    }
    for (int i = 0; i < kLanes; i++) {
      if (present >> i & 1) offer_of<T>(io, i).result = values[0];
    }
  }
};

// The same within each four lanes.
template <class T, class Operation>
struct QuadReduce {
  SIM_UNSEEN static void combine(void** io, uint32_t present) {
    for (int quad = 0; quad < kLanes; quad += 4) {
      const uint32_t inside = present >> quad & 15;
      if (!inside) continue;
      void* four[kLanes] = {io[quad], io[quad + 1], io[quad + 2], io[quad + 3]};
      Reduce<T, Operation>::combine(four, inside);
    }
  }
};

// Each lane takes the value of lane Source::of(its own, argument): undefined where nobody is there.
template <class T, class Source>
struct Shuffle {
  SIM_UNSEEN static void combine(void** io, uint32_t present) {
    for (int i = 0; i < kLanes; i++) {
      if (!(present >> i & 1)) continue;
      Offer<T>& offer = offer_of<T>(io, i);
      const int from = Source::of(i, static_cast<int>(offer.argument));
      const bool there = from >= 0 && from < kLanes && (present >> from & 1);
      offer.result = there ? offer_of<T>(io, from).value : poison<T>();
    }
  }
};

// Shuffles that go on past lane 31 or lane 0 in the other lanes' `filling`.
template <class T, class Source>
struct Fill {
  SIM_UNSEEN static void combine(void** io, uint32_t present) {
    Shuffle<T, Source>::combine(io, present);
    for (int i = 0; i < kLanes; i++) {
      if (!(present >> i & 1)) continue;
      Offer<T>& offer = offer_of<T>(io, i);
      const int from = Source::of(i, static_cast<int>(offer.argument));
      if (from >= 0 && from < kLanes) continue;
      const int other = (from + kLanes) % kLanes;
      offer.result = present >> other & 1 ? offer_of<T>(io, other).filling : poison<T>();
    }
  }
};

template <class T, class Operation, bool kInclusive>
struct Prefix {
  SIM_UNSEEN static void combine(void** io, uint32_t present) {
    T so_far = Operation::neutral();
    for (int i = 0; i < kLanes; i++) {
      if (!(present >> i & 1)) continue;
      Offer<T>& offer = offer_of<T>(io, i);
      const T with = Operation::of(so_far, offer.value);
      offer.result = kInclusive ? with : so_far;
      so_far = with;
    }
  }
};

// The lanes that brought something other than 0, as bits.
struct Ballot {
  SIM_UNSEEN static void combine(void** io, uint32_t present) {
    uint32_t votes = 0;
    for (int i = 0; i < kLanes; i++) {
      if ((present >> i & 1) && offer_of<uint>(io, i).value) votes |= 1u << i;
    }
    for (int i = 0; i < kLanes; i++) {
      if (present >> i & 1) offer_of<uint>(io, i).result = votes;
    }
  }
};

inline uint ballot(bool vote, Site site) {
  return exchange<uint>(&Ballot::combine, vote, 0, 0, site);
}

#define SIM_OPERATION(Name, expression)                \
  template <class T>                                   \
  struct Name {                                        \
    SIM_UNSEEN static T of(T a, T b) { return T(expression); } \
  };
SIM_OPERATION(Max, a < b ? b : a)
SIM_OPERATION(Min, b < a ? b : a)
SIM_OPERATION(And, a & b)
SIM_OPERATION(Or, a | b)
SIM_OPERATION(Xor, a ^ b)
#undef SIM_OPERATION
template <class T>
struct Sum {
  SIM_UNSEEN static T of(T a, T b) { return T(a + b); }
  static T neutral() { return T(0); }
};
template <class T>
struct Product {
  SIM_UNSEEN static T of(T a, T b) { return T(a * b); }
  static T neutral() { return T(1); }
};

#define SIM_SOURCE(Name, expression)                                           \
  struct Name {                                                                \
    SIM_UNSEEN static int of(int lane, int by) { return (void)lane, (expression); } \
  };
SIM_SOURCE(From, by)
SIM_SOURCE(FromXor, lane ^ by)
SIM_SOURCE(FromAbove, lane + by)
SIM_SOURCE(FromBelow, lane - by)
SIM_SOURCE(RotatedDown, (lane + by) % kLanes)
SIM_SOURCE(RotatedUp, (lane + kLanes - by % kLanes) % kLanes)
SIM_SOURCE(FromQuad, by > 3 ? -1 : lane / 4 * 4 + by)
SIM_SOURCE(FromQuadXor, by > 3 ? -1 : lane ^ by)
SIM_SOURCE(FromQuadAbove, lane % 4 + by > 3 ? -1 : lane + by)
SIM_SOURCE(FromQuadBelow, lane % 4 < by ? -1 : lane - by)
#undef SIM_SOURCE

}  // namespace metal_sim
