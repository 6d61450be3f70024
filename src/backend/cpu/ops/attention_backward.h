// The gradient of attention for one key head: scores are remade tile by tile out of q, k and lse.
// Only files of one instruction set include this (see vec.h).
//
// As in the forward, S and its gradient lie as [key, query]. Per tile of 64 x 64: S = K Qᵀ,
// dP = V dYᵀ, dV += P dY, dK += dS Q, dQᵀ += Kᵀ dS: 10·H flops per score; limit: fused
// multiply-adds. Order, whatever the threads and parts: query heads of the group, then blocks of
// queries, then tiles of keys, each ascending; so dk and dv add over query blocks, dq over key
// tiles. Dropped: P in dV, and dP, times their mask and 1 / (1 - rate).
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
  float* k;  // widened rows, and so are v, and q, dy, y for a moment
  float* v;
  float* s;     // [64 keys][64 queries]: P
  float* ds;    // the same: dP, then dS
  float* keep;  // [4][64 keys][16 queries]
  float* delta;
  float* lse;
  float* spare;
  float* sums;  // of dk and dv in bf16

  AttentionGradTiles(float* scratch, std::int64_t size) {
    const std::int64_t block = attention_tile * attention_padded(size) + 16;
    q_panels = scratch;
    dy_panels = q_panels + block;
    dq_panels = dy_panels + block;
    q_rows = dq_panels + block;
    dy_rows = q_rows + block;
    k = dy_rows + block;
    v = k + block;
    s = v + block;
    ds = s + attention_tile * attention_tile;
    keep = ds + attention_tile * attention_tile;
    delta = keep + attention_tile * attention_tile;
    lse = delta + attention_tile;
    spare = lse + attention_tile;
    sums = scratch + attention_scratch_floats(size);
  }
};

// Reads q, y, dy and lse of queries i0 … i0 + queries of query head g; delta = rowsum(dy ∘ y).
template <Isa isa, class T>
void load_queries(const AttentionGradHead<T>& head, std::int64_t g, std::int64_t i0,
                  std::int64_t queries, const AttentionGradTiles& t) {
  using V = Vec<isa>;
  const std::int64_t size = head.size;
  const std::int64_t width = attention_padded(queries), padded = attention_padded(size);
  const T* const from = head.q + i0 * head.q_stride + g * size;
  const std::int64_t at = i0 * head.y_stride + g * size;
  const auto q = float_rows<isa>(from, head.q_stride, queries, size, t.k);
  pack_block(isa, q.data, q.stride, size, queries, true, t.q_panels);
  pack_block(isa, q.data, q.stride, queries, size, false, t.q_rows);
  const auto dy = float_rows<isa>(head.dy + at, head.y_stride, queries, size, t.k);
  pack_block(isa, dy.data, dy.stride, size, queries, true, t.dy_panels);
  pack_block(isa, dy.data, dy.stride, queries, size, false, t.dy_rows);
  const auto y = float_rows<isa>(head.y + at, head.y_stride, queries, size, t.k);
  pack_block(isa, y.data, y.stride, size, queries, true, t.dq_panels);  // for a moment
  scale_floats<isa>(t.q_panels, width * size, head.scale);
  scale_floats<isa>(t.q_rows, queries * padded, head.scale);
  for (std::int64_t i = 0; i < width; i += 16) {
    V sum = V::zero();
    for (std::int64_t h = 0; h < size; ++h) {
      const std::int64_t lanes = i * size + h * 16;
      sum = fma(V::load(t.dy_panels + lanes), V::load(t.dq_panels + lanes), sum);
    }
    sum.store(t.delta + i);
  }
  // Lanes without a query get P = 0.
  for (std::int64_t i = 0; i < width; ++i) t.lse[i] = -attention_lowest;
  for (std::int64_t i = 0; i < queries; ++i) t.lse[i] = head.lse[g * head.tokens + i0 + i];
}

// s becomes P = exp(S - lse), ds becomes P ∘ (dP - delta); P and dP ∘ keep if something is dropped.
template <Isa isa>
void score_gradients(const AttentionGradTiles& t, bool drops, std::int64_t keys,
                     std::int64_t width) {
  using V = Vec<isa>;
  for (std::int64_t i = 0; i < width; i += 16) {
    const V lse = V::load(t.lse + i), delta = V::load(t.delta + i);
    for (std::int64_t j = 0; j < keys; ++j) {
      const std::int64_t at = j * attention_tile + i;
      const V p = exp<isa>(V::load(t.s + at) - lse);
      if (drops) {
        const V keep = V::load(t.keep + i * attention_tile + j * 16);
        (p * keep).store(t.s + at);
        (p * (V::load(t.ds + at) * keep - delta)).store(t.ds + at);
      } else {
        p.store(t.s + at);
        (p * (V::load(t.ds + at) - delta)).store(t.ds + at);
      }
    }
  }
}

// Where dk and dv of a tile of keys add up: where they lie, or, in bf16, in scratch.
template <Isa isa>
void key_sums(const AttentionGradHead<float>& head, std::int64_t j0, const AttentionGradTiles&,
              Panels<float>* dk, Panels<float>* dv) {
  *dk = {head.dk + j0 * head.dk_stride, head.dk_stride, 16};
  *dv = {head.dv + j0 * head.dv_stride, head.dv_stride, 16};
}
template <Isa isa>
void key_sums(const AttentionGradHead<Half>& head, std::int64_t j0, const AttentionGradTiles& t,
              Panels<float>* dk, Panels<float>* dv) {
  const std::int64_t padded = attention_padded(head.size);
  *dk = {t.sums + (j0 - head.first_key) * padded, padded, 16};
  *dv = {dk->data + (head.last_key - head.first_key) * padded, padded, 16};
}
template <Isa isa>
void write_keys(const AttentionGradHead<float>&, const AttentionGradTiles&) {}
template <Isa isa>
void write_keys(const AttentionGradHead<Half>& head, const AttentionGradTiles& t) {
  Panels<float> dk, dv;
  key_sums<isa>(head, head.first_key, t, &dk, &dv);
  for (std::int64_t j = head.first_key; j < head.last_key; ++j) {
    narrow<isa>(dk.data, head.size, head.dk + j * head.dk_stride);
    narrow<isa>(dv.data, head.size, head.dv + j * head.dv_stride);
    dk.data += dk.step, dv.data += dv.step;
  }
}

// One tile of keys against the block of queries that `t` holds. `first`: of this block's tiles.
template <Isa isa, class T>
void backward_tile(const AttentionGradHead<T>& head, std::int64_t g, std::int64_t i0,
                   std::int64_t j0, std::int64_t queries, bool first, const AttentionGradTiles& t) {
  constexpr std::int64_t tile = attention_tile;
  const std::int64_t size = head.size, width = attention_padded(queries);
  const std::int64_t keys = head.tokens - j0 < tile ? head.tokens - j0 : tile;
  const auto k = float_rows<isa>(head.k + j0 * head.k_stride, head.k_stride, keys, size, t.k);
  const auto v = float_rows<isa>(head.v + j0 * head.v_stride, head.v_stride, keys, size, t.v);
  const Panels<const float> q_panels{t.q_panels, 16, size * 16};
  const Panels<const float> dy_panels{t.dy_panels, 16, size * 16};
  const Panels<float> s{t.s, tile, 16}, ds{t.ds, tile, 16};
  TileProduct<isa, false>{keys, width, size, k.data, k.stride, q_panels, s, false}.run();
  TileProduct<isa, false>{keys, width, size, v.data, v.stride, dy_panels, ds, false}.run();
  mask_tile<isa>(t.s, j0, keys, queries, i0, head.starts == nullptr ? nullptr : head.starts + i0);
  const bool drops = head.dropout.threshold > 0;
  if (drops) {
    AttentionDropout dropout = head.dropout;
    dropout.first += static_cast<std::uint64_t>((g * head.tokens + i0) * dropout.step);
    draw_dropout<isa>(dropout, j0, i0, queries, t.spare, t.keep);
  }
  score_gradients<isa>(t, drops, keys, width);
  if (head.keys) {
    // A tile of keys is met first by the queries of its own block, since each sees itself.
    const bool add = g > 0 || j0 < i0;
    Panels<float> dk, dv;
    key_sums<isa>(head, j0, t, &dk, &dv);
    const Panels<const float> q_rows{t.q_rows, 16, queries * 16};
    const Panels<const float> dy_rows{t.dy_rows, 16, queries * 16};
    TileProduct<isa, false>{keys, size, queries, t.s, tile, dy_rows, dv, add}.run();
    TileProduct<isa, false>{keys, size, queries, t.ds, tile, q_rows, dk, add}.run();
  }
  if (!head.queries) return;
  const Panels<float> dq{t.dq_panels, 16, size * 16};
  TileProduct<isa, true>{size, width, keys, k.data, k.stride, {t.ds, tile, 16}, dq, !first}.run();
}

template <Isa isa, class T>
void attention_backward(const AttentionGradHead<T>& head, float* scratch) {
  constexpr std::int64_t tile = attention_tile;
  const std::int64_t size = head.size;
  const AttentionGradTiles t(scratch, size);
  const std::int64_t first_query =
      head.first_query > head.first_key ? head.first_query : head.first_key;
  for (std::int64_t g = 0; g < head.group; ++g) {
    for (std::int64_t i0 = first_query; i0 < head.last_query; i0 += tile) {
      const std::int64_t queries = head.tokens - i0 < tile ? head.tokens - i0 : tile;
      const std::int64_t seen =
          first_tile<isa>(head.starts == nullptr ? nullptr : head.starts + i0, queries);
      const std::int64_t begin = seen > head.first_key ? seen : head.first_key;
      if (begin >= head.last_key) continue;
      load_queries<isa>(head, g, i0, queries, t);
      for (std::int64_t j0 = begin; j0 <= i0 && j0 < head.last_key; j0 += tile)
        backward_tile<isa>(head, g, i0, j0, queries, j0 == begin, t);
      if (!head.queries) continue;
      scale_floats<isa>(t.dq_panels, attention_padded(queries) * size, head.scale);
      write_transposed<isa>(t.dq_panels, size, queries, head.dq + i0 * head.dq_stride + g * size,
                            head.dq_stride, t.spare);
    }
  }
  if (head.keys) write_keys<isa>(head, t);
}

}  // namespace sluice
