// The plan of a mixture: the experts of each row, their weights, and each expert's rows in tiles.
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
//   rows    [L * TOP_K] uint32: every row * TOP_K + slot, by expert, ascending within one
//   places  [L, TOP_K] uint32: where row * TOP_K + slot stands in `rows`; 2^32 - 1 for one of
//           an expert that is not own
//   tiles   [B, 3] int32: (expert - FIRST, first in rows, count), at most ROWS rows of one own
//           expert each; B is what any choice fits into, (n + (ROWS - 1) min(HELD, n)) / ROWS for
//           n = L * TOP_K; tiles that this one does not need are (0, 0, 0)
// Template  E up to 256, TOP_K up to 16 and E; FIRST and HELD: own experts, of E those whose
//           weights are at hand; ROWS 16 or 32; L up to 512
// Grid      one threadgroup of 512
// Reference model/experts.py, `route`, and kernels/experts/plan.py, `plan_of`
// Accuracy  experts, rows, places and tiles equal; weights to 1e-5 of the row's largest.

// kernel
    constexpr int PER_LANE = (E + 31) / 32;
    constexpr int PADDED = 32 * PER_LANE;     // experts, as whole simdgroups
    constexpr int SEGMENTS = 512 / PADDED;    // parts of the choices that are counted apart
    constexpr int LAST = FIRST + HELD - 1;    // own expert
    threadgroup ushort chosen[512 * TOP_K];
    threadgroup int counts[512];              // [SEGMENTS][PADDED]
    threadgroup int starts[PADDED];
    const int lane = static_cast<int>(thread_index_in_simdgroup);
    const int group = static_cast<int>(simdgroup_index_in_threadgroup);
    const int rows_in = scores_shape[0];
    const int choices = rows_in * TOP_K;

    // A simdgroup a row.
    for (int row = group; row < rows_in; row += 16) {
      float own_scores[PER_LANE];
#pragma clang loop unroll(full)
      for (int i = 0; i < PER_LANE; i++) {
        const int expert = 32 * i + lane;
        own_scores[i] = expert < E ? static_cast<float>(scores[row * E + expert]) : -INFINITY;
      }
      float share;
      const int own = chosen_expert<E, TOP_K>(own_scores, lane, share);
      if (lane < TOP_K) {
        const int at = row * TOP_K + lane;
        experts[at] = static_cast<uint>(own);
        weights[at] = share * scale[own];
        chosen[at] = static_cast<ushort>(own);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    // A thread an expert and segment: how often that expert was chosen there.
    const int expert = static_cast<int>(thread_index_in_threadgroup) % PADDED;
    const int segment = static_cast<int>(thread_index_in_threadgroup) / PADDED;
    const int length = (choices + SEGMENTS - 1) / SEGMENTS;
    const int begin = segment * length;
    const int end = metal::min(begin + length, choices);
    int count = 0;
    for (int i = begin; i < end; i++) {
      count += static_cast<int>(chosen[i]) == expert ? 1 : 0;
    }
    counts[thread_index_in_threadgroup] = count;
    threadgroup_barrier(mem_flags::mem_threadgroup);

    // One simdgroup: where each expert's rows start, and its tiles.
    if (group == 0) {
      int rows_before = 0;
      int tiles_before = 0;
      for (int i = 0; i < PER_LANE; i++) {
        int of_expert = 0;
        for (int s = 0; s < SEGMENTS; s++) {
          of_expert += counts[s * PADDED + 32 * i + lane];
        }
        const int start = rows_before + simd_prefix_exclusive_sum(of_expert);
        const bool held = 32 * i + lane >= FIRST && 32 * i + lane <= LAST;
        const int own_tiles = held ? (of_expert + ROWS - 1) / ROWS : 0;
        const int tile = tiles_before + simd_prefix_exclusive_sum(own_tiles);
        starts[32 * i + lane] = start;
        for (int j = 0; j < own_tiles; j++) {
          tiles[3 * (tile + j)] = 32 * i + lane - FIRST;
          tiles[3 * (tile + j) + 1] = start + ROWS * j;
          tiles[3 * (tile + j) + 2] = metal::min(ROWS, of_expert - ROWS * j);
        }
        rows_before += simd_sum(of_expert);
        tiles_before += simd_sum(own_tiles);
      }
      const int all_tiles = (choices + (ROWS - 1) * metal::min(HELD, choices)) / ROWS;
      for (int i = 3 * tiles_before + lane; i < 3 * all_tiles; i += 32) {
        tiles[i] = 0;
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    // The threads that counted, once more: the choices of each expert in ascending order.
    if (begin < end) {
      const bool held = expert >= FIRST && expert <= LAST;
      int at = starts[expert];
      for (int s = 0; s < segment; s++) {
        at += counts[s * PADDED + expert];
      }
      for (int i = begin; i < end; i++) {
        if (static_cast<int>(chosen[i]) == expert) {
          rows[at] = static_cast<uint>(i);
          places[i] = held ? static_cast<uint>(at) : 0xFFFFFFFFu;
          at += 1;
        }
      }
    }
