// denoise_stats: statistics of each slice of 4,096 ids of each row's distribution, in one pass over
// the raw logits; nothing as wide as the vocabulary is written.
//
// inputs   logits [R, V] T            the head's output, before the softcap
//          scalars [2] float32        softcap, temperature
// outputs  records [R, S, 4] float32  of a slice, x = processed logit: m = max x, sum e^(x - m),
//                                     sum e^(x - m) * (x - m), sum e^(T(x) - m)
//          best [R, S] int32          id of the largest x; ties go to the lowest id
//          peaks [R, B] float32       max x of each block of 128 ids
//          S = ceil(V / 4096), B = ceil(V / 128)
// template T float, half or bfloat; V
// grid     S x R threadgroups of 256 threads: one a slice of a row, 16 ids a thread
// reference  diffusion/sampler.py statistics; together with denoise_pick
// tolerance  best equal; sums to 1e-5 of themselves (float32 sums of 4,096 terms, in another order)
//
// The last sum is that of the self-conditioning, whose reference rounds logits to T first.
// A NaN is never the largest, but reaches the sums: the row's entropy shows it.
// kernel
constexpr uint SLICE = 4096, BLOCK = 128;
constexpr uint THREADS = 256, GROUPS = THREADS / 32, QUADS = SLICE / (4 * THREADS);
constexpr uint VOCAB = V;
constexpr uint SLICES = (VOCAB + SLICE - 1) / SLICE, BLOCKS = (VOCAB + BLOCK - 1) / BLOCK;
threadgroup float group_largest[GROUPS];
threadgroup uint group_best[GROUPS];
threadgroup float group_mass[GROUPS];
threadgroup float group_moment[GROUPS];
threadgroup float group_rounded[GROUPS];

const uint slice = threadgroup_position_in_grid.x;
const uint row = threadgroup_position_in_grid.y;
const uint t = thread_position_in_threadgroup.x;
const uint lane = thread_index_in_simdgroup;
const uint group = simdgroup_index_in_threadgroup;
const float cap = scalars[0], temperature = scalars[1];
const uint begin = slice * SLICE;

// Four neighbouring ids a thread and round, so that a simdgroup reads one whole block.
float values[4 * QUADS];
float largest = -INFINITY;
uint mine = begin;
#pragma clang loop unroll(full)
for (uint quad = 0; quad < QUADS; quad++) {
  float peak = -INFINITY;
#pragma clang loop unroll(full)
  for (uint j = 0; j < 4; j++) {
    const uint id = begin + (quad * THREADS + t) * 4 + j;
    float x = -INFINITY;
    if (id < VOCAB) {
      const float raw = static_cast<float>(logits[static_cast<size_t>(row) * VOCAB + id]);
      x = processed_logit(raw, cap, temperature);
    }
    values[quad * 4 + j] = x;
    if (x > peak) {
      peak = x;
    }
    if (x > largest) {
      largest = x;
      mine = id;
    }
  }
  peak = simd_max(peak);
  const uint block = (begin + quad * THREADS * 4) / BLOCK + group;
  if (lane == 0 && block < BLOCKS) {
    peaks[static_cast<size_t>(row) * BLOCKS + block] = peak;
  }
}

const float most = simd_max(largest);
const uint lowest = simd_min(largest == most ? mine : 0xFFFFFFFFu);
if (lane == 0) {
  group_largest[group] = most;
  group_best[group] = lowest;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
largest = group_largest[0];
mine = group_best[0];
for (uint g = 1; g < GROUPS; g++) {
  const float other = group_largest[g];
  if (other > largest || (other == largest && group_best[g] < mine)) {
    largest = other;
    mine = group_best[g];
  }
}

float mass = 0.0f, moment = 0.0f, rounded = 0.0f;
#pragma clang loop unroll(full)
for (uint i = 0; i < 4 * QUADS; i++) {
  if (begin + ((i / 4) * THREADS + t) * 4 + i % 4 < VOCAB) {
    const float below = values[i] - largest;
    const float weight = metal::precise::exp(below);
    mass += weight;
    moment += weight * below;
    rounded += metal::precise::exp(static_cast<float>(static_cast<T>(values[i])) - largest);
  }
}
mass = simd_sum(mass);
moment = simd_sum(moment);
rounded = simd_sum(rounded);
if (lane == 0) {
  group_mass[group] = mass;
  group_moment[group] = moment;
  group_rounded[group] = rounded;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (t == 0) {
  for (uint g = 1; g < GROUPS; g++) {
    mass += group_mass[g];
    moment += group_moment[g];
    rounded += group_rounded[g];
  }
  const size_t at = static_cast<size_t>(row) * SLICES + slice;
  records[at * 4] = largest;
  records[at * 4 + 1] = mass;
  records[at * 4 + 2] = moment;
  records[at * 4 + 3] = rounded;
  best[at] = static_cast<int>(mine);
}
