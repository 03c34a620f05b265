// What denoise_stats, denoise_pick and soft_gather have in common: all three turn the same raw
// logit into the same number, bit for bit.

// cap * tanh(raw / cap) / temperature: softcapped and over the step's temperature, float32.
inline float processed_logit(float raw, float cap, float temperature) {
  return metal::precise::tanh(raw / cap) * cap / temperature;
}
