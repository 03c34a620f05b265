// The second half of the experts: W h for every (row, slot), in the order of the plan's rows.
//
//   outputs[i] = W inner[i], W that of its expert
//
// Inputs
//   inner   [L * TOP_K, INNER] T, in the order of the plan's rows, at a multiple of 16 bytes: as
//           moe_gate_up writes it
//   weight  [E, HIDDEN, INNER]: float (BITS 0), or words of BITS-bit values
//   scales  [E, HIDDEN, INNER / GROUP] T and
//   biases  likewise; for BITS 0 the weight once more, which is not read as such
//   tiles   [B, 3] int32: as moe_plan writes them
// Output
//   outputs [L * TOP_K, HIDDEN] T, in the order of the plan's rows
// Template  T (float, half, bfloat), HIDDEN, INNER (a multiple of 32), BITS 0, 4 or 8,
//           GROUP 32, 64 or 128 (32 for BITS 0); ROWS 16 or 32, those of a tile
// Grid      (ceil(HIDDEN / 128), B) threadgroups of 128; each makes 128 outputs
// Reference model/experts.py, `down_sorted`
// Accuracy  products in float32, rounded once. float32: 1e-5 of the row's largest value.

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
      source_rows[u] = static_cast<uint>(first + own);
    }
    const Place place = place_of(thread_index_in_simdgroup);
    const int column = static_cast<int>(
        threadgroup_position_in_grid.x * 128 + simdgroup_index_in_threadgroup * 32) + place.column;
    uint weight_rows[2 * FRAGMENTS];
#pragma clang loop unroll(full)
    for (int f = 0; f < FRAGMENTS; f++) {
#pragma clang loop unroll(full)
      for (int j = 0; j < 2; j++) {
        const int output = metal::min(column + 8 * f + j, HIDDEN - 1);
        weight_rows[2 * f + j] = static_cast<uint>(expert * HIDDEN + output);
      }
    }
    float sums[2 * (ROWS / 8) * FRAGMENTS];
#pragma clang loop unroll(full)
    for (int i = 0; i < 2 * (ROWS / 8) * FRAGMENTS; i++) {
      sums[i] = 0.0f;
    }
    multiply_tile<T, BITS, GROUP, INNER, ROWS>(
        sums, staged, inner, source_rows, weight, scales, biases, weight_rows,
        (count + 7) / 8, thread_index_in_threadgroup, place);
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS / 8; i++) {
      const int row = 8 * i + place.row;
      if (row < count) {
        const size_t at = static_cast<size_t>(first + row) * HIDDEN;
#pragma clang loop unroll(full)
        for (int f = 0; f < FRAGMENTS; f++) {
#pragma clang loop unroll(full)
          for (int j = 0; j < 2; j++) {
            if (column + 8 * f + j < HIDDEN) {
              outputs[at + column + 8 * f + j] =
                  static_cast<T>(sums[2 * (FRAGMENTS * i + f) + j]);
            }
          }
        }
      }
    }
