// denoise_pick: a row's slices merged into its argmax and entropy, and one token drawn from it; of
// the logits only the slice drawn from is read again.
//
// inputs   logits [R, V] T            the head's output, before the softcap
//          records [R, S, 4] float32, slice_best [R, S] int32: of denoise_stats
//          uniforms [R, 2] float32    in (0, 1)
//          scalars [2] float32        softcap, temperature
// outputs  best [R] int32             the largest logit's id; ties go to the lowest id
//          entropy [R] float32        nats: log Z - sum(w * (x - max)) / Z; NaN where a logit is
//          drawn [R] int32            slice: the first whose running mass exceeds u1 * total;
//                                     token: the first in it whose running mass exceeds u2 * the
//                                     slice's mass; if none exceeds, the last of positive mass
// template T float, half or bfloat; V
// grid     R threadgroups of 256 threads; 16 neighbouring ids of the slice a thread
// reference  diffusion/sampler.py statistics and draw
// tolerance  best equal; entropy 5e-6 of float64; drawn equal but for uniforms within 4096 * 2^-24
//            of an end of the token's interval (float32 running sums, in another order)
//
// Totals are the last entry of the running sum they are compared with, to the bit.
// kernel
constexpr uint SLICE = 4096, THREADS = 256, GROUPS = THREADS / 32, PER = SLICE / THREADS;
constexpr uint VOCAB = V, SLICES = (VOCAB + SLICE - 1) / SLICE;
threadgroup float masses[SLICES];
threadgroup float moments[SLICES];
threadgroup float group_sum[GROUPS];
threadgroup uint group_first[GROUPS];
threadgroup uint group_end[GROUPS];

const uint row = threadgroup_position_in_grid.x;
const uint t = thread_position_in_threadgroup.x;
const uint lane = thread_index_in_simdgroup;
const uint group = simdgroup_index_in_threadgroup;
const float cap = scalars[0], temperature = scalars[1];
const size_t at = static_cast<size_t>(row) * SLICES;

float largest = -INFINITY;
uint top = 0;
for (uint k = 0; k < SLICES; k++) {
  const float m = records[(at + k) * 4];
  if (m > largest) {
    largest = m;
    top = k;
  }
}
for (uint k = t; k < SLICES; k += THREADS) {
  const float below = records[(at + k) * 4] - largest;
  const float share = metal::precise::exp(below);
  const float mass = records[(at + k) * 4 + 1];
  masses[k] = mass * share;
  moments[k] = share * (records[(at + k) * 4 + 2] + mass * below);
}
threadgroup_barrier(mem_flags::mem_threadgroup);

// Every thread walks the slices, so that all know the one chosen.
float total = 0.0f, moment = 0.0f;
for (uint k = 0; k < SLICES; k++) {
  total += masses[k];
  moment += moments[k];
}
float running = 0.0f;
uint chosen = 0;
bool found = false;
for (uint k = 0; k < SLICES; k++) {
  running += masses[k];
  if (!found && masses[k] > 0.0f) {
    chosen = k;
    found = running > uniforms[row * 2] * total;
  }
}

const float peak = records[(at + chosen) * 4];
const uint begin = chosen * SLICE + t * PER;
float weights[PER];
#pragma clang loop unroll(full)
for (uint j = 0; j < PER; j++) {
  weights[j] = 0.0f;
  if (begin + j < VOCAB) {
    const float raw = static_cast<float>(logits[static_cast<size_t>(row) * VOCAB + begin + j]);
    weights[j] = metal::precise::exp(processed_logit(raw, cap, temperature) - peak);
  }
}
float whole = 0.0f;
uint place = 0;
if (draws<PER, GROUPS>(
        weights,
        uniforms[row * 2 + 1],
        group_sum,
        group_first,
        group_end,
        t,
        lane,
        group,
        whole,
        place)) {
  drawn[row] = static_cast<int>(begin + place);
}
if (t == 0) {
  best[row] = slice_best[at + top];
  entropy[row] = metal::precise::log(total) - moment / total;
}
