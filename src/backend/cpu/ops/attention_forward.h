// Attention over 64 queries of one head, and the decoding of one token. Only files of one
// instruction set include this (see vec.h).
//
// forward: lanes are queries. Scores are kept as S[key, query], so that maxima and sums of a
// softmax run along lanes without a shuffle, keys and values are read where they lie, and y
// accumulates as Y[h, query]; online softmax (Dao et al. 2022). 4·H flops per score and about 25
// for its exponential; limit: fused multiply-adds.
//
// decode: lanes are features. Keys and values are read once per query head: limit = those bytes
// over the memory bandwidth.
#pragma once

#include "backend/cpu/gemm_small.h"
#include "backend/cpu/ops/attention_kernel.h"
#include "backend/cpu/ops/attention_tile.h"

namespace sluice {

constexpr float attention_lowest =
    -1e30f;  // below every score, above -inf: differences stay numbers

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

// One panel of 16 queries: S becomes exp(S - new maximum), sums and Y follow the new maximum.
template <Isa isa>
void softmax_panel(float* s, std::int64_t keys, float* maximum, float* sum, float* y_panel,
                   std::int64_t size, bool first) {
  using V = Vec<isa>;
  const V before = V::load(maximum);
  V now = before;
  for (std::int64_t j = 0; j < keys; ++j) now = max(V::load(s + j * attention_tile), now);
  V even = V::zero(), odd = V::zero();
  for (std::int64_t j = 0; j < keys; ++j) {
    const V p = exp<isa>(V::load(s + j * attention_tile) - now);
    p.store(s + j * attention_tile);
    if (j % 2 == 0) {
      even = even + p;
    } else {
      odd = odd + p;
    }
  }
  const V turn = exp<isa>(before - now);
  fma(V::load(sum), turn, even + odd).store(sum);
  now.store(maximum);
  if (first) return;
  for (std::int64_t h = 0; h < size; ++h)
    (V::load(y_panel + h * 16) * turn).store(y_panel + h * 16);
}

template <Isa isa>
void attention_forward(const AttentionBlock& block, float* scratch) {
  using V = Vec<isa>;
  constexpr std::int64_t tile = attention_tile;
  const std::int64_t size = block.size;
  const std::int64_t width = (block.queries + 15) / 16 * 16;
  float* const q_panels = scratch;  // [4][H][16], scaled
  float* const y_panels = q_panels + tile * size + 16;
  float* const s = y_panels + tile * size + 16;  // [64 keys][64 queries]
  float* const maximum = s + tile * tile;
  float* const sum = maximum + tile;
  float* const spare = sum + tile;
  pack_block(isa, block.q, block.q_stride, size, block.queries, true, q_panels);
  scale_floats<isa>(q_panels, width * size, block.scale);
  for (std::int64_t i = 0; i < width; ++i) maximum[i] = attention_lowest;
  for (std::int64_t i = 0; i < width; ++i) sum[i] = 0;
  const std::int64_t begin = first_tile<isa>(block.starts, block.queries);
  const std::int64_t end = block.position + block.queries;
  for (std::int64_t j0 = begin; j0 < end; j0 += tile) {
    const std::int64_t keys = end - j0 < tile ? end - j0 : tile;
    TileProduct<isa, false>{keys,           width,
                            size,           block.k + j0 * block.k_stride,
                            block.k_stride, {q_panels, 16, size * 16},
                            {s, tile, 16},  false}
        .run();
    mask_tile<isa>(s, j0, keys, block.queries, block.position, block.starts);
    for (std::int64_t i = 0; i < width; i += 16) {
      softmax_panel<isa>(s + i, keys, maximum + i, sum + i, y_panels + i * size, size, j0 == begin);
    }
    TileProduct<isa, true>{size,
                           width,
                           keys,
                           block.v + j0 * block.v_stride,
                           block.v_stride,
                           {s, tile, 16},
                           {y_panels, 16, size * 16},
                           j0 != begin}
        .run();
  }
  for (std::int64_t i = 0; i < width; i += 16) {
    const V inverse = V::set(1.0f) / V::load(sum + i);
    float* const y = y_panels + i * size;
    for (std::int64_t h = 0; h < size; ++h) (V::load(y + h * 16) * inverse).store(y + h * 16);
  }
  write_transposed<isa>(y_panels, size, block.queries, block.y, block.y_stride, spare);
  if (block.lse == nullptr) return;
  for (std::int64_t i = 0; i < block.queries; ++i) {
    block.lse[i] = maximum[i] + __builtin_logf(sum[i]);
  }
}

// Scores of one query against `keys` keys, the rest of the last 16 lanes hidden.
template <Isa isa>
void decode_scores(const AttentionBlock& block, const float* q, std::int64_t j0, std::int64_t keys,
                   float* s) {
  using V = Vec<isa>;
  const std::int64_t whole = block.size / 16 * 16;
  for (std::int64_t j = 0; j < keys; ++j) {
    const float* k = block.k + (j0 + j) * block.k_stride;
    V dot = V::zero();
    for (std::int64_t h = 0; h < whole; h += 16) dot = fma(V::load(q + h), V::load(k + h), dot);
    if (whole < block.size) {
      const std::int64_t rest = block.size - whole;
      dot = fma(V::load(q + whole, rest), V::load(k + whole, rest), dot);
    }
    s[j] = block.scale * reduce_add(dot);
  }
  for (std::int64_t j = keys; j % 16 != 0; ++j) s[j] = -__builtin_inff();
}

// y[h] = turn * y[h] + the sum over keys of s[j] * v[j, h], for 16 * vectors features.
template <Isa isa, int vectors>
void decode_values(const AttentionBlock& block, std::int64_t j0, std::int64_t keys, std::int64_t h,
                   const float* s, float turn, float* y) {
  using V = Vec<isa>;
  V sum[vectors];
#pragma GCC unroll 4
  for (int i = 0; i < vectors; ++i) sum[i] = V::load(y + h + 16 * i) * V::set(turn);
  for (std::int64_t j = 0; j < keys; ++j) {
    const float* v = block.v + (j0 + j) * block.v_stride + h;
    const V p = V::set(s[j]);
#pragma GCC unroll 4
    for (int i = 0; i < vectors; ++i) {
      const bool whole = vectors > 1 || block.size - h >= 16;
      sum[i] = fma(p, whole ? V::load(v + 16 * i) : V::load(v, block.size - h), sum[i]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < vectors; ++i) sum[i].store(y + h + 16 * i);
}

template <Isa isa>
void attention_decode(const AttentionBlock& block, float* scratch) {
  using V = Vec<isa>;
  constexpr std::int64_t chunk = 256;  // keys; the softmax moves on in these steps
  const std::int64_t padded = (block.size + 15) / 16 * 16;
  float* const s = scratch;
  float* const y = s + chunk;
  const std::int64_t end = block.position + 1;
  for (std::int64_t g = 0; g < block.queries; ++g) {
    float maximum = attention_lowest, sum = 0;
    for (std::int64_t h = 0; h < padded; h += 16) V::zero().store(y + h);
    for (std::int64_t j0 = 0; j0 < end; j0 += chunk) {
      const std::int64_t keys = end - j0 < chunk ? end - j0 : chunk;
      decode_scores<isa>(block, block.q + g * block.q_stride, j0, keys, s);
      V now = V::set(maximum), part = V::zero();
      for (std::int64_t j = 0; j < keys; j += 16) now = max(V::load(s + j), now);
      const V top = V::set(reduce_max(now));
      for (std::int64_t j = 0; j < keys; j += 16) {
        const V p = exp<isa>(V::load(s + j) - top);
        p.store(s + j);
        part = part + p;
      }
      float turn[16], highest[16];
      exp<isa>(V::set(maximum) - top).store(turn);
      top.store(highest);
      maximum = highest[0];
      sum = sum * turn[0] + reduce_add(part);
      std::int64_t h = 0;
      for (; h + 64 <= block.size; h += 64)
        decode_values<isa, 4>(block, j0, keys, h, s, turn[0], y);
      for (; h < block.size; h += 16) decode_values<isa, 1>(block, j0, keys, h, s, turn[0], y);
    }
    float* const out = block.y + g * block.y_stride;
    for (std::int64_t h = 0; h < block.size; ++h) out[h] = y[h] / sum;
    if (block.lse != nullptr) block.lse[g] = maximum + __builtin_logf(sum);
  }
}

}  // namespace sluice
