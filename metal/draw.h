// The draw of denoise_pick and class_pick: where a running sum over a threadgroup's values first
// exceeds a uniform number's share of their total.

// True in one thread: the one that holds the first value at which the running sum exceeds
// uniform * total. `place` is that value's number among the thread's PER; `total`, in every thread,
// is the last entry of that very sum. If none exceeds: the last value of positive mass, or the
// first one where there is none.
//   sums, firsts, ends  a number a simdgroup each; nobody may still read what they held before
template <uint PER, uint SIMDGROUPS>
inline bool draws(
    const thread float* masses,
    float uniform,
    threadgroup float* sums,
    threadgroup uint* firsts,
    threadgroup uint* ends,
    uint t,
    uint lane,
    uint group,
    thread float& total,
    thread uint& place) {
  constexpr uint NOBODY = 0xFFFFFFFFu;
  float mine = 0.0f;
#pragma clang loop unroll(full)
  for (uint j = 0; j < PER; j++) {
    mine += masses[j];
  }
  const float before_in_group = simd_prefix_exclusive_sum(mine);
  if (lane == 31) {
    sums[group] = before_in_group + mine;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float before_group = 0.0f;
  total = 0.0f;
  for (uint g = 0; g < SIMDGROUPS; g++) {
    if (g == group) {
      before_group = total;
    }
    total += sums[g];
  }
  const float target = uniform * total;

  // A scan over lanes may round a sum up where nothing was added: only threads with mass take part.
  const bool exceeds = mine > 0.0f && before_group + (before_in_group + mine) > target;
  const uint first = simd_min(exceeds ? t : NOBODY);
  const uint end = simd_max(mine > 0.0f ? t + 1 : 0u);
  if (lane == 0) {
    firsts[group] = first;
    ends[group] = end;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint winner = NOBODY, last = 0;
  for (uint g = 0; g < SIMDGROUPS; g++) {
    winner = metal::min(winner, firsts[g]);
    last = metal::max(last, ends[g]);
  }
  if (winner == NOBODY) {
    winner = last > 0 ? last - 1 : 0;
  }
  float sum = before_group + before_in_group;
  bool reached = false;
  place = 0;
#pragma clang loop unroll(full)
  for (uint j = 0; j < PER; j++) {
    sum += masses[j];
    if (!reached && masses[j] > 0.0f) {
      place = j;
      reached = sum > target;
    }
  }
  return t == winner;
}
