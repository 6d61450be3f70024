#include "ops/optimizer/formats.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/random.h"

namespace sluice {
namespace {

constexpr std::uint32_t quiet_nan = 0x7fc00000u;
constexpr float largest = std::numeric_limits<float>::max();
constexpr float smallest_absmax = 0x1p-100f;
constexpr float smallest_root = 0x1p-63f;
// Covers the roundings of encode_v and of read_v itself, together below 2⁻²¹.
constexpr float read_margin = 1 + 0x1p-20f;

std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }
std::uint32_t bits_or_quiet(float x) { return std::isnan(x) ? quiet_nan : bits_of(x); }

template <class T>
std::span<T> part(std::span<T> whole, std::int64_t first, std::int64_t count) {
  return whole.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
}

template <class Scales>
auto& scale_of(Scales scales, std::int64_t block) {
  return scales[static_cast<std::size_t>(block)];
}

}  // namespace

std::int64_t row_blocks(const Shape& shape) {
  const std::int64_t row = shape.count() / shape[0].size;
  return (row + state_block - 1) / state_block;
}

std::int64_t state_blocks(const Shape& shape) { return shape[0].size * row_blocks(shape); }

Master split_master(float master) {
  const std::uint32_t u = bits_or_quiet(master);
  Master result;
  result.weight.bits = static_cast<std::uint16_t>((u + 0x8000u) >> 16);
  result.low = static_cast<std::int16_t>(u & 0xffffu);  // u - (hi << 16), in 16 bits
  return result;
}

float join_master(bf16 weight, std::int16_t low) {
  const std::uint32_t hi = static_cast<std::uint32_t>(weight.bits) << 16;
  return std::bit_cast<float>(hi + static_cast<std::uint32_t>(static_cast<std::int32_t>(low)));
}

bf16 round_at_random(float x, std::uint32_t bits) {
  std::uint32_t u = bits_or_quiet(x);
  if (std::isfinite(x)) u += bits >> 16;
  bf16 result;
  result.bits = static_cast<std::uint16_t>(u >> 16);
  return result;
}

std::uint8_t encode_e4m3(float x) {
  const std::uint32_t u = bits_of(x);
  const std::uint32_t size = u & 0x7fffffffu;
  const std::uint32_t sign = (u >> 24) & 0x80u;
  if (size > 0x7f800000u) return 0x7f;
  std::uint32_t code;
  if (size < bits_of(0x1p-6f)) {
    // Steps of 2⁻⁹: the last place of numbers from 2¹⁴ on, where the addition rounds to even.
    code = bits_of(std::bit_cast<float>(size) + 0x1p14f) & 0xfu;
  } else {
    code = ((size + 0x7ffffu + ((size >> 20) & 1u)) >> 20) - ((127u - 7u) << 3);
  }
  return static_cast<std::uint8_t>(sign | std::min(code, 0x7eu));
}

float decode_e4m3(std::uint8_t code) {
  const std::uint32_t size = code & 0x7fu;
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80u) << 24;
  if (size == 0x7f) return std::bit_cast<float>(sign | quiet_nan);
  const float x = size < 8 ? static_cast<float>(size) * 0x1p-9f
                           : std::bit_cast<float>((size << 20) + ((127u - 7u) << 23));
  return std::bit_cast<float>(sign | bits_of(x));
}

std::uint32_t Draws::operator()(std::int64_t element) const {
  return random_bits(seed, stream, static_cast<std::uint64_t>(element));
}

float encode_m(std::span<const float> m, std::span<std::uint8_t> codes) {
  float absmax = 0;
  for (const float x : m)
    if (!std::isnan(x)) absmax = std::max(absmax, std::min(std::abs(x), largest));
  const bool zeros = absmax < smallest_absmax;
  const float inverse = zeros ? 0 : 448.0f / absmax;
  for (std::size_t i = 0; i < m.size(); ++i) codes[i] = encode_e4m3(m[i] * inverse);
  return zeros ? 0 : absmax / 448.0f;
}

void decode_m(std::span<const std::uint8_t> codes, float scale, std::span<float> m) {
  for (std::size_t i = 0; i < m.size(); ++i) m[i] = decode_e4m3(codes[i]) * scale;
}

float encode_v(std::span<const float> v, std::span<const std::uint32_t> draws,
               std::span<std::uint8_t> codes) {
  const auto root = [](float x) { return std::sqrt(x < largest ? x : largest); };
  float most = 0;
  for (const float x : v) most = std::max(most, root(x));
  const bool zeros = most < smallest_root;
  const float scale = zeros ? 0 : most / 65025.0f;
  const float inverse = zeros ? 0 : 1 / scale;
  for (std::size_t i = 0; i < v.size(); ++i) {
    const float code = std::sqrt(root(v[i]) * inverse);
    const float down = std::floor(code);
    const float draw = static_cast<float>(draws[i] & 0xffffu) * 0x1p-16f;
    const float rounded = draw < code - down ? down + 1 : down;
    codes[i] = static_cast<std::uint8_t>(std::min(rounded, 255.0f));
  }
  return scale;
}

void decode_v(std::span<const std::uint8_t> codes, float scale, std::span<float> v) {
  for (std::size_t i = 0; i < v.size(); ++i) {
    const float root = static_cast<float>(codes[i] * codes[i]) * scale;
    v[i] = root * root;
  }
}

void read_v(std::span<const std::uint8_t> codes, float scale, std::span<float> v) {
  for (std::size_t i = 0; i < v.size(); ++i) {
    const float root = static_cast<float>((codes[i] + 1) * (codes[i] + 1)) * (scale * read_margin);
    v[i] = root * root;
  }
}

float encode_int8(std::span<const float> x, std::span<const std::uint32_t> draws,
                  std::span<std::int8_t> codes) {
  float absmax = 0;
  for (const float one : x) {
    if (!std::isfinite(one)) {
      std::fill(codes.begin(), codes.end(), std::int8_t{0});
      return std::bit_cast<float>(quiet_nan);
    }
    absmax = std::max(absmax, std::abs(one));
  }
  const bool zeros = absmax < smallest_absmax;
  const float inverse = zeros ? 0 : 127.0f / absmax;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float steps = std::max(std::min(x[i] * inverse, 127.0f), -127.0f);
    const float down = std::floor(steps);
    const float draw = static_cast<float>(draws[i] >> 8) * 0x1p-24f;
    codes[i] = static_cast<std::int8_t>(draw < steps - down ? down + 1 : down);
  }
  return zeros ? 0 : absmax / 127.0f;
}

void decode_int8(std::span<const std::int8_t> codes, float scale, std::span<float> x) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(codes[i]) * scale;
}

void split_masters(std::span<const float> masters, std::span<bf16> weights,
                   std::span<std::int16_t> low) {
  for (std::size_t i = 0; i < masters.size(); ++i) {
    const Master one = split_master(masters[i]);
    weights[i] = one.weight;
    low[i] = one.low;
  }
}

void join_masters(std::span<const bf16> weights, std::span<const std::int16_t> low,
                  std::span<float> masters) {
  for (std::size_t i = 0; i < masters.size(); ++i) masters[i] = join_master(weights[i], low[i]);
}

void encode_m(const Shape& shape, std::span<const float> m, std::span<std::uint8_t> codes,
              std::span<float> scales) {
  for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    scale_of(scales, block) = encode_m(part(m, first, count), part(codes, first, count));
  });
}

void decode_m(const Shape& shape, std::span<const std::uint8_t> codes,
              std::span<const float> scales, std::span<float> m) {
  for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    decode_m(part(codes, first, count), scale_of(scales, block), part(m, first, count));
  });
}

void encode_v(const Shape& shape, std::span<const float> v, std::span<std::uint8_t> codes,
              std::span<float> scales) {
  std::uint32_t draws[state_block];
  std::fill(std::begin(draws), std::end(draws), draw_middle);
  for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    scale_of(scales, block) = encode_v(part(v, first, count), draws, part(codes, first, count));
  });
}

void decode_v(const Shape& shape, std::span<const std::uint8_t> codes,
              std::span<const float> scales, std::span<float> v) {
  for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    decode_v(part(codes, first, count), scale_of(scales, block), part(v, first, count));
  });
}

void encode_int8(const Shape& shape, std::span<const float> x, const Draws& draws,
                 std::span<std::int8_t> codes, std::span<float> scales) {
  std::uint32_t bits[state_block];
  for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) bits[i] = draws(first + i);
    scale_of(scales, block) = encode_int8(part(x, first, count), bits, part(codes, first, count));
  });
}

void decode_int8(const Shape& shape, std::span<const std::int8_t> codes,
                 std::span<const float> scales, std::span<float> x) {
  for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    decode_int8(part(codes, first, count), scale_of(scales, block), part(x, first, count));
  });
}

}  // namespace sluice
