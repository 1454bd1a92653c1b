// exp, log and powers of positive numbers in plain arithmetic, so that the compiler vectorises
// every loop that calls them. Polynomials after Cephes (S. Moshier); within about 2 ulp.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "multiversion.h"

namespace softhebb {

// For x up to 88.37. exp(0) is 1; below the smallest normal number the result is 0, so that no
// denormals come from here.
SOFTHEBB_INLINE float vexp_below(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float clamped = x < -88.0f ? -88.0f : x;
  const float shifted = clamped * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const uint32_t exponent = __builtin_bit_cast(uint32_t, shifted) - 0x4B400000u + 127u;
  return p * __builtin_bit_cast(float, exponent << 23);
}

SOFTHEBB_INLINE double vexp_below(double x) { return std::exp(x); }

// At most 2.4e38.
SOFTHEBB_INLINE float vexp(float x) { return vexp_below(x > 88.37f ? 88.37f : x); }

// For normal positive x.
SOFTHEBB_INLINE float vlog(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x) - 0x3f3504f3u;
  const float e = static_cast<float>(static_cast<int32_t>(bits) >> 23);
  const float f = __builtin_bit_cast(float, (bits & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
  const float f2 = f * f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  p = p * f * f2 + e * -2.12194440e-4f - 0.5f * f2;
  return f + p + e * 0.693359375f;
}

// relu(x)^q for q > 0; NaN and infinity pass through.
SOFTHEBB_INLINE float rectified_power(float x, float q) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float least = x < std::numeric_limits<float>::min() ? std::numeric_limits<float>::min() : x;
  const float exponent = q * vlog(least);
  const float power = vexp(exponent);
  const float bounded = exponent > 88.37f ? kInfinity : power;
  const float finite = x < std::numeric_limits<float>::min() ? 0.0f : bounded;
  return x < kInfinity ? finite : x;
}

SOFTHEBB_INLINE double rectified_power(double x, double q) { return x < 0 ? 0 : std::pow(x, q); }

}  // namespace softhebb
