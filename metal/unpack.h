// Affine quantisation as mx.quantize packs it: a 32-bit word holds 32 / BITS values, the first one
// in the lowest bits; a value is q * scale + bias, one scale and bias a group of consecutive values.
// BITS 4 or 8. Value k of a row stands in word k / packed_in_word<BITS>(), at place k % that.

// Number of values in a word.
template <int BITS>
inline constexpr int packed_in_word() {
  static_assert(BITS == 4 || BITS == 8, "4 or 8 bits");
  return 32 / BITS;
}

// The value at `place` of `word`, in float: q * scale is exact for 16-bit scales, the sum is
// rounded once.
template <int BITS>
inline float unpacked(uint word, int place, float scale, float bias) {
  const uint q = (word >> (BITS * place)) & ((1u << BITS) - 1u);
  return static_cast<float>(q) * scale + bias;
}
