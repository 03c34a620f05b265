// class_pick: a row's blocks, each moved by the bias of its class, merged into argmax and entropy,
// and one token drawn from them; of the logits only the block drawn from is read again.
//
// inputs   logits [R, V] T            the head's output, before the softcap
//          ids [N, 128] int32         of class_stats
//          block_class [N] int32      the class of each block
//          peaks [R, N], sums [R, N, 3] float32, block_best [R, N] int32: of class_stats
//          bias [R, K] float32        what is added to the processed logits of a class; -inf: none
//                                     of them is possible
//          uniforms [R, 2] float32    in (0, 1)
//          scalars [2] float32        softcap, temperature
// outputs  best [R] int32             the id of the largest peak + bias; ties go to the lowest id
//          entropy [R] float32        nats: log Z - sum(w * (x - max)) / Z; NaN where a logit is,
//                                     and where every class has a bias of -inf
//          drawn [R] int32            block: the first whose running mass exceeds u1 * total;
//                                     token: the first in it whose running mass exceeds u2 * the
//                                     block's mass; if none exceeds, the last of positive mass
//          whole [R, 1, 4] float32    of the row, x = processed logit + bias: as a record of
//                                     denoise_stats; the last is sum e^(T(x - bias) + bias - max)
//          shifts [R, N] float32      the bias of each block
// template T float, half or bfloat; V; MOST, at least N, a multiple of 256
// grid     R threadgroups of 256 threads; MOST / 256 neighbouring blocks a thread
// reference  diffusion/classes.py sample
// tolerance  best equal; entropy 5e-6 of float64; drawn equal but for uniforms within 4096 * 2^-24
//            of an end of the token's interval (float32 running sums, in another order)
//
// A bias moves a block's maximum, and what the sums are of lies below it as before: nothing else of
// a block changes, and within the block that is drawn from the bias cancels. Totals are the last
// entry of the running sum they are compared with, to the bit.
// kernel
constexpr uint BLOCK = 128, THREADS = 256, SIMDGROUPS = THREADS / 32, PER = MOST / THREADS;
constexpr uint VOCAB = V, NONE = 0xFFFFFFFFu;
threadgroup float group_largest[SIMDGROUPS];
threadgroup uint group_best[SIMDGROUPS];
threadgroup float group_moment[SIMDGROUPS];
threadgroup float group_rounded[SIMDGROUPS];
threadgroup float group_sum[SIMDGROUPS];
threadgroup uint group_first[SIMDGROUPS];
threadgroup uint group_end[SIMDGROUPS];
threadgroup uint chosen[1];

const uint row = threadgroup_position_in_grid.x;
const uint t = thread_position_in_threadgroup.x;
const uint lane = thread_index_in_simdgroup;
const uint group = simdgroup_index_in_threadgroup;
const uint blocks = static_cast<uint>(peaks_shape[1]);
const size_t at = static_cast<size_t>(row) * blocks;

float heights[PER];
float largest = -INFINITY;
uint mine = NONE;
#pragma clang loop unroll(full)
for (uint i = 0; i < PER; i++) {
  const uint n = t * PER + i;
  heights[i] = -INFINITY;
  if (n < blocks) {
    const float shift = bias[static_cast<size_t>(row) * bias_shape[1] + block_class[n]];
    const uint id = static_cast<uint>(block_best[at + n]);
    shifts[at + n] = shift;
    heights[i] = peaks[at + n] + shift;
    if (heights[i] > largest || (heights[i] == largest && id < mine)) {
      largest = heights[i];
      mine = id;
    }
  }
}
const float most = simd_max(largest);
const uint lowest = simd_min(largest == most ? mine : NONE);
if (lane == 0) {
  group_largest[group] = most;
  group_best[group] = lowest;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
largest = group_largest[0];
mine = group_best[0];
for (uint g = 1; g < SIMDGROUPS; g++) {
  const float other = group_largest[g];
  if (other > largest || (other == largest && group_best[g] < mine)) {
    largest = other;
    mine = group_best[g];
  }
}

// A class that is not possible has no share, and no moment either: 0 times -inf would be NaN.
float masses[PER];
float moment = 0.0f, rounded = 0.0f;
#pragma clang loop unroll(full)
for (uint i = 0; i < PER; i++) {
  const uint n = t * PER + i;
  masses[i] = 0.0f;
  if (n < blocks) {
    const float below = heights[i] - largest;
    const float share = metal::precise::exp(below);
    const float mass = sums[(at + n) * 3];
    masses[i] = share * mass;
    moment += share > 0.0f ? share * (sums[(at + n) * 3 + 1] + mass * below) : 0.0f;
    rounded += share * sums[(at + n) * 3 + 2];
  }
}
moment = simd_sum(moment);
rounded = simd_sum(rounded);
if (lane == 0) {
  group_moment[group] = moment;
  group_rounded[group] = rounded;
}
float total = 0.0f;
uint place = 0;
if (draws<PER, SIMDGROUPS>(
        masses,
        uniforms[row * 2],
        group_sum,
        group_first,
        group_end,
        t,
        lane,
        group,
        total,
        place)) {
  chosen[0] = t * PER + place;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

const uint block = chosen[0];
uint id = NONE;
float weight[1] = {0.0f};
if (t < BLOCK) {
  id = static_cast<uint>(ids[block * BLOCK + t]);
}
if (id < VOCAB) {
  const float raw = static_cast<float>(logits[static_cast<size_t>(row) * VOCAB + id]);
  weight[0] = metal::precise::exp(processed_logit(raw, scalars[0], scalars[1]) - peaks[at + block]);
}
float inside = 0.0f;
if (draws<1, SIMDGROUPS>(
        weight,
        uniforms[row * 2 + 1],
        group_sum,
        group_first,
        group_end,
        t,
        lane,
        group,
        inside,
        place)) {
  drawn[row] = static_cast<int>(id);
}
if (t == 0) {
  for (uint g = 1; g < SIMDGROUPS; g++) {
    moment += group_moment[g];
    rounded += group_rounded[g];
  }
  best[row] = static_cast<int>(mine);
  entropy[row] = metal::precise::log(total) - moment / total;
  whole[row * 4] = largest;
  whole[row * 4 + 1] = total;
  whole[row * 4 + 2] = moment;
  whole[row * 4 + 3] = rounded;
}
