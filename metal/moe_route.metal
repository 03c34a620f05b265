// The routing of few rows: the experts of each and their weights, in one launch.
//
// A row's experts are the TOP_K with the largest scores, ties to the lowest expert; NaN counts as
// -inf there. Their weights are a softmax over the chosen scores, times the scale of each expert.
//
// Inputs
//   scores  [L, E] float, half or bfloat
//   scale   [E] float: one factor an expert
// Outputs
//   experts [L, TOP_K] uint32, the highest score first
//   weights [L, TOP_K] float
// Template  E up to 256, TOP_K up to 16 and E
// Grid      L threadgroups of 32: a simdgroup a row
// Reference model/experts.py, `route`
// Accuracy  experts equal; weights to 1e-5 of the row's largest.

// kernel
    constexpr int PER_LANE = (E + 31) / 32;
    const int lane = static_cast<int>(thread_index_in_simdgroup);
    const int row = static_cast<int>(threadgroup_position_in_grid.x);
    float own_scores[PER_LANE];
#pragma clang loop unroll(full)
    for (int i = 0; i < PER_LANE; i++) {
      const int expert = 32 * i + lane;
      own_scores[i] = expert < E ? static_cast<float>(scores[row * E + expert]) : -INFINITY;
    }
    float share;
    const int own = chosen_expert<E, TOP_K>(own_scores, lane, share);
    if (lane < TOP_K) {
      experts[row * TOP_K + lane] = static_cast<uint>(own);
      weights[row * TOP_K + lane] = share * scale[own];
    }
