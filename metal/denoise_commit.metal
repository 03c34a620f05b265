// denoise_commit: the positions of a canvas that are kept, the canvas of the next step, and the
// numbers of the stop test.
//
// inputs   best, drawn, renoise, previous [C] int32   argmax, draw, fresh ids, the last argmax; C is
//                                                    at most 512
//          entropy [C] float32 nats
//          bound [1] float32                          the entropy bound, nats
// outputs  accepted [C] bool      lowest entropy first, equal ones by position, while the running
//                                 sum less the position's own entropy is at most the bound
//          next_canvas [C] int32  drawn where accepted, else renoise
//          summary [2] float32    mean entropy; 1 if best equals previous everywhere, else 0
// template none: every template that is filled has another number of free positions
// grid     one threadgroup of C threads, rounded up to whole simdgroups
// reference  diffusion/sampler.py commit
// tolerance  accepted and next_canvas equal where the reference's running sum is sequential as well
//            (on a GPU it is not: sums within rounding of the bound may differ); mean to 1e-6
//
// Ranks are counted, not sorted. A NaN ranks last, and makes the mean one.
// kernel
constexpr uint MOST = 512, MOST_GROUPS = 16;
threadgroup float keys[MOST];
threadgroup float ranked[MOST];
threadgroup uint group_changed[MOST_GROUPS];

const uint positions = static_cast<uint>(best_shape[0]);
const uint groups = (positions + 31) / 32;
const uint r = thread_position_in_threadgroup.x;
const uint lane = thread_index_in_simdgroup;
const uint group = simdgroup_index_in_threadgroup;
const bool inside = r < positions;
const float own = inside ? entropy[r] : 0.0f;
const float key = metal::isnan(own) ? INFINITY : own;
if (inside) {
  keys[r] = key;
}
const uint changed = simd_max(inside && best[r] != previous[r] ? 1u : 0u);
if (lane == 0) {
  group_changed[group] = changed;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

uint rank = 0;
for (uint k = 0; k < positions; k++) {
  const float other = keys[k];
  rank += other < key || (other == key && k < r) ? 1u : 0u;
}
if (inside) {
  ranked[rank] = own;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

if (inside) {
  float sum = 0.0f;
  for (uint k = 0; k <= rank; k++) {
    sum += ranked[k];
  }
  const bool passes = sum - own <= bound[0];
  accepted[r] = passes;
  next_canvas[r] = passes ? drawn[r] : renoise[r];
  if (rank == positions - 1) {
    summary[0] = sum / static_cast<float>(positions);
  }
}
if (r == 0) {
  uint any = 0;
  for (uint g = 0; g < groups; g++) {
    any = metal::max(any, group_changed[g]);
  }
  summary[1] = any == 0 ? 1.0f : 0.0f;
}
