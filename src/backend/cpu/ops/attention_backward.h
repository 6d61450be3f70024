// The gradient of attention for one key head: scores are remade tile by tile out of q, k and lse.
// Only files of one instruction set include this (see vec.h).
//
// As in the forward, S and its gradient lie as [key, query]. Per tile of 64 x 64: S = K Qᵀ,
// dP = V dYᵀ, dV += P dY, dK += dS Q, dQᵀ += Kᵀ dS: 10·H flops per score; limit: fused
// multiply-adds. Order, whatever the threads: query heads of the group, then blocks of queries,
// then tiles of keys, each ascending; so dk and dv add over query blocks, dq over key tiles.
#pragma once

#include "backend/cpu/ops/attention_forward.h"

namespace sluice {

// Scratch of one block of queries: lanes are queries in the first three ([4][H][16]) and features
// in the next two ([H/16][queries][16]); q is scaled in both forms.
struct AttentionGradTiles {
  float* q_panels;
  float* dy_panels;
  float* dq_panels;
  float* q_rows;
  float* dy_rows;
  float* s;   // [64 keys][64 queries]: P
  float* ds;  // the same: dP, then dS
  float* delta;
  float* lse;
  float* spare;

  AttentionGradTiles(float* scratch, std::int64_t size) {
    const std::int64_t block = attention_tile * ((size + 15) / 16 * 16) + 16;
    q_panels = scratch;
    dy_panels = q_panels + block;
    dq_panels = dy_panels + block;
    q_rows = dq_panels + block;
    dy_rows = q_rows + block;
    s = dy_rows + block;
    ds = s + attention_tile * attention_tile;
    delta = ds + attention_tile * attention_tile;
    lse = delta + attention_tile;
    spare = lse + attention_tile;
  }
};

// Reads q, y, dy and lse of queries i0 … i0 + queries of query head g; delta = rowsum(dy ∘ y).
template <Isa isa>
void load_queries(const AttentionGradHead& head, std::int64_t g, std::int64_t i0,
                  std::int64_t queries, const AttentionGradTiles& t) {
  using V = Vec<isa>;
  const std::int64_t size = head.size;
  const std::int64_t width = (queries + 15) / 16 * 16;
  const std::int64_t padded = (size + 15) / 16 * 16;
  const float* const q = head.q + i0 * head.q_stride + g * size;
  const float* const y = head.y + i0 * head.y_stride + g * size;
  const float* const dy = head.dy + i0 * head.y_stride + g * size;
  pack_block(isa, q, head.q_stride, size, queries, true, t.q_panels);
  pack_block(isa, dy, head.y_stride, size, queries, true, t.dy_panels);
  pack_block(isa, y, head.y_stride, size, queries, true, t.dq_panels);  // y for a moment
  pack_block(isa, q, head.q_stride, queries, size, false, t.q_rows);
  pack_block(isa, dy, head.y_stride, queries, size, false, t.dy_rows);
  scale_floats<isa>(t.q_panels, width * size, head.scale);
  scale_floats<isa>(t.q_rows, queries * padded, head.scale);
  for (std::int64_t i = 0; i < width; i += 16) {
    V sum = V::zero();
    for (std::int64_t h = 0; h < size; ++h) {
      const std::int64_t at = i * size + h * 16;
      sum = fma(V::load(t.dy_panels + at), V::load(t.dq_panels + at), sum);
    }
    sum.store(t.delta + i);
  }
  // Lanes without a query get P = 0.
  for (std::int64_t i = 0; i < width; ++i) t.lse[i] = -attention_lowest;
  for (std::int64_t i = 0; i < queries; ++i) t.lse[i] = head.lse[g * head.tokens + i0 + i];
}

// s becomes P = exp(S - lse), ds becomes P ∘ (dP - delta).
template <Isa isa>
void score_gradients(const AttentionGradTiles& t, std::int64_t keys, std::int64_t width) {
  using V = Vec<isa>;
  for (std::int64_t i = 0; i < width; i += 16) {
    const V lse = V::load(t.lse + i), delta = V::load(t.delta + i);
    for (std::int64_t j = 0; j < keys; ++j) {
      const std::int64_t at = j * attention_tile + i;
      const V p = exp<isa>(V::load(t.s + at) - lse);
      p.store(t.s + at);
      (p * (V::load(t.ds + at) - delta)).store(t.ds + at);
    }
  }
}

template <Isa isa>
void attention_backward(const AttentionGradHead& head, float* scratch) {
  constexpr std::int64_t tile = attention_tile;
  const std::int64_t size = head.size;
  const AttentionGradTiles t(scratch, size);
  for (std::int64_t g = 0; g < head.group; ++g) {
    for (std::int64_t i0 = 0; i0 < head.tokens; i0 += tile) {
      const std::int64_t queries = head.tokens - i0 < tile ? head.tokens - i0 : tile;
      const std::int64_t width = (queries + 15) / 16 * 16;
      const std::int32_t* const starts = head.starts == nullptr ? nullptr : head.starts + i0;
      load_queries<isa>(head, g, i0, queries, t);
      const std::int64_t begin = first_tile<isa>(starts, queries);
      for (std::int64_t j0 = begin; j0 <= i0; j0 += tile) {
        const std::int64_t keys = head.tokens - j0 < tile ? head.tokens - j0 : tile;
        const float* const k = head.k + j0 * head.k_stride;
        const float* const v = head.v + j0 * head.v_stride;
        const Panels<const float> q_panels{t.q_panels, 16, size * 16};
        const Panels<const float> dy_panels{t.dy_panels, 16, size * 16};
        const Panels<float> s{t.s, tile, 16}, ds{t.ds, tile, 16};
        TileProduct<isa, false>{keys, width, size, k, head.k_stride, q_panels, s, false}.run();
        TileProduct<isa, false>{keys, width, size, v, head.v_stride, dy_panels, ds, false}.run();
        mask_tile<isa>(t.s, j0, keys, queries, i0, starts);
        score_gradients<isa>(t, keys, width);
        // A tile of keys is met first by the queries of its own block, since each sees itself.
        const bool add = g > 0 || j0 < i0;
        const Panels<float> dk{head.dk + j0 * head.dk_stride, head.dk_stride, 16};
        const Panels<float> dv{head.dv + j0 * head.dv_stride, head.dv_stride, 16};
        const Panels<const float> q_rows{t.q_rows, 16, queries * 16};
        const Panels<const float> dy_rows{t.dy_rows, 16, queries * 16};
        TileProduct<isa, false>{keys, size, queries, t.s, tile, dy_rows, dv, add}.run();
        TileProduct<isa, false>{keys, size, queries, t.ds, tile, q_rows, dk, add}.run();
        TileProduct<isa, true>{size,
                               width,
                               keys,
                               k,
                               head.k_stride,
                               {t.ds, tile, 16},
                               {t.dq_panels, 16, size * 16},
                               j0 != begin}
            .run();
      }
      scale_floats<isa>(t.dq_panels, width * size, head.scale);
      write_transposed<isa>(t.dq_panels, size, queries, head.dq + i0 * head.dq_stride + g * size,
                            head.dq_stride, t.spare);
    }
  }
}

}  // namespace sluice
