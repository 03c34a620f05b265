// The number that denoise_stats, denoise_pick, class_stats, class_pick and soft_gather make of a raw
// logit: the same in all of them, bit for bit.

// cap * tanh(raw / cap) / temperature: softcapped and over the step's temperature, float32.
inline float processed_logit(float raw, float cap, float temperature) {
  return metal::precise::tanh(raw / cap) * cap / temperature;
}
