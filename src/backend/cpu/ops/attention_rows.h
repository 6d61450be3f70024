// What attention's kernels share: rows of float32 or bf16, masks, dropout. Only files of one
// instruction set include this (see vec.h).
#pragma once

#include "backend/cpu/gemm_small.h"
#include "backend/cpu/ops/attention_kernel.h"
#include "backend/cpu/philox.h"
#include "backend/cpu/vec.h"

namespace sluice {

// Plain loops: the compiler makes vectors of them.
template <Isa isa>
void widen(const Half* from, std::int64_t n, float* to) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(from[i]) << 16;
    to[i] = __builtin_bit_cast(float, bits);
  }
}

// To nearest, ties to even; NaN stays NaN.
template <Isa isa>
void narrow(const float* from, std::int64_t n, Half* to) {
  for (std::int64_t i = 0; i < n; ++i) {
    const auto u = __builtin_bit_cast(std::uint32_t, from[i]);
    const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const std::uint32_t nan = (u >> 16) | 0x40u;
    to[i] = static_cast<Half>((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
  }
}

template <class Number>
struct AttentionRows {
  Number* data;
  std::int64_t stride;
};

// Rows as float32: those of floats where they lie, others widened into `spare` [count][padded
// size].
template <Isa isa>
AttentionRows<const float> float_rows(const float* rows, std::int64_t stride, std::int64_t,
                                      std::int64_t, float*) {
  return {rows, stride};
}
template <Isa isa>
AttentionRows<const float> float_rows(const Half* rows, std::int64_t stride, std::int64_t count,
                                      std::int64_t size, float* spare) {
  const std::int64_t padded = attention_padded(size);
  for (std::int64_t i = 0; i < count; ++i) widen<isa>(rows + i * stride, size, spare + i * padded);
  return {spare, padded};
}

template <Isa isa>
void scale_floats(float* x, std::int64_t count, float scale) {  // count: a multiple of 16
  for (std::int64_t i = 0; i < count; i += 16) {
    (Vec<isa>::load(x + i) * Vec<isa>::set(scale)).store(x + i);
  }
}

// rows[i, h] = panels(h, i) for 64 columns i in panels [4][size][16]; `spare`: 16 * (size + 16).
template <Isa isa>
void write_transposed(const float* panels, std::int64_t size, std::int64_t count, float* rows,
                      std::int64_t stride, float* spare) {
  for (std::int64_t i0 = 0; i0 < count; i0 += 16) {
    pack_block(isa, panels + i0 * size, 16, 16, size, true, spare);
    for (std::int64_t i = i0; i < i0 + 16 && i < count; ++i) {
      for (std::int64_t h = 0; h < size; h += 16) {
        const Vec<isa> x = Vec<isa>::load(spare + h * 16 + (i - i0) * 16);
        float* const to = rows + i * stride + h;
        if (size - h >= 16) {
          x.store(to);
        } else {
          x.store(to, size - h);
        }
      }
    }
  }
}
// The same into bf16; `spare` has room for [16][padded size] numbers more.
template <Isa isa>
void write_transposed(const float* panels, std::int64_t size, std::int64_t count, Half* rows,
                      std::int64_t stride, float* spare) {
  const std::int64_t padded = attention_padded(size);
  float* const block = spare + 16 * (padded + 16);
  for (std::int64_t i0 = 0; i0 < count; i0 += 16) {
    const std::int64_t some = count - i0 < 16 ? count - i0 : 16;
    write_transposed<isa>(panels + i0 * size, size, some, block, padded, spare);
    for (std::int64_t i = 0; i < some; ++i)
      narrow<isa>(block + i * padded, size, rows + (i0 + i) * stride);
  }
}

// Keys that nobody may see become -inf. S(key, query) of keys j0 … j0 + keys.
template <Isa isa>
void mask_tile(float* s, std::int64_t j0, std::int64_t keys, std::int64_t queries,
               std::int64_t position, const std::int32_t* starts) {
  const float hidden = -__builtin_inff();
  for (std::int64_t j = 0; j < keys; ++j) {
    std::int64_t before = j0 + j - position;  // queries that stand before key j
    if (before > queries) before = queries;
    for (std::int64_t i = 0; i < before; ++i) s[j * attention_tile + i] = hidden;
  }
  if (starts == nullptr) return;
  for (std::int64_t i = 0; i < queries; ++i) {
    const std::int64_t until = starts[i] - j0 < keys ? starts[i] - j0 : keys;
    for (std::int64_t j = 0; j < until; ++j) s[j * attention_tile + i] = hidden;
  }
}

// The first key that any of the queries sees, rounded down to a tile.
template <Isa isa>
std::int64_t first_tile(const std::int32_t* starts, std::int64_t queries) {
  if (starts == nullptr) return 0;
  std::int64_t first = starts[0];
  for (std::int64_t i = 1; i < queries; ++i)
    if (starts[i] < first) first = starts[i];
  return first / attention_tile * attention_tile;
}

// What each probability of a tile is multiplied by, 0 or dropout.factor, as panels of queries:
// keep[(i / 16 * 64 + j) * 16 + i % 16] of query i and key j0 + j; 0 where the key is more than
// `visible` + i, which nobody sees. `rows`: 64 x 64 floats.
template <Isa isa>
void draw_dropout(const AttentionDropout& dropout, std::int64_t j0, std::int64_t visible,
                  std::int64_t queries, float* rows, float* keep) {
  using V = Vec<isa>;
  const RandomBits<isa> random(dropout.seed, dropout.stream);
  std::uint32_t bits[32] = {};
  for (std::int64_t i = 0; i < queries; ++i) {
    float* const row = rows + i * attention_tile;
    const auto first = dropout.first + static_cast<std::uint64_t>(i * dropout.step + j0);
    for (std::int64_t j = 0; j < attention_tile; j += 32) {
      const bool drawn = j0 + j <= visible + i;
      if (drawn) random.fill(first + static_cast<std::uint64_t>(j), 32, bits);
      for (std::int64_t part = 0; part < 32; part += 16) {
        const V zero = V::zero();
        const auto kept = RandomBits<isa>::at_least(bits + part, dropout.threshold);
        (drawn ? select(kept, V::set(dropout.factor), zero) : zero).store(row + j + part);
      }
    }
  }
  pack_block(isa, rows, attention_tile, attention_tile, queries, true, keep);
}

}  // namespace sluice
