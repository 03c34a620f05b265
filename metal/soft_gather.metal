// soft_gather: a row's soft embedding from the tokens that carry weight, straight from the (packed)
// embedding, and how many tokens that takes.
//
// inputs   logits [R, V] T, T half or bfloat   the head's output, before the softcap
//          records [R, S, 4] float32, peaks [R, B] float32: of denoise_stats; or whole of class_pick
//                               as the one record of a row, and peaks of class_stats
//          order [B, 128] int32, shifts [R, B] float32: ids of class_stats, shifts of class_pick;
//                               for CLASS_BLOCKS 0 any arrays, not read
//          weight [V, WIDTH]: float, half or bfloat (BITS 0), or words of BITS-bit values
//          scales, biases [V, WIDTH / GROUP]; for BITS 0 the weight once more, not read as such
//          mean [WIDTH] T: the embedding that stands for what is left out
//          scalars [6] float32: softcap, temperature, scale (sqrt(WIDTH) rounded to T), reach (the
//                               largest distance of an embedding from the mean * scale), half an
//                               ulp of T, longest (no soft embedding is longer)
// outputs  soft [R, WIDTH] T      sum over kept tokens of T(share) * row, and T(tail) * mean,
//                                 rounded to T; times scale, rounded again; 0 in tier 2
//          tail [R] float32       1 - the sum of the kept shares
//          tier [R] uint8         0: at most KEPT tokens suffice; 1: at most MORE do; 2: neither
// template T; V; WIDTH; BITS 0, 4 or 8; GROUP 32, 64 or 128; KEPT; MORE > KEPT, 0 for no tier 1;
//          CLASS_BLOCKS: 0 where blocks are of neighbouring ids, else at least B
// grid     R threadgroups of 256 threads
// reference  model/soft_gather.py gather; in the order of the classes that of rows with a bias
// tolerance  soft 2 ulp of the row's largest value from the float64 mean of the tokens kept, tail
//            1e-5; other tokens are kept only where a share is a level's to within rounding
//
// A token's share is that of its logit rounded to T, as the reference rounds before the softmax. The
// bias of its class is added behind the rounding; where it is -inf no token is kept.
// Tokens suffice where tail * reach <= half an ulp * ||soft||. Kept are those of at least the share
// 2^(-j/2), j <= 63 the largest at which at most KEPT, or MORE, are that heavy. That level is found
// twice: among the largest shares of blocks of 128 ids, since more than KEPT such blocks hold more
// than KEPT such tokens; then among the tokens of the at most KEPT blocks left, 64 blocks at a time,
// 32 neighbouring places a thread. Nothing else of the logits is read. Tokens are added in the order
// in which they stand; a row whose tail is too large for a soft embedding of any length is not added
// up.

// The share 2^(-level / 2).
inline float share_of_level(uint level) {
  const float whole = 1.0f / static_cast<float>(1u << (level / 2));
  return level % 2 == 0 ? whole : whole * 0.70710678f;
}

// counts[j] += number of the thread's COUNT values that reach the share of level
// from + step * (j + 1) of mass.
template <uint COUNT, uint STEPS>
inline void count_reaching(
    thread uint* counts, const thread float* values, uint from, uint step, float mass) {
#pragma clang loop unroll(full)
  for (uint j = 0; j < STEPS; j++) {
    const float least = share_of_level(from + step * (j + 1)) * mass;
#pragma clang loop unroll(full)
    for (uint i = 0; i < COUNT; i++) {
      counts[j] += values[i] >= least ? 1u : 0u;
    }
  }
}

// Number of the counts that are, summed over the threadgroup, at most `most`.
//   room  STEPS * SIMDGROUPS numbers, used by this call only
template <uint STEPS, uint SIMDGROUPS>
inline uint counts_within(
    const thread uint* counts, uint most, threadgroup uint* room, uint lane, uint group) {
#pragma clang loop unroll(full)
  for (uint j = 0; j < STEPS; j++) {
    const uint together = simd_sum(counts[j]);
    if (lane == 0) {
      room[j * SIMDGROUPS + group] = together;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint within = 0;
  for (uint j = 0; j < STEPS; j++) {
    uint count = 0;
    for (uint g = 0; g < SIMDGROUPS; g++) {
      count += room[j * SIMDGROUPS + g];
    }
    within += count <= most ? 1u : 0u;
  }
  return within;
}

// Number of the threadgroup's values in the threads before this one that are at least `least`;
// `all`: of those in all threads.
//   room  a number a simdgroup, used by this call only
template <uint COUNT, uint SIMDGROUPS>
inline uint count_before(
    const thread float* values,
    float least,
    threadgroup uint* room,
    uint lane,
    uint group,
    thread uint& all) {
  uint mine = 0;
#pragma clang loop unroll(full)
  for (uint i = 0; i < COUNT; i++) {
    mine += values[i] >= least ? 1u : 0u;
  }
  const uint in_group = simd_prefix_exclusive_sum(mine);
  if (lane == 31) {
    room[group] = in_group + mine;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint before = in_group;
  all = 0;
  for (uint g = 0; g < SIMDGROUPS; g++) {
    before += g < group ? room[g] : 0u;
    all += room[g];
  }
  return before;
}

// The part of an embedding row that one thread adds up: the values of one packed word.
template <int BITS, int GROUP, int WIDTH>
struct Embedding {
  // sums += share * the values at `unit` of the row `id`.
  template <typename W, typename S>
  void add(
      thread float* sums,
      float share,
      const device W* weight,
      const device S* scales,
      const device S* biases,
      size_t id,
      uint unit) {
    constexpr int VALUES = packed_in_word<BITS>();
    const uint word = weight[id * (WIDTH / VALUES) + unit];
    const size_t at = id * (WIDTH / GROUP) + unit * VALUES / GROUP;
    const float scale = static_cast<float>(scales[at]);
    const float bias = static_cast<float>(biases[at]);
#pragma clang loop unroll(full)
    for (int i = 0; i < VALUES; i++) {
      sums[i] += share * unpacked<BITS>(word, i, scale, bias);
    }
  }
};

// The part of a row that is not packed (BITS 0): four values; the scales given are never read.
template <int GROUP, int WIDTH>
struct Embedding<0, GROUP, WIDTH> {
  template <typename W, typename S>
  void add(
      thread float* sums,
      float share,
      const device W* weight,
      const device S* scales,
      const device S* biases,
      size_t id,
      uint unit) {
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; i++) {
      sums[i] += share * static_cast<float>(weight[id * WIDTH + unit * 4 + i]);
    }
  }
};

// kernel
constexpr uint SLICE = 4096, BLOCK = 128;
constexpr uint SIMDGROUPS = 8, THREADS = 32 * SIMDGROUPS, PER = 32;
constexpr uint NONE = 2, TIERS = MORE > 0 ? 2 : 1, MOST = MORE > 0 ? MORE : KEPT;
constexpr uint VOCAB = V, TOGETHER = THREADS * PER / BLOCK;  // blocks whose tokens are read at once
constexpr bool BY_CLASS = CLASS_BLOCKS > 0;
constexpr uint SLICES = BY_CLASS ? 1 : (VOCAB + SLICE - 1) / SLICE;
constexpr uint BLOCKS = BY_CLASS ? CLASS_BLOCKS : (VOCAB + BLOCK - 1) / BLOCK;
constexpr uint BLOCKS_PER = (BLOCKS + THREADS - 1) / THREADS;
constexpr uint STEPS = 7, SEARCH = STEPS * SIMDGROUPS;  // 64 levels in steps of 8, then of 1
constexpr uint VALUES = 32 / (BITS == 0 ? 8 : BITS), UNITS = WIDTH / VALUES;
threadgroup float masses[SLICES];
threadgroup uint rooms[2 * SEARCH];
threadgroup uint blocks[MOST];
threadgroup uint ids[MOST];
threadgroup float shares[MOST];
threadgroup float group_share[SIMDGROUPS];
threadgroup float group_square[SIMDGROUPS];

const uint row = threadgroup_position_in_grid.x;
const uint t = thread_position_in_threadgroup.x;
const uint lane = thread_index_in_simdgroup;
const uint group = simdgroup_index_in_threadgroup;
const uint in_row = BY_CLASS ? static_cast<uint>(peaks_shape[1]) : BLOCKS;

// The row's mass, of logits rounded to T, relative to its largest logit.
float largest = -INFINITY;
for (uint k = 0; k < SLICES; k++) {
  largest = metal::max(largest, records[(static_cast<size_t>(row) * SLICES + k) * 4]);
}
for (uint k = t; k < SLICES; k += THREADS) {
  const size_t at = (static_cast<size_t>(row) * SLICES + k) * 4;
  masses[k] = records[at + 3] * metal::precise::exp(records[at] - largest);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
float mass = 0.0f;
for (uint k = 0; k < SLICES; k++) {
  mass += masses[k];
}

// The heaviest token of each block.
float heaviest[BLOCKS_PER];
#pragma clang loop unroll(full)
for (uint i = 0; i < BLOCKS_PER; i++) {
  heaviest[i] = -1.0f;
  const uint block = t * BLOCKS_PER + i;
  if (block < in_row) {
    const size_t at = static_cast<size_t>(row) * in_row + block;
    const T peak = static_cast<T>(peaks[at]);
    const float top = BY_CLASS ? largest - shifts[at] : largest;
    heaviest[i] = metal::precise::exp(static_cast<float>(peak) - top);
  }
}

Embedding<BITS, GROUP, WIDTH> embedding;
float left = 1.0f;
uint reached = NONE;
uint turn = 0;  // of the rooms: a call's barrier is behind all reads of the room before
for (uint attempt = 0; attempt < TIERS && reached == NONE; attempt++) {
  const uint most = attempt == 0 ? KEPT : MORE;

  // Blocks that may hold a token to keep, in order.
  uint level = 0;
  for (uint pass = 0; pass < 2; pass++) {
    const uint step = pass == 0 ? STEPS + 1 : 1;
    uint counts[STEPS] = {0};
    count_reaching<BLOCKS_PER, STEPS>(counts, heaviest, level, step, mass);
    level += step * counts_within<STEPS, SIMDGROUPS>(
        counts, most, rooms + turn++ % 2 * SEARCH, lane, group);
  }
  const uint block_level = level;
  const float block_least = share_of_level(block_level) * mass;
  uint block_count = 0;
  uint place = count_before<BLOCKS_PER, SIMDGROUPS>(
      heaviest, block_least, rooms + turn++ % 2 * SEARCH, lane, group, block_count);
#pragma clang loop unroll(full)
  for (uint i = 0; i < BLOCKS_PER; i++) {
    if (heaviest[i] >= block_least && place < most) {
      blocks[place] = t * BLOCKS_PER + i;
      place += 1;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // Their tokens, in order, four threads a block: counted twice for the level, then kept. Those of
  // one round stay in registers.
  const uint all_blocks = metal::min(block_count, most);
  const uint rounds = (all_blocks + TOGETHER - 1) / TOGETHER;
  float weights[PER];
  uint token_count = 0;
  float kept = 0.0f;
  level = 0;
  for (uint pass = 0; pass < 3; pass++) {
    const uint step = pass == 0 ? STEPS + 1 : 1;
    const float least = share_of_level(metal::min(level, block_level)) * mass;
    uint counts[STEPS] = {0};
    for (uint round = 0; round < rounds; round++) {
      const uint own = round * TOGETHER + t / (BLOCK / PER);
      const bool holds = own < all_blocks;
      const uint block = holds ? blocks[own] : 0u;
      const uint begin = block * BLOCK + (t % (BLOCK / PER)) * PER;
      const size_t shift = static_cast<size_t>(row) * in_row + block;
      const float top = BY_CLASS ? largest - shifts[shift] : largest;
      if (pass == 0 || rounds > 1) {
#pragma clang loop unroll(full)
        for (uint i = 0; i < PER; i++) {
          weights[i] = -1.0f;
          const uint id = BY_CLASS ? static_cast<uint>(order[begin + i]) : begin + i;
          if (holds && id < VOCAB) {
            const size_t at = static_cast<size_t>(row) * VOCAB + id;
            const float raw = static_cast<float>(logits[at]);
            const T x = static_cast<T>(processed_logit(raw, scalars[0], scalars[1]));
            weights[i] = metal::precise::exp(static_cast<float>(x) - top);
          }
        }
      }
      if (pass < 2) {
        count_reaching<PER, STEPS>(counts, weights, level, step, mass);
        continue;
      }
      uint in_round = 0;
      place = token_count +
          count_before<PER, SIMDGROUPS>(
                  weights, least, rooms + turn++ % 2 * SEARCH, lane, group, in_round);
      token_count += in_round;
#pragma clang loop unroll(full)
      for (uint i = 0; i < PER; i++) {
        if (weights[i] >= least && place < most) {
          const float share = weights[i] / mass;
          ids[place] = BY_CLASS ? static_cast<uint>(order[begin + i]) : begin + i;
          shares[place] = static_cast<float>(static_cast<T>(share));
          kept += share;
          place += 1;
        }
      }
    }
    if (pass < 2) {
      level += step * counts_within<STEPS, SIMDGROUPS>(
          counts, most, rooms + turn++ % 2 * SEARCH, lane, group);
    }
  }
  kept = simd_sum(kept);
  if (lane == 0) {
    group_share[group] = kept;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  kept = 0.0f;
  for (uint g = 0; g < SIMDGROUPS; g++) {
    kept += group_share[g];
  }
  left = metal::isnan(kept) ? kept : metal::max(1.0f - kept, 0.0f);
  if (!(left * scalars[3] <= scalars[4] * scalars[5])) {
    continue;
  }

  // Their rows of the embedding, and the mean for the others.
  const uint count = metal::min(token_count, most);
  float square = 0.0f;
  for (uint unit = t; unit < UNITS; unit += THREADS) {
    float sums[VALUES] = {0.0f};
    for (uint k = 0; k < count; k++) {
      embedding.add(sums, shares[k], weight, scales, biases, ids[k], unit);
    }
#pragma clang loop unroll(full)
    for (uint i = 0; i < VALUES; i++) {
      const uint at = unit * VALUES + i;
      const float rest = static_cast<float>(static_cast<T>(left)) * static_cast<float>(mean[at]);
      const T mixed = static_cast<T>(sums[i] + rest);
      const T scaled = static_cast<T>(static_cast<float>(mixed) * scalars[2]);
      soft[static_cast<size_t>(row) * WIDTH + at] = scaled;
      square += static_cast<float>(scaled) * static_cast<float>(scaled);
    }
  }
  square = simd_sum(square);
  if (lane == 0) {
    group_square[group] = square;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  square = 0.0f;
  for (uint g = 0; g < SIMDGROUPS; g++) {
    square += group_square[g];
  }
  if (left * scalars[3] <= scalars[4] * metal::precise::sqrt(square)) {
    reached = attempt;
  }
}

// What is not to be used is 0. Each thread writes where it has written before.
if (reached == NONE) {
  for (uint unit = t; unit < UNITS; unit += THREADS) {
    for (uint i = 0; i < VALUES; i++) {
      soft[static_cast<size_t>(row) * WIDTH + unit * VALUES + i] = static_cast<T>(0.0f);
    }
  }
}
if (t == 0) {
  tail[row] = left;
  tier[row] = static_cast<uint8_t>(reached);
}
