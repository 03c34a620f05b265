// The first half of the experts: geglu(gate x, up x) for every (row, slot), rows read from
// where they lie.
//
//   inner[i] = gelu_tanh(Wg x) * (Wu x), x row rows[i] / TOP_K, Wg and Wu those of its expert
//
// Inputs
//   x       [L, HIDDEN] T, at a multiple of 16 bytes
//   weight  [E, 2 * INNER, HIDDEN], gate above up: float (BITS 0), or words of BITS-bit values
//   scales  [E, 2 * INNER, HIDDEN / GROUP] T and
//   biases  likewise; for BITS 0 the weight once more, which is not read as such
//   rows    [L * TOP_K] uint32, tiles [B, 3] int32: as moe_plan writes them
// Output
//   inner   [L * TOP_K, INNER] T, in the order of `rows`
// Template  T (float, half, bfloat), TOP_K, HIDDEN and INNER (multiples of 32), BITS 0, 4 or 8,
//           GROUP 32, 64 or 128 (32 for BITS 0); ROWS 16 or 32, those of a tile
// Grid      (ceil(INNER / 64), B) threadgroups of 128; each makes 64 gates and their 64 ups
// Reference model/experts.py, `gate_up_sorted`
// Accuracy  products and the activation in float32, rounded once; the reference rounds gate, up
//           and activation to T each. float32: 1e-5 of the row's largest value.

// gelu_tanh(gate) * up; (1 + tanh(y)) / 2 = 1 / (1 + exp(-2 y)).
inline float geglu(float gate, float up) {
  const float y2 = gate * (gate * gate * 0.0713548162726f + 1.5957691216057308f);
  return gate / (1.0f + metal::precise::exp(-y2)) * up;
}

// kernel
    constexpr int STAGED = staged_words<T, BITS, ROWS>();
    threadgroup uint staged[STAGED];
    const int tile = 3 * static_cast<int>(threadgroup_position_in_grid.y);
    const int expert = tiles[tile];
    const int first = tiles[tile + 1];
    const int count = tiles[tile + 2];
    if (count == 0) {
      return;  // all threads: a tile that the plan did not need
    }
    // Rows beyond the last repeat it; what they give is not stored.
    constexpr int UNITS = units_of_thread<T, BITS, ROWS>();
    uint source_rows[UNITS];
#pragma clang loop unroll(full)
    for (int u = 0; u < UNITS; u++) {
      const int own = metal::min(row_of_unit<T, BITS>(thread_index_in_threadgroup, u), count - 1);
      source_rows[u] = rows[first + own] / TOP_K;
    }
    const Place place = place_of(thread_index_in_simdgroup);
    const int column = static_cast<int>(
        threadgroup_position_in_grid.x * 64 + simdgroup_index_in_threadgroup * 16) + place.column;
    uint weight_rows[2 * FRAGMENTS];  // two fragments of gates, then their ups
#pragma clang loop unroll(full)
    for (int c = 0; c < 2; c++) {
#pragma clang loop unroll(full)
      for (int j = 0; j < 2; j++) {
        const int gate = expert * 2 * INNER + metal::min(column + 8 * c + j, INNER - 1);
        weight_rows[2 * c + j] = static_cast<uint>(gate);
        weight_rows[2 * (c + 2) + j] = static_cast<uint>(gate + INNER);
      }
    }
    float sums[2 * (ROWS / 8) * FRAGMENTS];
#pragma clang loop unroll(full)
    for (int i = 0; i < 2 * (ROWS / 8) * FRAGMENTS; i++) {
      sums[i] = 0.0f;
    }
    multiply_tile<T, BITS, GROUP, HIDDEN, ROWS>(
        sums, staged, x, source_rows, weight, scales, biases, weight_rows,
        (count + 7) / 8, thread_index_in_threadgroup, place);
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS / 8; i++) {
      const int row = 8 * i + place.row;
#pragma clang loop unroll(full)
      for (int c = 0; c < 2; c++) {
#pragma clang loop unroll(full)
        for (int j = 0; j < 2; j++) {
          if (row < count && column + 8 * c + j < INNER) {
            const float gate = sums[2 * (FRAGMENTS * i + c) + j];
            const float up = sums[2 * (FRAGMENTS * i + c + 2) + j];
            const size_t at = static_cast<size_t>(first + row) * INNER;
            inner[at + column + 8 * c + j] = static_cast<T>(geglu(gate, up));
          }
        }
      }
    }
