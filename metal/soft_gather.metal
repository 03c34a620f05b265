// soft_gather: a row's soft embedding from the tokens that carry weight, straight from the (packed)
// embedding, and whether that is enough.
//
// inputs   logits [R, V] T, T half or bfloat   the head's output, before the softcap
//          records [R, S, 4] float32, peaks [R, B] float32: of denoise_stats
//          weight [V, WIDTH]: float, half or bfloat (BITS 0), or words of BITS-bit values
//          scales, biases [V, WIDTH / GROUP]; for BITS 0 the weight once more, not read as such
//          scalars [5] float32: softcap, temperature, scale (sqrt(WIDTH) rounded to T), reach
//                               (the embedding's largest row norm * scale), half an ulp of T
// outputs  soft [R, WIDTH] T      sum over kept tokens of T(share) * row, rounded to T; times
//                                 scale, rounded again
//          tail [R] float32       1 - the sum of the kept shares
//          suffices [R] bool      tail * reach <= half an ulp * ||soft||
// template T; V; WIDTH; BITS 0, 4 or 8; GROUP 32, 64 or 128
// grid     R threadgroups of 256 threads
// reference  model/embedding.py gather
// tolerance  soft 2 ulp of the row's largest value from the float64 mean of the tokens kept, tail
//            1e-5; other tokens are kept only where a share is a level's to within rounding
//
// A token's share is that of its logit rounded to T, as the reference rounds before the softmax.
// Kept are the tokens of at least the share 2^(-j/2), j <= 63 the largest at which at most 64 are
// that heavy. That level is found twice: among the largest shares of blocks of 128 ids, since more
// than 64 such blocks hold more than 64 such tokens; then among the tokens of the at most 64 blocks
// left, 32 neighbouring ids a thread. Nothing else of the logits is read. Tokens are added in order
// of id.

// The share 2^(-level / 2).
inline float share_of_level(uint level) {
  const float whole = 1.0f / static_cast<float>(1u << (level / 2));
  return level % 2 == 0 ? whole : whole * 0.70710678f;
}

// Number of the threadgroup's values, COUNT a thread, that are at least `least`.
//   room  a number a simdgroup, used by this call only
template <uint COUNT, uint SIMDGROUPS>
inline uint count_at_least(
    const thread float* values, float least, threadgroup uint* room, uint lane, uint group) {
  uint mine = 0;
  for (uint i = 0; i < COUNT; i++) {
    mine += values[i] >= least ? 1u : 0u;
  }
  const uint together = simd_sum(mine);
  if (lane == 0) {
    room[group] = together;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint count = 0;
  for (uint g = 0; g < SIMDGROUPS; g++) {
    count += room[g];
  }
  return count;
}

// The last of 64 levels at which at most KEPT of the threadgroup's values reach its share of mass.
//   room  6 * SIMDGROUPS numbers, used by this call only
template <uint COUNT, uint KEPT, uint SIMDGROUPS>
inline uint last_level(
    const thread float* values, float mass, threadgroup uint* room, uint lane, uint group) {
  uint level = 0;
  for (uint n = 0; n < 6; n++) {
    const uint step = 32u >> n;
    const float least = share_of_level(level + step) * mass;
    threadgroup uint* own = room + n * SIMDGROUPS;
    if (count_at_least<COUNT, SIMDGROUPS>(values, least, own, lane, group) <= KEPT) {
      level += step;
    }
  }
  return level;
}

// Number of the threadgroup's values in the threads before this one that are at least `least`;
// `all`: of those in all threads.
template <uint COUNT, uint SIMDGROUPS>
inline uint count_before(
    const thread float* values,
    float least,
    threadgroup uint* room,
    uint lane,
    uint group,
    thread uint& all) {
  uint mine = 0;
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
    for (int i = 0; i < 4; i++) {
      sums[i] += share * static_cast<float>(weight[id * WIDTH + unit * 4 + i]);
    }
  }
};

// kernel
constexpr uint SLICE = 4096, BLOCK = 128, KEPT = 64;  // tokens at most; blocks, too
constexpr uint SIMDGROUPS = 8, THREADS = 32 * SIMDGROUPS, PER = KEPT * BLOCK / THREADS;
constexpr uint VOCAB = V;
constexpr uint SLICES = (VOCAB + SLICE - 1) / SLICE, BLOCKS = (VOCAB + BLOCK - 1) / BLOCK;
constexpr uint BLOCKS_PER = (BLOCKS + THREADS - 1) / THREADS, SEARCH = 6 * SIMDGROUPS;
constexpr uint VALUES = 32 / (BITS == 0 ? 8 : BITS), UNITS = WIDTH / VALUES;
threadgroup float masses[SLICES];
threadgroup uint block_room[SEARCH];
threadgroup uint block_places[SIMDGROUPS];
threadgroup uint blocks[KEPT];
threadgroup uint token_room[SEARCH];
threadgroup uint token_places[SIMDGROUPS];
threadgroup uint ids[KEPT];
threadgroup float shares[KEPT];
threadgroup float group_share[SIMDGROUPS];
threadgroup float group_square[SIMDGROUPS];

const uint row = threadgroup_position_in_grid.x;
const uint t = thread_position_in_threadgroup.x;
const uint lane = thread_index_in_simdgroup;
const uint group = simdgroup_index_in_threadgroup;

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

// Blocks that may hold a token to keep, in order.
float heaviest[BLOCKS_PER];
for (uint i = 0; i < BLOCKS_PER; i++) {
  heaviest[i] = -1.0f;
  const uint block = t * BLOCKS_PER + i;
  if (block < BLOCKS) {
    const T peak = static_cast<T>(peaks[static_cast<size_t>(row) * BLOCKS + block]);
    heaviest[i] = metal::precise::exp(static_cast<float>(peak) - largest);
  }
}
const uint block_level =
    last_level<BLOCKS_PER, KEPT, SIMDGROUPS>(heaviest, mass, block_room, lane, group);
const float block_least = share_of_level(block_level) * mass;
uint block_count = 0;
uint place = count_before<BLOCKS_PER, SIMDGROUPS>(
    heaviest, block_least, block_places, lane, group, block_count);
for (uint i = 0; i < BLOCKS_PER; i++) {
  if (heaviest[i] >= block_least && place < KEPT) {
    blocks[place] = t * BLOCKS_PER + i;
    place += 1;
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);

// Their tokens, in order: four threads a block.
const uint own = t / (BLOCK / PER);
const bool holds = own < metal::min(block_count, KEPT);
const uint begin = (holds ? blocks[own] : 0u) * BLOCK + (t % (BLOCK / PER)) * PER;
float weights[PER];
for (uint i = 0; i < PER; i++) {
  weights[i] = -1.0f;
  if (holds && begin + i < VOCAB) {
    const float raw = static_cast<float>(logits[static_cast<size_t>(row) * VOCAB + begin + i]);
    const T x = static_cast<T>(processed_logit(raw, scalars[0], scalars[1]));
    weights[i] = metal::precise::exp(static_cast<float>(x) - largest);
  }
}
const uint token_level = last_level<PER, KEPT, SIMDGROUPS>(weights, mass, token_room, lane, group);
const float least = share_of_level(metal::min(token_level, block_level)) * mass;
uint token_count = 0;
place = count_before<PER, SIMDGROUPS>(weights, least, token_places, lane, group, token_count);
float kept = 0.0f;
for (uint i = 0; i < PER; i++) {
  if (weights[i] >= least && place < KEPT) {
    const float share = weights[i] / mass;
    ids[place] = begin + i;
    shares[place] = static_cast<float>(static_cast<T>(share));
    kept += share;
    place += 1;
  }
}
kept = simd_sum(kept);
if (lane == 0) {
  group_share[group] = kept;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

// Their rows of the embedding.
Embedding<BITS, GROUP, WIDTH> embedding;
const uint count = metal::min(token_count, KEPT);
float square = 0.0f;
for (uint unit = t; unit < UNITS; unit += THREADS) {
  float sums[VALUES];
  for (uint i = 0; i < VALUES; i++) {
    sums[i] = 0.0f;
  }
  for (uint k = 0; k < count; k++) {
    embedding.add(sums, shares[k], weight, scales, biases, ids[k], unit);
  }
  for (uint i = 0; i < VALUES; i++) {
    const T mixed = static_cast<T>(sums[i]);
    const T scaled = static_cast<T>(static_cast<float>(mixed) * scalars[2]);
    soft[static_cast<size_t>(row) * WIDTH + unit * VALUES + i] = scaled;
    square += static_cast<float>(scaled) * static_cast<float>(scaled);
  }
}
square = simd_sum(square);
if (lane == 0) {
  group_square[group] = square;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (t == 0) {
  float together = 0.0f, size = 0.0f;
  for (uint g = 0; g < SIMDGROUPS; g++) {
    together += group_share[g];
    size += group_square[g];
  }
  const float left = metal::isnan(together) ? together : metal::max(1.0f - together, 0.0f);
  tail[row] = left;
  suffices[row] = left * scalars[3] <= scalars[4] * metal::precise::sqrt(size);
}
