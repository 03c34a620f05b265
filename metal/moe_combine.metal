// The experts' last step: each row's K outputs, weighted and summed in the order of its slots.
//
// Inputs
//   outputs [L * TOP_K, HIDDEN] T, row * TOP_K + slot: as moe_down writes it
//   weights [L, TOP_K] float
// Output
//   mixed   [L, HIDDEN] T
// Template  T (float, half, bfloat), TOP_K, HIDDEN (a multiple of 4)
// Grid      (ceil(HIDDEN / 1024), L) threadgroups of 256; a thread makes 4 values
// Reference model/experts.py, `combine`
// Accuracy  in float32, rounded once; the reference rounds the weights to T first. float32: 1e-5 of
//           the row's largest value.

// kernel
    const int row = static_cast<int>(threadgroup_position_in_grid.y);
    const int column = 4 * static_cast<int>(
        threadgroup_position_in_grid.x * 256 + thread_index_in_threadgroup);
    if (column < HIDDEN) {
      float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      for (int slot = 0; slot < TOP_K; slot++) {
        const float weight = weights[row * TOP_K + slot];
        const size_t at = static_cast<size_t>(row * TOP_K + slot) * HIDDEN + column;
        for (int i = 0; i < 4; i++) {
          sums[i] += weight * static_cast<float>(outputs[at + i]);
        }
      }
      for (int i = 0; i < 4; i++) {
        mixed[static_cast<size_t>(row) * HIDDEN + column + i] = static_cast<T>(sums[i]);
      }
    }
