// The decoding of one token: all heads against a stretch of the cache, then the stretches joined.
// Only files of one instruction set include this (see vec.h).
//
// A cache's rows hold the keys of all heads, so they are read once, from first to last, as memory
// likes it: limit = the bytes of keys and values over the memory bandwidth. Lanes are features.
// 64 keys at a time, the softmax moving on in these steps.
#pragma once

#include "backend/cpu/ops/attention_rows.h"

namespace sluice {

template <Isa isa>
Vec<isa> load_wide(const float* from) {
  return Vec<isa>::load(from);
}
template <Isa isa>
Vec<isa> load_wide(const float* from, std::int64_t n) {
  return Vec<isa>::load(from, n);
}
template <Isa isa>
Vec<isa> load_wide(const Half* from) {
  float wide[16];
  widen<isa>(from, 16, wide);
  return Vec<isa>::load(wide);
}
template <Isa isa>
Vec<isa> load_wide(const Half* from, std::int64_t n) {
  float wide[16];
  widen<isa>(from, n, wide);
  return Vec<isa>::load(wide, n);
}

// Asks for the row that comes 8 rows later: the hardware's own streams stop at every page.
template <Isa isa, class T>
void fetch_row(const AttentionDecode<T>& d, const T* row) {
  constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t at = 0; at < d.stride; at += line) __builtin_prefetch(row + 8 * d.stride + at);
}

// s[n][j] = q[n] · k[j, n / group] of `keys` keys; q is scaled, in rows of padded size.
template <Isa isa, class T>
void decode_scores(const AttentionDecode<T>& d, const float* q, const T* k, std::int64_t keys,
                   float* s) {
  using V = Vec<isa>;
  const std::int64_t padded = attention_padded(d.size), whole = d.size / 16 * 16;
  for (std::int64_t j = 0; j < keys; ++j, k += d.stride) {
    fetch_row<isa>(d, k);
    const T* row = k;
    for (std::int64_t n = 0; n < d.heads; n += d.group, row += d.size) {
      for (std::int64_t g = n; g < n + d.group; ++g) {
        const float* const query = q + g * padded;
        V dot = V::zero();
        for (std::int64_t h = 0; h < whole; h += 16)
          dot = fma(V::load(query + h), load_wide<isa>(row + h), dot);
        if (whole < d.size)
          dot = fma(V::load(query + whole), load_wide<isa>(row + whole, d.size - whole), dot);
        s[g * attention_tile + j] = reduce_add(dot);
      }
    }
  }
}

// One head: s becomes exp(s - new maximum), its sum is kept. Returns what y is to be scaled by.
template <Isa isa>
float decode_softmax(float* s, std::int64_t keys, float* maximum, float* sum) {
  using V = Vec<isa>;
  for (std::int64_t j = keys; j % 16 != 0; ++j) s[j] = -__builtin_inff();
  V now = V::set(*maximum), part = V::zero();
  for (std::int64_t j = 0; j < keys; j += 16) now = max(V::load(s + j), now);
  const V top = V::set(reduce_max(now));
  for (std::int64_t j = 0; j < keys; j += 16) {
    const V p = exp<isa>(V::load(s + j) - top);
    p.store(s + j);
    part = part + p;
  }
  float turn[16], highest[16];
  exp<isa>(V::set(*maximum) - top).store(turn);
  top.store(highest);
  *maximum = highest[0];
  *sum = *sum * turn[0] + reduce_add(part);
  return turn[0];
}

// y[n] += the sum over `rows` <= 4 keys of s[n][j] * v[j, n / group].
template <Isa isa, int rows, class T>
void decode_values(const AttentionDecode<T>& d, const float* s, const T* v, float* y) {
  using V = Vec<isa>;
  const std::int64_t padded = attention_padded(d.size), whole = d.size / 16 * 16;
  for (int r = 0; r < rows; ++r) fetch_row<isa>(d, v + r * d.stride);
  for (std::int64_t n = 0; n < d.heads; n += d.group, v += d.size) {
    for (std::int64_t g = n; g < n + d.group; ++g) {
      V p[rows];
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) p[r] = V::set(s[g * attention_tile + r]);
      for (std::int64_t h = 0; h < whole; h += 16) {
        V sum = V::load(y + g * padded + h);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) sum = fma(p[r], load_wide<isa>(v + r * d.stride + h), sum);
        sum.store(y + g * padded + h);
      }
      if (whole == d.size) continue;
      V sum = V::load(y + g * padded + whole);
      for (int r = 0; r < rows; ++r)
        sum = fma(p[r], load_wide<isa>(v + r * d.stride + whole, d.size - whole), sum);
      sum.store(y + g * padded + whole);
    }
  }
}

template <Isa isa, class T>
void attention_decode(const AttentionDecode<T>& d, float* scratch) {
  using V = Vec<isa>;
  const std::int64_t padded = attention_padded(d.size);
  float* const maximum = d.partial;
  float* const sum = maximum + d.heads;
  float* const y = sum + d.heads;
  float* const q = scratch;
  float* const s = q + d.heads * padded;
  for (std::int64_t n = 0; n < d.heads; ++n) {
    maximum[n] = attention_lowest;
    sum[n] = 0;
    const auto row = float_rows<isa>(d.q + n * d.size, 0, 1, d.size, q + n * padded);
    for (std::int64_t h = 0; h < padded; ++h) q[n * padded + h] = h < d.size ? row.data[h] : 0.0f;
    scale_floats<isa>(q + n * padded, padded, d.scale);
    for (std::int64_t h = 0; h < padded; h += 16) V::zero().store(y + n * padded + h);
  }
  for (std::int64_t j0 = 0; j0 < d.keys; j0 += attention_tile) {
    const std::int64_t keys = d.keys - j0 < attention_tile ? d.keys - j0 : attention_tile;
    decode_scores<isa>(d, q, d.k + j0 * d.stride, keys, s);
    for (std::int64_t n = 0; n < d.heads; ++n) {
      const float turn = decode_softmax<isa>(s + n * attention_tile, keys, maximum + n, sum + n);
      scale_floats<isa>(y + n * padded, padded, turn);
    }
    const T* v = d.v + j0 * d.stride;
    std::int64_t j = 0;
    for (; j + 4 <= keys; j += 4) decode_values<isa, 4>(d, s + j, v + j * d.stride, y);
    for (; j < keys; ++j) decode_values<isa, 1>(d, s + j, v + j * d.stride, y);
  }
}

template <Isa isa>
void write_row(const float* from, std::int64_t n, float* to) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = from[i];
}
template <Isa isa>
void write_row(const float* from, std::int64_t n, Half* to) {
  narrow<isa>(from, n, to);
}

template <Isa isa, class T>
void attention_join(const AttentionParts<T>& all) {
  using V = Vec<isa>;
  const std::int64_t padded = attention_padded(all.size);
  const std::int64_t step = attention_partial_floats(all.heads, all.size);
  for (std::int64_t n = 0; n < all.heads; ++n) {
    float highest = attention_lowest, sum = 0;
    for (std::int64_t c = 0; c < all.parts; ++c) {
      const float maximum = all.partial[c * step + n];
      highest = maximum > highest ? maximum : highest;
    }
    for (std::int64_t c = 0; c < all.parts; ++c) {
      const float* const part = all.partial + c * step;
      float turn[16];
      exp<isa>(V::set(part[n] - highest)).store(turn);
      sum = sum + turn[0] * part[all.heads + n];
    }
    for (std::int64_t h = 0; h < all.size; h += 16) {
      V y = V::zero();
      for (std::int64_t c = 0; c < all.parts; ++c) {
        const float* const part = all.partial + c * step;
        y = fma(exp<isa>(V::set(part[n] - highest)), V::load(part + 2 * all.heads + n * padded + h),
                y);
      }
      float row[16];
      (y / V::set(sum)).store(row);
      const std::int64_t some = all.size - h < 16 ? all.size - h : 16;
      write_row<isa>(row, some, all.y + n * all.size + h);
    }
    if (all.lse != nullptr) all.lse[n] = highest + __builtin_logf(sum);
  }
}

}  // namespace sluice
