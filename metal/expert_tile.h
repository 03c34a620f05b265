// One tile of a product with an expert's weight: 32 rows times 128 of its outputs, by 128 threads.
//
// A tile is made of fragments, 8x8 matrices that a simdgroup multiplies. Each of the 4 simdgroups
// makes all rows of 32 outputs, which is 4 x 4 fragments; rows come in eights, so fragments without
// rows are left out. No two simdgroups share weights: weights go from device memory straight into
// the registers of the lanes, each unpacked by one lane, once for all rows, in float. All
// simdgroups share the rows: these are staged in threadgroup memory, 32 values of each at a time,
// in two buffers used in turn, so that one barrier a step is enough.
#include <metal_simdgroup_matrix>

constant constexpr const int TILE_ROWS = 32;
constant constexpr const int TILE_STEP = 32;  // values of a row that are staged at a time
constant constexpr const int FRAGMENTS = 4;   // of rows; also of outputs, a simdgroup

// Values from one staged row to the next; the padding spreads rows over the memory banks.
template <typename T>
inline constexpr int staged_row() {
  return TILE_STEP + 16 / static_cast<int>(sizeof(T));
}

// Values of both buffers.
template <typename T>
inline constexpr int staged_values() {
  return 2 * TILE_ROWS * staged_row<T>();
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

// The scale or bias of the group of value k of a weight's row; WIDTH values a row, GROUP a
// group. Weights that are not packed (BITS 0) have none: `values` is not read.
template <int BITS, int GROUP, int WIDTH, typename S>
inline float of_group(const device S* values, uint row, int k) {
  return BITS == 0 ? 0.0f : static_cast<float>(values[row * (WIDTH / GROUP) + k / GROUP]);
}

// Value k of a row of a packed weight.
template <int BITS, int WIDTH>
inline float weight_at(const device uint32_t* words, uint row, int k, float scale, float bias) {
  constexpr int COUNT = packed_in_word<BITS>();
  return unpacked<BITS>(words[row * (WIDTH / COUNT) + k / COUNT], k % COUNT, scale, bias);
}

// Value k of a row of a weight that is not packed.
template <int BITS, int WIDTH, typename W>
inline float weight_at(const device W* values, uint row, int k, float scale, float bias) {
  static_assert(BITS == 0, "packed weights are words");
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

// Adds the tile's products to `sums` [4 row fragments][4 output fragments][2], this lane's part.
//   staged       staged_values<T>() values
//   source       the row that this thread stages, thread_index / 4 of the tile
//   weight_rows  [4][2]: the rows of the weight that make the outputs of this lane
//   fragments    of 8 rows, as many as there are
template <typename T, int BITS, int GROUP, int WIDTH, typename W, typename S>
inline void multiply_tile(
    thread float* sums,
    threadgroup T* staged,
    const device T* source,
    const device W* weight,
    const device S* scales,
    const device S* biases,
    const thread uint* weight_rows,
    int fragments,
    uint thread_index,
    Place place) {
  static_assert(WIDTH % TILE_STEP == 0, "a row must be whole steps");
  static_assert(GROUP % TILE_STEP == 0, "a step must lie within a group");
  constexpr int ROW = staged_row<T>();
  const int own_row = static_cast<int>(thread_index / 4);
  const int own_values = static_cast<int>(thread_index % 4) * 8;
  for (int k0 = 0; k0 < WIDTH; k0 += TILE_STEP) {
    threadgroup T* buffer = staged + (k0 / TILE_STEP % 2) * TILE_ROWS * ROW;
    if (own_row < 8 * fragments) {
      for (int i = own_values; i < own_values + 8; i++) {
        buffer[own_row * ROW + i] = source[k0 + i];
      }
    }
    float scale[2 * FRAGMENTS];
    float bias[2 * FRAGMENTS];
    for (int n = 0; n < 2 * FRAGMENTS; n++) {
      scale[n] = of_group<BITS, GROUP, WIDTH>(scales, weight_rows[n], k0);
      bias[n] = of_group<BITS, GROUP, WIDTH>(biases, weight_rows[n], k0);
    }
    // A thread that passes has staged this step's rows and has read those of the step before.
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int k = 0; k < TILE_STEP; k += 8) {
      float b[2 * FRAGMENTS];
      for (int n = 0; n < 2 * FRAGMENTS; n++) {
        const int at = k0 + k + place.row;
        b[n] = weight_at<BITS, WIDTH>(weight, weight_rows[n], at, scale[n], bias[n]);
      }
#pragma clang loop unroll(full)
      for (int i = 0; i < FRAGMENTS; i++) {
        if (i < fragments) {
          const threadgroup T* a = buffer + (8 * i + place.row) * ROW + k + place.column;
          const float a0 = static_cast<float>(a[0]);
          const float a1 = static_cast<float>(a[1]);
#pragma clang loop unroll(full)
          for (int f = 0; f < FRAGMENTS; f++) {
            multiply_accumulate(sums + 2 * (FRAGMENTS * i + f), a0, a1, b[2 * f], b[2 * f + 1]);
          }
        }
      }
    }
  }
}
