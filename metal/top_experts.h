// The choice of a row's experts, for moe_plan and moe_route: the same in both, bit for bit.

// Finds the TOP_K largest of a row's E scores, by one simdgroup: TOP_K times the best of what is
// left. Ties go to the lowest expert; NaN counts as -inf there. scores: those of experts 32 * i +
// lane for this lane, in place i; what lies behind E is not looked at. Returns the expert in slot
// `lane`, and in `share` its part of a softmax over the chosen; 0 and no number behind TOP_K.
template <int E, int TOP_K>
inline int chosen_expert(const thread float* scores, int lane, thread float& share) {
  constexpr int PER_LANE = (E + 31) / 32;
  bool open[PER_LANE];
#pragma clang loop unroll(full)
  for (int i = 0; i < PER_LANE; i++) {
    open[i] = 32 * i + lane < E;
  }
  int own = 0;
  float own_score = -INFINITY;
  float best_score = 0.0f;
  for (int slot = 0; slot < TOP_K; slot++) {
    int candidate = E;
    float best = -INFINITY;
    float found = 0.0f;
#pragma clang loop unroll(full)
    for (int i = 0; i < PER_LANE; i++) {
      const float rank = metal::isnan(scores[i]) ? -INFINITY : scores[i];
      if (open[i] && (candidate == E || rank > best)) {
        candidate = 32 * i + lane;
        best = rank;
        found = scores[i];
      }
    }
    const float top = simd_max(best);
    const int winner = simd_min(best == top ? candidate : E);
    const float score = simd_sum(candidate == winner ? found : 0.0f);  // NaN, if it is
#pragma clang loop unroll(full)
    for (int i = 0; i < PER_LANE; i++) {
      open[i] = open[i] && 32 * i + lane != winner;
    }
    best_score = slot == 0 ? score : best_score;
    own = lane == slot ? winner : own;
    own_score = lane == slot ? score : own_score;
  }
  const float power = lane < TOP_K ? metal::precise::exp(own_score - best_score) : 0.0f;
  share = power / simd_sum(power);
  return own;
}
