// The experts' last step: each row's K outputs, read where they lie, weighted and summed in the
// order of its slots, and the norm of the sum.
//
//   mixed = norm * s / sqrt(mean(s^2) + eps), s the sum; without NORMED the sum itself
//
// Inputs
//   outputs [L * TOP_K, HIDDEN] T, in any order
//   places  [L, TOP_K] uint32: where the output of a row's slot lies in `outputs`; with PART
//           2^32 - 1 for a slot that adds nothing, whose output was never written
//   weights [L, TOP_K] float
//   norm    [HIDDEN] T; without NORMED the outputs once more, which are not read as such
//   eps     [1] float
// Output
//   mixed   [L, HIDDEN] T
// Template  T (float, half, bfloat), TOP_K, HIDDEN (a multiple of 4), SIMDGROUPS 1 to 32, PART and
//           NORMED bool
// Grid      L threadgroups of 32 * SIMDGROUPS, one a row; a thread makes 4 neighbours at a time
// Reference model/experts.py, `combined`; with PART `combined_own`
// Accuracy  in float32, rounded where the reference stores: the sum, the sum over its root mean
//           square, its product with the norm's weight. The reference rounds the weights to T
//           first. float32: 1e-5 of the row's largest value.

// kernel
    constexpr uint NOWHERE = 0xFFFFFFFFu;
    constexpr int THREADS = 32 * SIMDGROUPS;
    constexpr int PARTS = (HIDDEN + 4 * THREADS - 1) / (4 * THREADS);  // of 4 values, a thread
    threadgroup float squares[SIMDGROUPS];
    const int row = static_cast<int>(threadgroup_position_in_grid.x);
    const int own = static_cast<int>(thread_index_in_threadgroup);
    float sums[4 * PARTS];
#pragma clang loop unroll(full)
    for (int i = 0; i < 4 * PARTS; i++) {
      sums[i] = 0.0f;
    }
    for (int slot = 0; slot < TOP_K; slot++) {
      const float weight = weights[row * TOP_K + slot];
      const uint place = places[row * TOP_K + slot];
      if (PART && place == NOWHERE) {
        continue;  // all threads of the row
      }
      const size_t at = static_cast<size_t>(place) * HIDDEN;
#pragma clang loop unroll(full)
      for (int part = 0; part < PARTS; part++) {
        const int column = 4 * (part * THREADS + own);
        if (column < HIDDEN) {
#pragma clang loop unroll(full)
          for (int i = 0; i < 4; i++) {
            sums[4 * part + i] += weight * static_cast<float>(outputs[at + column + i]);
          }
        }
      }
    }

    if (!NORMED) {
#pragma clang loop unroll(full)
      for (int part = 0; part < PARTS; part++) {
        const int column = 4 * (part * THREADS + own);
        if (column < HIDDEN) {
#pragma clang loop unroll(full)
          for (int i = 0; i < 4; i++) {
            mixed[static_cast<size_t>(row) * HIDDEN + column + i] =
                static_cast<T>(sums[4 * part + i]);
          }
        }
      }
      return;  // all threads
    }

    // The root mean square of the whole row, of what the reference would have stored.
    float square = 0.0f;
#pragma clang loop unroll(full)
    for (int i = 0; i < 4 * PARTS; i++) {
      sums[i] = static_cast<float>(static_cast<T>(sums[i]));
      square += sums[i] * sums[i];
    }
    square = simd_sum(square);
    if (thread_index_in_simdgroup == 0) {
      squares[simdgroup_index_in_threadgroup] = square;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float of_row = 0.0f;
    for (int group = 0; group < SIMDGROUPS; group++) {
      of_row += squares[group];
    }
    const float inverse = metal::precise::rsqrt(of_row / static_cast<float>(HIDDEN) + eps[0]);

#pragma clang loop unroll(full)
    for (int part = 0; part < PARTS; part++) {
      const int column = 4 * (part * THREADS + own);
      if (column < HIDDEN) {
#pragma clang loop unroll(full)
        for (int i = 0; i < 4; i++) {
          const float even = static_cast<float>(static_cast<T>(sums[4 * part + i] * inverse));
          mixed[static_cast<size_t>(row) * HIDDEN + column + i] =
              static_cast<T>(static_cast<float>(norm[column + i]) * even);
        }
      }
    }
