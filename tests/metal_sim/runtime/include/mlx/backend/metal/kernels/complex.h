// In place of MLX's, which declares one method for each address space: the type alone.
#pragma once
template <class T>
struct complex_t {
  T real, imag;
  constexpr complex_t(T r = T(0), T i = T(0)) : real(r), imag(i) {}
};
typedef complex_t<float> complex64_t;
