// Scalars, bfloat, vectors, limits and type traits.
#pragma once
#include <limits>
#include <type_traits>

#include "../thread.h"

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef _Float16 half;

#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
#define HUGE_VALF (__builtin_inff())
#define FLT_MAX 3.402823466e+38F
#define FLT_MIN 1.175494351e-38F
#define FLT_EPSILON 1.192092896e-07F
#define M_E_F 2.71828183f
#define M_LOG2E_F 1.44269504f
#define M_LOG10E_F 0.434294482f
#define M_LN2_F 0.693147181f
#define M_LN10_F 2.30258509f
#define M_PI_F 3.14159274f
#define M_PI_2_F 1.57079637f
#define M_1_PI_F 0.318309886f
#define M_SQRT2_F 1.41421356f

#ifdef METAL_SIM_CHECK
typedef __bf16 bfloat;
#else
// Widens to float by itself; narrows, and becomes anything else, only where the text says so.
struct bfloat {
  uint16_t bits;

  bfloat() = default;
#ifdef METAL_SIM_COUNT
  constexpr bfloat(const bfloat& other) : bits(other.bits) {}
  bfloat& operator=(const bfloat& other) {
    bits = other.bits;
    return *this;
  }
#endif
  template <class T, class = std::enable_if_t<std::is_arithmetic<T>::value ||
                                              std::is_same<T, half>::value>>
  explicit constexpr bfloat(T value)
      : bits(rounded(__builtin_bit_cast(uint32_t, static_cast<float>(value)))) {}

  template <class T, std::enable_if_t<std::is_same<T, float>::value, int> = 0>
  constexpr operator T() const {
    return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
  }
  template <class T, std::enable_if_t<!std::is_same<T, float>::value &&
                                          (std::is_arithmetic<T>::value ||
                                           std::is_same<T, half>::value), int> = 0>
  explicit constexpr operator T() const {
    return static_cast<T>(static_cast<float>(*this));
  }

  // To nearest, ties to even; a NaN stays one.
  static constexpr uint16_t rounded(uint32_t bits) {
    return (bits & 0x7FFFFFFF) > 0x7F800000
               ? static_cast<uint16_t>((bits >> 16) | 0x40)
               : static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
  }
  constexpr bfloat operator-() const { return bfloat(-static_cast<float>(*this)); }
};
static_assert(sizeof(bfloat) == 2, "bfloat has 16 bits");

#define SIM_ARITHMETIC(op)                                                   \
  constexpr bfloat operator op(bfloat a, bfloat b) {                         \
    return bfloat(static_cast<float>(a) op static_cast<float>(b));           \
  }                                                                          \
  inline bfloat& operator op##=(bfloat& a, bfloat b) { return a = a op b; }
SIM_ARITHMETIC(+)
SIM_ARITHMETIC(-)
SIM_ARITHMETIC(*)
SIM_ARITHMETIC(/)
#undef SIM_ARITHMETIC

#define SIM_COMPARE(op)                                       \
  constexpr bool operator op(bfloat a, bfloat b) {            \
    return static_cast<float>(a) op static_cast<float>(b);    \
  }
SIM_COMPARE(<)
SIM_COMPARE(>)
SIM_COMPARE(<=)
SIM_COMPARE(>=)
SIM_COMPARE(==)
SIM_COMPARE(!=)
#undef SIM_COMPARE
#endif

namespace metal_sim {

// No value at all: what an operation returns where MSL leaves the result undefined.
template <class T>
__attribute__((no_sanitize("thread", "undefined"))) inline T poison() {
  T value;
  __builtin_memset(static_cast<void*>(&value), kPoison, sizeof value);
  return value;
}

}  // namespace metal_sim

namespace metal {

// ---- type traits ----

using std::add_const_t;
using std::conditional;
using std::conditional_t;
using std::decay_t;
using std::declval;
using std::enable_if;
using std::enable_if_t;
using std::false_type;
using std::integral_constant;
using std::is_arithmetic;
using std::is_array;
using std::is_base_of;
using std::is_class;
using std::is_const;
using std::is_constructible;
using std::is_integral;
using std::is_pointer;
using std::is_same;
using std::is_signed;
using std::is_trivially_copyable;
using std::is_unsigned;
using std::is_void;
using std::make_signed_t;
using std::make_unsigned_t;
using std::remove_cv;
using std::remove_cv_t;
using std::remove_pointer_t;
using std::remove_reference;
using std::remove_reference_t;
using std::true_type;

template <bool B>
using bool_constant = std::integral_constant<bool, B>;
template <class T>
struct remove_addrspace {
  typedef T type;
};
template <class T>
using remove_addrspace_t = T;
template <class T>
struct is_floating_point
    : bool_constant<std::is_floating_point<T>::value || std::is_same<T, half>::value ||
                    std::is_same<T, bfloat>::value> {};
template <class T>
constexpr bool is_floating_point_v = is_floating_point<T>::value;
template <class T, class U>
constexpr bool is_same_v = std::is_same<T, U>::value;
template <class T, class U>
constexpr bool is_convertible_v = std::is_convertible<T, U>::value;
template <class T>
constexpr bool is_integral_v = std::is_integral<T>::value;

// ---- limits ----

template <class T>
struct numeric_limits : std::numeric_limits<T> {};

#define SIM_LIMITS(T, largest, smallest, step)                                  \
  template <>                                                                   \
  struct numeric_limits<T> {                                                    \
    static constexpr T infinity() { return static_cast<T>(__builtin_inff()); }  \
    static constexpr T quiet_NaN() { return static_cast<T>(__builtin_nanf("")); } \
    static constexpr T max() { return static_cast<T>(largest); }                \
    static constexpr T lowest() { return static_cast<T>(-largest); }            \
    static constexpr T min() { return static_cast<T>(smallest); }               \
    static constexpr T epsilon() { return static_cast<T>(step); }               \
  };
SIM_LIMITS(half, 65504.0f, 6.103515625e-05f, 0.0009765625f)
SIM_LIMITS(bfloat, 3.38953139e38f, 1.17549435e-38f, 0.0078125f)
#undef SIM_LIMITS

// ---- vectors: elements, arithmetic element by element, conversion; no swizzles ----

#ifdef METAL_SIM_CHECK
template <class T, int N>
using vec = T __attribute__((ext_vector_type(N)));
#else
template <class T, int N>
struct vec;

// A build that counts loads sees a copy of a whole object only where it is written as a load.
#ifdef METAL_SIM_COUNT
#define SIM_COPIES(N)                                                                        \
  typedef T Whole __attribute__((ext_vector_type(N)));                                       \
  vec(const vec& other) { *this = other; }                                                   \
  vec& operator=(const vec& other) {                                                         \
    *reinterpret_cast<Whole*>(&x) = *reinterpret_cast<const Whole*>(&other.x);               \
    return *this;                                                                            \
  }
#else
#define SIM_COPIES(N)
#endif
#define SIM_VECTOR(N)                              \
  SIM_COPIES(N)                                    \
  vec() = default;                                 \
  T& operator[](int i) { return (&x)[i]; }         \
  const T& operator[](int i) const { return (&x)[i]; } \
  explicit vec(T all) {                            \
    for (int i = 0; i < N; i++) (*this)[i] = all;  \
  }                                                \
  template <class U>                               \
  explicit vec(const vec<U, N>& other) {           \
    for (int i = 0; i < N; i++) (*this)[i] = static_cast<T>(other[i]); \
  }

template <class T>
struct alignas(2 * sizeof(T)) vec<T, 2> {
  T x, y;
  SIM_VECTOR(2)
  vec(T a, T b) : x(a), y(b) {}
};
template <class T>
struct alignas(4 * sizeof(T)) vec<T, 3> {
  T x, y, z;
  SIM_VECTOR(3)
  vec(T a, T b, T c) : x(a), y(b), z(c) {}
};
template <class T>
struct alignas(4 * sizeof(T)) vec<T, 4> {
  T x, y, z, w;
  SIM_VECTOR(4)
  vec(T a, T b, T c, T d) : x(a), y(b), z(c), w(d) {}
};
#undef SIM_VECTOR
#undef SIM_COPIES

#define SIM_ARITHMETIC(op)                                                    \
  template <class T, int N>                                                   \
  inline vec<T, N> operator op(vec<T, N> a, vec<T, N> b) {                    \
    for (int i = 0; i < N; i++) a[i] = static_cast<T>(a[i] op b[i]);          \
    return a;                                                                 \
  }                                                                           \
  template <class T, int N>                                                   \
  inline vec<T, N> operator op(vec<T, N> a, T b) { return a op vec<T, N>(b); } \
  template <class T, int N>                                                   \
  inline vec<T, N> operator op(T a, vec<T, N> b) { return vec<T, N>(a) op b; } \
  template <class T, int N>                                                   \
  inline vec<T, N>& operator op##=(vec<T, N>& a, vec<T, N> b) { return a = a op b; } \
  template <class T, int N>                                                   \
  inline vec<T, N>& operator op##=(vec<T, N>& a, T b) { return a = a op b; }
SIM_ARITHMETIC(+)
SIM_ARITHMETIC(-)
SIM_ARITHMETIC(*)
SIM_ARITHMETIC(/)
#undef SIM_ARITHMETIC
#endif

#define SIM_VECTORS(T) \
  typedef vec<T, 2> T##2; \
  typedef vec<T, 3> T##3; \
  typedef vec<T, 4> T##4;
SIM_VECTORS(float)
SIM_VECTORS(half)
SIM_VECTORS(int)
SIM_VECTORS(uint)
SIM_VECTORS(short)
SIM_VECTORS(ushort)
SIM_VECTORS(char)
SIM_VECTORS(uchar)
SIM_VECTORS(long)
SIM_VECTORS(ulong)
#undef SIM_VECTORS

template <class To, class From>
inline To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type between types of different sizes");
  To to;
  __builtin_memcpy(static_cast<void*>(&to), &from, sizeof to);
  return to;
}

}  // namespace metal
