// class_stats: statistics of each block of 128 ids of one class in each row's distribution, in one
// pass over the raw logits, which are read in the order of the classes.
//
// inputs   logits [R, V] T          the head's output, before the softcap
//          ids [N, 128] int32       class by class, no block with two, ascending in a class; -1
//                                   behind the last of a class
//          scalars [2] float32      softcap, temperature
// outputs  peaks [R, N] float32     of a block, x = processed logit: m = max x
//          sums [R, N, 3] float32   sum e^(x - m), sum e^(x - m) * (x - m), sum e^(T(x) - m)
//          best [R, N] int32        id of the largest x; ties go to the lowest id
// template T float, half or bfloat; V
// grid     ceil(N / 8) x ceil(R / 4) threadgroups of 256 threads: a simdgroup a block, 4 ids a
//          lane; four rows one after the other, for which the ids are read once
// reference  diffusion/classes.py read
// tolerance  best equal; sums to 2e-6 of themselves (float32 sums of 128 terms, in another order)
//
// The last sum is that of the self-conditioning, for which logits are rounded to T. A NaN is never
// the largest, but reaches the sums: the class's mass shows it.
// kernel
constexpr uint BLOCK = 128, PER = BLOCK / 32, SIMDGROUPS = 8, ROWS = 4, NONE = 0xFFFFFFFFu;
constexpr uint VOCAB = V;

const uint lane = thread_index_in_simdgroup;
const uint block = threadgroup_position_in_grid.x * SIMDGROUPS + simdgroup_index_in_threadgroup;
const uint first = threadgroup_position_in_grid.y * ROWS;
const uint blocks = static_cast<uint>(ids_shape[0]), rows = static_cast<uint>(logits_shape[0]);
const float cap = scalars[0], temperature = scalars[1];
if (block >= blocks) {
  return;
}

// Four neighbouring places a lane; -1 is above every id.
uint own[PER];
#pragma clang loop unroll(full)
for (uint j = 0; j < PER; j++) {
  own[j] = static_cast<uint>(ids[block * BLOCK + lane * PER + j]);
}

for (uint row = first; row < metal::min(first + ROWS, rows); row++) {
  float values[PER];
  float largest = -INFINITY;
  uint mine = own[0];
#pragma clang loop unroll(full)
  for (uint j = 0; j < PER; j++) {
    values[j] = -INFINITY;
    if (own[j] < VOCAB) {
      const float raw = static_cast<float>(logits[static_cast<size_t>(row) * VOCAB + own[j]]);
      values[j] = processed_logit(raw, cap, temperature);
    }
    if (values[j] > largest) {
      largest = values[j];
      mine = own[j];
    }
  }
  const float most = simd_max(largest);
  const uint lowest = simd_min(largest == most ? mine : NONE);

  float mass = 0.0f, moment = 0.0f, rounded = 0.0f;
#pragma clang loop unroll(full)
  for (uint j = 0; j < PER; j++) {
    if (own[j] < VOCAB) {
      const float below = values[j] - most;
      const float weight = metal::precise::exp(below);
      mass += weight;
      moment += weight * below;
      rounded += metal::precise::exp(static_cast<float>(static_cast<T>(values[j])) - most);
    }
  }
  mass = simd_sum(mass);
  moment = simd_sum(moment);
  rounded = simd_sum(rounded);
  if (lane == 0) {
    const size_t at = static_cast<size_t>(row) * blocks + block;
    peaks[at] = most;
    sums[at * 3] = mass;
    sums[at * 3 + 1] = moment;
    sums[at * 3 + 2] = rounded;
    best[at] = static_cast<int>(lowest);
  }
}
