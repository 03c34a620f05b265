// One tile of a product with an expert's weight: ROWS rows, 16 or 32, times 128 of its outputs, by
// 128 threads.
//
// A tile is made of fragments, 8x8 matrices that a simdgroup multiplies. Each of the 4 simdgroups
// makes all rows of 32 outputs, which is ROWS / 8 x 4 fragments; rows come in eights, so fragments without
// rows are left out. No two simdgroups share weights: weights go from device memory straight into
// the registers of the lanes, each unpacked by one lane, once for all rows, in float. All
// simdgroups share the rows: these are staged in threadgroup memory, one step of each at a time, in
// two buffers used in turn, so that one barrier a step is enough. What is staged next is fetched
// before the step is multiplied, and stored after.
//
// A step is 8 words of a weight's row: 64 values of 4 bits, 32 of 8. Its values are multiplied in
// such an order that a lane needs one word for all of them: value s of every word before value s + 1
// of any. The lane that holds row r of the fragments of weights loads word r. Value s of word c of a
// row is staged at 8 s + c. Weights that are not packed (BITS 0) are multiplied in the order of 8
// bits, and read value by value.
#include <metal_simdgroup_matrix>

constant constexpr const int TILE_THREADS = 128;
constant constexpr const int FRAGMENTS = 4;  // of outputs, a simdgroup

// Values of a row in one word of a weight.
template <int BITS>
inline constexpr int values_in_word() {
  return packed_in_word<BITS == 0 ? 8 : BITS>();
}

// Words from one staged row to the next; the padding spreads rows over the memory banks.
template <typename T, int BITS>
inline constexpr int staged_row() {
  return 2 * values_in_word<BITS>() * static_cast<int>(sizeof(T)) + 4;
}

// Words of both buffers.
template <typename T, int BITS, int ROWS>
inline constexpr int staged_words() {
  return 2 * ROWS * staged_row<T, BITS>();
}

// Units of 16 bytes in a step of a row.
template <typename T, int BITS>
inline constexpr int units_in_row() {
  return values_in_word<BITS>() * static_cast<int>(sizeof(T)) / 2;
}

// Units that a thread stages in a step. Of 16 rows of 16-bit values with weights of 8 bits or none
// there are 64: half of the threads have none.
template <typename T, int BITS, int ROWS>
inline constexpr int units_of_thread() {
  return (ROWS * units_in_row<T, BITS>() + TILE_THREADS - 1) / TILE_THREADS;
}

// The row, in the tile, of unit `u` of a thread.
template <typename T, int BITS>
inline int row_of_unit(uint thread_index, int u) {
  return (static_cast<int>(thread_index) + TILE_THREADS * u) / units_in_row<T, BITS>();
}

// The two values of every fragment that a lane holds: (row, column) and (row, column + 1). MLX's
// own matrix kernels rely on this layout.
struct Place {
  int row;
  int column;
};

inline Place place_of(uint lane) {
  const int quad = static_cast<int>(lane) / 4;
  Place place;
  place.row = (quad & 4) + static_cast<int>(lane / 2) % 4;
  place.column = (quad & 2) * 2 + static_cast<int>(lane % 2) * 2;
  return place;
}

// The T at `place` of a word: half 0 or 1 where T has 16 bits, the whole where it has 32.
template <typename T>
inline T part_of(uint word, int place) {
  return as_type<T>(static_cast<ushort>(word >> (16 * place)));
}

template <>
inline float part_of<float>(uint word, int place) {
  return as_type<float>(word);
}

// The scales or biases of a lane's rows of a weight, of the group of their values k; WIDTH values a
// row, GROUP a group. Weights that are not packed (BITS 0) have none: `values` is not read.
template <int BITS, int GROUP, int WIDTH, typename S>
inline void fetch_group(
    thread float* found, const device S* values, const thread uint* weight_rows, int k) {
#pragma clang loop unroll(full)
  for (int n = 0; n < 2 * FRAGMENTS; n++) {
    const uint at = weight_rows[n] * (WIDTH / GROUP) + static_cast<uint>(k / GROUP);
    found[n] = BITS == 0 ? 0.0f : static_cast<float>(values[at]);
  }
}

// A word of a row of a packed weight.
template <int BITS, int WIDTH>
inline uint word_of(const device uint32_t* words, uint row, int word) {
  return words[row * (WIDTH / values_in_word<BITS>()) + word];
}

// A weight that is not packed has none: its values are read one by one.
template <int BITS, int WIDTH, typename W>
inline uint word_of(const device W* values, uint row, int word) {
  static_assert(BITS == 0, "packed weights are words");
  return 0u;
}

// Value s of that word, which stands at k in the row.
template <int BITS, int WIDTH>
inline float value_of(
    const device uint32_t* words, uint row, int k, uint word, int s, float scale, float bias) {
  return unpacked<BITS>(word, s, scale, bias);
}

template <int BITS, int WIDTH, typename W>
inline float value_of(
    const device W* values, uint row, int k, uint word, int s, float scale, float bias) {
  return static_cast<float>(values[row * WIDTH + k]);
}

// sums += a b for one fragment, of which this lane holds two values.
inline void multiply_accumulate(thread float* sums, float a0, float a1, float b0, float b1) {
  metal::simdgroup_matrix<float, 8, 8> a;
  metal::simdgroup_matrix<float, 8, 8> b;
  metal::simdgroup_matrix<float, 8, 8> c;
  metal::simdgroup_matrix<float, 8, 8> product;
  a.thread_elements()[0] = a0;
  a.thread_elements()[1] = a1;
  b.thread_elements()[0] = b0;
  b.thread_elements()[1] = b1;
  c.thread_elements()[0] = sums[0];
  c.thread_elements()[1] = sums[1];
  simdgroup_multiply_accumulate(product, a, b, c);
  sums[0] = product.thread_elements()[0];
  sums[1] = product.thread_elements()[1];
}

// Fetches the units that this thread stages of the step that begins at k0; zeros behind a row's end.
//   source_rows  [units_of_thread]: the row of x of each unit
template <typename T, int BITS, int WIDTH, int ROWS>
inline void fetch_units(
    thread uint4* units,
    const device T* x,
    const thread uint* source_rows,
    int fragments,
    uint thread_index,
    int k0) {
  constexpr int VALUES = 16 / static_cast<int>(sizeof(T));
#pragma clang loop unroll(full)
  for (int u = 0; u < units_of_thread<T, BITS, ROWS>(); u++) {
    const int part = static_cast<int>(thread_index) % units_in_row<T, BITS>();
    const int k = k0 + part * VALUES;
    units[u] = uint4(0u);
    if (row_of_unit<T, BITS>(thread_index, u) < 8 * fragments && k < WIDTH) {
      const device T* at = x + static_cast<size_t>(source_rows[u]) * WIDTH + k;
      units[u] = *reinterpret_cast<const device uint4*>(at);
    }
  }
}

// Stores them: value s of word c of a row at 8 s + c.
template <typename T, int BITS, int ROWS>
inline void stage_units(
    threadgroup T* buffer, const thread uint4* units, int fragments, uint thread_index) {
  constexpr int VALUES = 16 / static_cast<int>(sizeof(T));
  constexpr int WORD = values_in_word<BITS>();
  constexpr int ROW = staged_row<T, BITS>() * 4 / static_cast<int>(sizeof(T));
#pragma clang loop unroll(full)
  for (int u = 0; u < units_of_thread<T, BITS, ROWS>(); u++) {
    const int row = row_of_unit<T, BITS>(thread_index, u);
    if (row < 8 * fragments) {
      const int first = static_cast<int>(thread_index) % units_in_row<T, BITS>() * VALUES;
#pragma clang loop unroll(full)
      for (int i = 0; i < VALUES; i++) {
        const int at = 8 * ((first + i) % WORD) + (first + i) / WORD;
        buffer[row * ROW + at] = part_of<T>(units[u][i * 4 / VALUES], i % (VALUES / 4));
      }
    }
  }
}

// Adds to `sums` the products with the 8 values that stand at place s of a step's words.
//   b  [4][2]: this lane's values of the fragments of weights
template <typename T, int BITS, int ROWS>
inline void multiply_values(
    thread float* sums,
    const threadgroup uint* buffer,
    const thread float* b,
    int fragments,
    int s,
    Place place) {
  constexpr int SIZE = static_cast<int>(sizeof(T));
#pragma clang loop unroll(full)
  for (int i = 0; i < ROWS / 8; i++) {
    if (i < fragments) {
      // Two neighbours: one word where T has 16 bits, two where it has 32.
      const threadgroup uint* a = buffer + (8 * i + place.row) * staged_row<T, BITS>() +
          (8 * s + place.column) * SIZE / 4;
      const float a0 = static_cast<float>(part_of<T>(a[0], 0));
      const float a1 = static_cast<float>(part_of<T>(a[SIZE / 4], 1));
#pragma clang loop unroll(full)
      for (int f = 0; f < FRAGMENTS; f++) {
        multiply_accumulate(sums + 2 * (FRAGMENTS * i + f), a0, a1, b[2 * f], b[2 * f + 1]);
      }
    }
  }
}

// Adds the tile's products to `sums` [ROWS / 8 row fragments][4 output fragments][2], this lane's
// part.
//   staged       staged_words<T, BITS, ROWS>() words
//   x            rows of WIDTH values, each at a multiple of 16 bytes
//   source_rows  [units_of_thread<T, BITS, ROWS>()]: the row of x that this thread stages for each unit
//   weight_rows  [4][2]: the rows of the weight that make the outputs of this lane
//   fragments    of 8 rows, as many as there are
template <typename T, int BITS, int GROUP, int WIDTH, int ROWS, typename W, typename S>
inline void multiply_tile(
    thread float* sums,
    threadgroup uint* staged,
    const device T* x,
    const thread uint* source_rows,
    const device W* weight,
    const device S* scales,
    const device S* biases,
    const thread uint* weight_rows,
    int fragments,
    uint thread_index,
    Place place) {
  constexpr int WORD = values_in_word<BITS>();
  constexpr int STEP = 8 * WORD;
  static_assert(WIDTH % 32 == 0, "a row must be whole groups");
  static_assert(GROUP % WORD == 0, "a word must lie within a group");
  uint4 units[units_of_thread<T, BITS, ROWS>()];
  float scale[2 * FRAGMENTS];
  float bias[2 * FRAGMENTS];
  fetch_units<T, BITS, WIDTH, ROWS>(units, x, source_rows, fragments, thread_index, 0);
  for (int k0 = 0; k0 < WIDTH; k0 += STEP) {
    threadgroup uint* buffer = staged + (k0 / STEP % 2) * ROWS * staged_row<T, BITS>();
    // Behind a row's end, in the second half of a last step, its last word meets zeros.
    const int own = metal::min(k0 / WORD + place.row, WIDTH / WORD - 1);
    uint words[2 * FRAGMENTS];
#pragma clang loop unroll(full)
    for (int n = 0; n < 2 * FRAGMENTS; n++) {
      words[n] = word_of<BITS, WIDTH>(weight, weight_rows[n], own);
    }
    if (k0 % GROUP < STEP) {
      fetch_group<BITS, GROUP, WIDTH>(scale, scales, weight_rows, own * WORD);
      fetch_group<BITS, GROUP, WIDTH>(bias, biases, weight_rows, own * WORD);
    }
    stage_units<T, BITS, ROWS>(
        reinterpret_cast<threadgroup T*>(buffer), units, fragments, thread_index);
    // A thread that passes has staged this step's rows and has read those of the step before.
    threadgroup_barrier(mem_flags::mem_threadgroup);
    fetch_units<T, BITS, WIDTH, ROWS>(
        units, x, source_rows, fragments, thread_index, k0 + STEP);
#pragma clang loop unroll(full)
    for (int s = 0; s < WORD; s++) {
      float b[2 * FRAGMENTS];
#pragma clang loop unroll(full)
      for (int n = 0; n < 2 * FRAGMENTS; n++) {
        b[n] = value_of<BITS, WIDTH>(
            weight, weight_rows[n], own * WORD + s, words[n], s, scale[n], bias[n]);
      }
      multiply_values<T, BITS, ROWS>(sums, buffer, b, fragments, s, place);
    }
  }
}
