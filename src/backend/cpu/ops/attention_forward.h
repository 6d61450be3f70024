// Attention over 64 queries of one head. Only files of one instruction set include this (see
// vec.h).
//
// Lanes are queries. Scores are kept as S[key, query], so that maxima and sums of a softmax run
// along lanes without a shuffle, keys and values are read where they lie (those of bf16 are widened
// a tile at a time), and y accumulates as Y[h, query]; online softmax (Dao et al. 2022). 4·H flops
// per score and about 25 for its exponential; limit: fused multiply-adds.
#pragma once

#include "backend/cpu/ops/attention_rows.h"
#include "backend/cpu/ops/attention_tile.h"

namespace sluice {

// One panel of 16 queries: S becomes exp(S - new maximum), sums and Y follow the new maximum. Then,
// if something is dropped, S becomes S ∘ keep.
template <Isa isa>
void softmax_panel(float* s, const float* keep, std::int64_t keys, float* maximum, float* sum,
                   float* y_panel, std::int64_t size, bool first) {
  using V = Vec<isa>;
  const V before = V::load(maximum);
  V now = before;
  for (std::int64_t j = 0; j < keys; ++j) now = max(V::load(s + j * attention_tile), now);
  V even = V::zero(), odd = V::zero();
  for (std::int64_t j = 0; j < keys; ++j) {
    const V p = exp<isa>(V::load(s + j * attention_tile) - now);
    (keep == nullptr ? p : p * V::load(keep + j * 16)).store(s + j * attention_tile);
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

// What one block of 64 queries needs.
struct AttentionTiles {
  float* q_panels;  // [4][H][16], scaled
  float* y_panels;
  float* s;     // [64 keys][64 queries]
  float* keep;  // [4][64 keys][16 queries]
  float* k;     // widened rows, and so are v and q for a moment
  float* v;
  float* maximum;
  float* sum;
  float* spare;

  AttentionTiles(float* scratch, std::int64_t size) {
    const std::int64_t block = attention_tile * attention_padded(size) + 16;
    q_panels = scratch;
    y_panels = q_panels + block;
    k = y_panels + block;
    v = k + block;
    s = v + block;
    keep = s + attention_tile * attention_tile;
    maximum = keep + attention_tile * attention_tile;
    sum = maximum + attention_tile;
    spare = sum + attention_tile;  // up to 64 x 64, or 32 x padded size and 256 more
  }
};

// y = Y / sum, lse = maximum + log sum.
template <Isa isa, class T>
void finish_queries(const AttentionBlock<T>& block, const AttentionTiles& t) {
  using V = Vec<isa>;
  const std::int64_t size = block.size;
  for (std::int64_t i = 0; i < block.queries; i += 16) {
    const V inverse = V::set(1.0f) / V::load(t.sum + i);
    float* const y = t.y_panels + i * size;
    for (std::int64_t h = 0; h < size; ++h) (V::load(y + h * 16) * inverse).store(y + h * 16);
  }
  write_transposed<isa>(t.y_panels, size, block.queries, block.y, block.y_stride, t.spare);
  if (block.lse == nullptr) return;
  for (std::int64_t i = 0; i < block.queries; ++i) {
    block.lse[i] = t.maximum[i] + __builtin_logf(t.sum[i]);
  }
}

template <Isa isa, class T>
void attention_forward(const AttentionBlock<T>& block, float* scratch) {
  constexpr std::int64_t tile = attention_tile;
  const std::int64_t size = block.size;
  const std::int64_t width = attention_padded(block.queries);
  const AttentionTiles t(scratch, size);
  const auto q = float_rows<isa>(block.q, block.q_stride, block.queries, size, t.k);
  pack_block(isa, q.data, q.stride, size, block.queries, true, t.q_panels);
  scale_floats<isa>(t.q_panels, width * size, block.scale);
  for (std::int64_t i = 0; i < width; ++i) t.maximum[i] = attention_lowest;
  for (std::int64_t i = 0; i < width; ++i) t.sum[i] = 0;
  const bool drops = block.dropout.threshold > 0;
  const std::int64_t begin = first_tile<isa>(block.starts, block.queries);
  const std::int64_t end = block.position + block.queries;
  for (std::int64_t j0 = begin; j0 < end; j0 += tile) {
    const std::int64_t keys = end - j0 < tile ? end - j0 : tile;
    const auto k = float_rows<isa>(block.k + j0 * block.k_stride, block.k_stride, keys, size, t.k);
    const auto v = float_rows<isa>(block.v + j0 * block.v_stride, block.v_stride, keys, size, t.v);
    const Panels<const float> q_panels{t.q_panels, 16, size * 16};
    const Panels<float> s{t.s, tile, 16}, y_panels{t.y_panels, 16, size * 16};
    TileProduct<isa, false>{keys, width, size, k.data, k.stride, q_panels, s, false}.run();
    mask_tile<isa>(t.s, j0, keys, block.queries, block.position, block.starts);
    if (drops) draw_dropout<isa>(block.dropout, j0, block.position, block.queries, t.spare, t.keep);
    for (std::int64_t i = 0; i < width; i += 16) {
      softmax_panel<isa>(t.s + i, drops ? t.keep + i * tile : nullptr, keys, t.maximum + i,
                         t.sum + i, t.y_panels + i * size, size, j0 == begin);
    }
    TileProduct<isa, true>{size,     width,           keys,     v.data,
                           v.stride, {t.s, tile, 16}, y_panels, j0 != begin}
        .run();
  }
  finish_queries<isa>(block, t);
}

}  // namespace sluice
