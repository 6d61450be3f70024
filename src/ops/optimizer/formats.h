// How weights, moments and gradients rest: number formats of 8 and 16 bits, most of them in blocks
// of 128 numbers with a float32 scale. These functions are the formats' definition: kernels write
// the same bits. A row is what follows a tensor's first axis; blocks lie within a row, the last one
// of a row may be short.
//
//   master  float32 as bf16 + int16: bits = (hi << 16) + low, hi = the master rounded half up on
//           its magnitude bits. Exact for every number (beyond the largest bf16, hi is infinite and
//           the pair still exact); any NaN becomes the quiet one, 0x7fc00000, low 0.
//   m       e4m3 (OCP: 4 exponent bits, bias 7; ±448 the largest, no infinity, NaN 0x7f) to
//           nearest, ties to even, of m / scale; scale = the block's absmax / 448.
//   v       c = sqrt(sqrt(v) / scale), scale = the block's largest sqrt(v) / 255²: steps of √v
//           that widen from 1/65025 to 1/128 of the largest. c is rounded to a neighbour at random,
//           so that its mean is right, and *read* one step up: v = ((c + 1)² scale)² is what an
//           update divides by, never below the true one, so that no update is too large; c itself
//           is what the running mean goes on from.
//   int8    whole numbers of scale = the block's absmax / 127, rounded at random, mean right.
//
// Why v is not simply stored rounded up: what is added in each step remains for 1 / (1 - β2) of
// them, and with β2 = 0.95 codes below 79 never fall again (0.987 c rounds up to c). Simulated in
// double on one small network of two layers, 1500 steps, two seeds, only v coded: rounded up, the
// loss ends 6% (β2 = 0.95) and 22% to 29% (0.999) above float32's; as above 0.5% with both, nearly
// all of it the one step up that is read. Squares and not 255 equal steps of √v, because gradients
// within a block lie orders of magnitude apart; with this rounding the two differ little (0.5% and
// 0.6%), but rounded up over log-normal gradients (σ = 2) √v ended 4 times too large with squares,
// 10 times with equal steps. Floats of 4 + 4 bits were tried rounded up only: 1.7 times too large
// where gradients are alike, against 1.1 of squares.
//
// Zeros stay zeros. A block is all zeros when its absmax is below 2⁻¹⁰⁰ (v: its largest √v below
// 2⁻⁶³, where v is no longer a normal float32): scales stay normal numbers.
#pragma once

#include <cstdint>
#include <span>

#include "core/dtype.h"
#include "core/shape.h"

namespace sluice {

inline constexpr std::int64_t state_block = 128;

// Blocks of one row, and of a whole tensor.
std::int64_t row_blocks(const Shape& shape);
std::int64_t state_blocks(const Shape& shape);

// One number.
struct Master {
  bf16 weight;
  std::int16_t low = 0;
};
Master split_master(float master);
float join_master(bf16 weight, std::int16_t low);
// The 16 upper `bits` added below the last place, then cut: up with the probability of the rest.
// Infinity stays; NaN becomes the quiet one.
bf16 round_at_random(float x, std::uint32_t bits);
std::uint8_t encode_e4m3(float x);  // beyond ±448: ±448, infinity too; NaN: 0x7f
float decode_e4m3(std::uint8_t code);

// Where random bits come from: element e draws random_bits(seed, stream, e).
struct Draws {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;  // dropout_stream() of a tensor, layer and step
  std::uint32_t operator()(std::int64_t element) const;
};
// In place of a draw: rounds to nearest.
inline constexpr std::uint32_t draw_middle = 0x80008000u;

// One block of at most 128 numbers, one draw for each. Encoders return the scale.
// Infinite m count as the largest float32, NaN stays. v >= 0; infinite or NaN counts as the
// largest float32. Of a draw, v uses the 16 lower bits, int8 the 24 upper ones.
float encode_m(std::span<const float> m, std::span<std::uint8_t> codes);
void decode_m(std::span<const std::uint8_t> codes, float scale, std::span<float> m);
float encode_v(std::span<const float> v, std::span<const std::uint32_t> draws,
               std::span<std::uint8_t> codes);
void decode_v(std::span<const std::uint8_t> codes, float scale, std::span<float> v);
// What an update divides by: >= the v that was encoded.
void read_v(std::span<const std::uint8_t> codes, float scale, std::span<float> v);
// A block with a number that is not finite has the scale NaN: all of it decodes to NaN.
float encode_int8(std::span<const float> x, std::span<const std::uint32_t> draws,
                  std::span<std::int8_t> codes);
void decode_int8(std::span<const std::int8_t> codes, float scale, std::span<float> x);

// Whole tensors, between float32 and what is stored. scales: one per block, rows in order.
// encode_v rounds to nearest: conversions need no draws, and read_v still is never below.
void split_masters(std::span<const float> masters, std::span<bf16> weights,
                   std::span<std::int16_t> low);
void join_masters(std::span<const bf16> weights, std::span<const std::int16_t> low,
                  std::span<float> masters);
void encode_m(const Shape& shape, std::span<const float> m, std::span<std::uint8_t> codes,
              std::span<float> scales);
void decode_m(const Shape& shape, std::span<const std::uint8_t> codes,
              std::span<const float> scales, std::span<float> m);
void encode_v(const Shape& shape, std::span<const float> v, std::span<std::uint8_t> codes,
              std::span<float> scales);
void decode_v(const Shape& shape, std::span<const std::uint8_t> codes,
              std::span<const float> scales, std::span<float> v);
void encode_int8(const Shape& shape, std::span<const float> x, const Draws& draws,
                 std::span<std::int8_t> codes, std::span<float> scales);
void decode_int8(const Shape& shape, std::span<const std::int8_t> codes,
                 std::span<const float> scales, std::span<float> x);

// The blocks of a tensor in order: body(block, first element, how many).
template <class Body>
void for_blocks(const Shape& shape, Body body) {
  const std::int64_t row = shape.count() / shape[0].size, blocks = row_blocks(shape);
  for (std::int64_t block = 0; block < shape[0].size * blocks; ++block) {
    const std::int64_t column = block % blocks * state_block;
    const std::int64_t rest = row - column;
    body(block, block / blocks * row + column, rest < state_block ? rest : state_block);
  }
}

}  // namespace sluice
