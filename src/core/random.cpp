#include "core/random.h"

#include <bit>
#include <cmath>

#include "core/hash.h"

namespace sluice {
namespace {

// log(x) for a positive normal x, from + - * / alone: x = m 2^e with m in [sqrt(1/2), sqrt(2)), and
// log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172. The series stops below 1e-17.
double fixed_log(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.4142135623730951) m *= 0.5, ++exponent;
  const double s = (m - 1.0) / (m + 1.0);
  const double s2 = s * s;
  double sum = 0.0;
  for (int k = 23; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
  return 2.0 * s * sum + exponent * 0.6931471805599453;
}

// Φ⁻¹(p) for p in (0, 1): Acklam's approximation without its refinement step. The square root is
// exact by IEEE 754, so std::sqrt gives the same bits everywhere.
double normal_quantile(double p) {
  constexpr double low = 0.02425;
  const auto tail = [](double q) {
    return (((((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q - 2.400758277161838e+00) *
                  q -
              2.549732539343734e+00) *
                 q +
             4.374664141464968e+00) *
                q +
            2.938163982698783e+00) /
           ((((7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996e+00) * q +
             3.754408661907416e+00) *
                q +
            1.0);
  };
  if (p < low) return tail(std::sqrt(-2.0 * fixed_log(p)));
  if (p > 1.0 - low) return -tail(std::sqrt(-2.0 * fixed_log(1.0 - p)));
  const double q = p - 0.5;
  const double r = q * q;
  return (((((-3.969683028665376e+01 * r + 2.209460984245205e+02) * r - 2.759285104469687e+02) * r +
            1.383577518672690e+02) *
               r -
           3.066479806614716e+01) *
              r +
          2.506628277459239e+00) *
         q /
         (((((-5.447609879822406e+01 * r + 1.615858368580409e+02) * r - 1.556989798598866e+02) * r +
            6.680131188771972e+01) *
               r -
           1.328068155288572e+01) *
              r +
          1.0);
}

// The middle of the draw's interval: never 0 or 1, and symmetric about a half.
double open_uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return (random_bits(seed, stream, index) + 0.5) * 0x1p-32;
}

}  // namespace

Philox philox(Philox counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

std::uint64_t stream_of(std::string_view name) { return hash64(name); }

std::uint32_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  // Four neighbours share a block, so that a loop over a tensor may draw four at a time.
  const std::uint64_t block = index / 4;
  const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
  const auto high = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
  return philox({low(block), high(block), low(stream), high(stream)},
                {low(seed), high(seed)})[index % 4];
}

double random_uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return random_bits(seed, stream, index) * 0x1p-32;
}

float random_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return static_cast<float>(normal_quantile(open_uniform(seed, stream, index)));
}

float random_truncated_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  constexpr double below = 0.022750131948179195;  // Φ(-2)
  const double p = below + open_uniform(seed, stream, index) * (1.0 - 2.0 * below);
  // The approximation's error may step over the bound by 1e-9.
  const auto x = static_cast<float>(normal_quantile(p));
  return x < -2.0f ? -2.0f : x > 2.0f ? 2.0f : x;
}

}  // namespace sluice
