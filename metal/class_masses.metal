// class_masses: of each class of each row the logarithm of its share, its largest logit and whose
// that is, from the statistics of its blocks.
//
// inputs   peaks [R, N], sums [R, N, 3] float32, block_best [R, N] int32: of class_stats
//          ends [K] int32           the block behind the last one of each class; ids ascend in one
// outputs  log_mass [R, K] float32  nats; -inf for a class without ids; NaN all over a row in which
//                                   any logit of its classes is
//          score [R, K] float32     the class's largest x; -inf for a class without ids
//          token [R, K] int32       its id; ties go to the lowest id; -1 for a class without ids
// template none
// grid     R threadgroups of 256 threads; a simdgroup a class, then the classes of all
// reference  diffusion/classes.py class_sums
// tolerance  score and token equal; log_mass 5e-5 nats (a difference of float32 numbers up to 300,
//            of which one is a sum over all classes)
//
// A class is summed below its own largest logit, and a logarithm is written: a mass would be 0
// below e^-103, where a softcap of 30 and a temperature of 0.4 allow e^-162.
// kernel
constexpr uint THREADS = 256, SIMDGROUPS = THREADS / 32, MOST_CLASSES = 4096, NONE = 0xFFFFFFFFu;
threadgroup float logs[MOST_CLASSES];

const uint row = threadgroup_position_in_grid.x;
const uint t = thread_position_in_threadgroup.x;
const uint lane = thread_index_in_simdgroup;
const uint group = simdgroup_index_in_threadgroup;
const uint classes = static_cast<uint>(ends_shape[0]);
const size_t at = static_cast<size_t>(row) * static_cast<uint>(peaks_shape[1]);
const size_t to = static_cast<size_t>(row) * classes;

for (uint k = group; k < classes; k += SIMDGROUPS) {
  const uint begin = k > 0 ? static_cast<uint>(ends[k - 1]) : 0u;
  const uint end = static_cast<uint>(ends[k]);
  float largest = -INFINITY;
  uint mine = NONE;
  for (uint n = begin + lane; n < end; n += 32) {
    const float peak = peaks[at + n];
    if (peak > largest) {
      largest = peak;
      mine = static_cast<uint>(block_best[at + n]);
    }
  }
  const float most = simd_max(largest);
  const uint lowest = simd_min(largest == most ? mine : NONE);
  float mass = 0.0f;
  for (uint n = begin + lane; n < end; n += 32) {
    mass += sums[(at + n) * 3] * metal::precise::exp(peaks[at + n] - most);
  }
  mass = simd_sum(mass);
  if (lane == 0) {
    logs[k] = most + metal::precise::log(mass);
    score[to + k] = most;
    token[to + k] = static_cast<int>(lowest);
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);

// Every simdgroup sums all classes, so that all know the row's mass.
float largest = -INFINITY;
for (uint k = lane; k < classes; k += 32) {
  largest = logs[k] > largest ? logs[k] : largest;
}
largest = simd_max(largest);
float total = 0.0f;
for (uint k = lane; k < classes; k += 32) {
  total += metal::precise::exp(logs[k] - largest);
}
const float whole = largest + metal::precise::log(simd_sum(total));
for (uint k = t; k < classes; k += THREADS) {
  log_mass[to + k] = logs[k] - whole;
}
