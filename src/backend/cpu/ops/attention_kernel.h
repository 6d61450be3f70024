// What attention's launchers hand to the kernels of one instruction set: plain pointers and sizes.
//
// T is the element type of q, k, v, y and their gradients: float, or Half (a bf16 as its bits).
// Arithmetic is float32; what is stored as bf16 is rounded once. On AVX512_BF16 the products take
// pairs of bf16: probabilities and the scores' gradients are rounded to bf16 before them (PyTorch
// does the same), sums stay float32.
// Files of one instruction set include this header; nothing in it is code.
#pragma once

#include <cstdint>

namespace sluice {

using Half = std::uint16_t;

constexpr std::int64_t attention_tile = 64;  // queries and keys of one tile

// Below every score, above -inf: differences stay numbers.
constexpr float attention_lowest = -1e30f;

// Which probabilities are dropped: element first + i * step + j of query i and key j (see
// ops/attention/attention.h), kept when its random bits are >= threshold, then times factor =
// 1 / (1 - rate).
struct AttentionDropout {
  std::uint64_t seed, stream;
  std::uint64_t first;
  std::int64_t step;
  std::uint32_t threshold;  // 0: nothing is dropped
  float factor;
};

// Up to 64 neighbouring queries of one head. Query i stands at position + i and sees the keys from
// starts[i] (0 without starts) to its own position. Rows of q, k, v, y are `size` numbers, their
// strides count numbers. Key 0 is the first row of k and v.
template <class T>
struct AttentionBlock {
  const T* q;
  const T* k;
  const T* v;
  T* y;
  float* lse;  // one per query, or null
  const std::int32_t* starts;
  std::int64_t q_stride, k_stride, v_stride, y_stride;
  std::int64_t queries, position, size;
  float scale;
  AttentionDropout dropout;
};

// One key head of one row of the batch, with the `group` query heads that share it; query head g
// lies g * size numbers (lse: g * tokens) after the first. Made are dk and dv of the keys
// [first_key, last_key) if `keys`, and dq of the queries [first_query, last_query) if `queries`:
// all of them at once, or keys alone (of all queries) and queries alone (of all keys), in parts
// that begin at multiples of 64. Bits do not depend on the parts.
template <class T>
struct AttentionGradHead {
  const T* q;
  const T* k;
  const T* v;
  const T* y;
  const T* dy;
  const float* lse;
  const std::int32_t* starts;
  T* dq;
  T* dk;
  T* dv;
  std::int64_t q_stride, k_stride, v_stride, y_stride;
  std::int64_t dq_stride, dk_stride, dv_stride;
  std::int64_t tokens, group, size;
  float scale;
  AttentionDropout dropout;  // of the first query head
  bool keys, queries;
  std::int64_t first_key, last_key, first_query, last_query;
};

// One query of all heads against `keys` rows of a cache, all key heads side by side in a row. What
// comes out is a part of the softmax: partial = [heads] maxima, [heads] sums, [heads][padded size]
// weighted values.
template <class T>
struct AttentionDecode {
  const T* q;
  const T* k;
  const T* v;
  float* partial;
  std::int64_t stride;  // of k and v
  std::int64_t keys, heads, group, size;
  float scale;
};

// Heads [heads] of one row from `parts` partials, taken in ascending order.
template <class T>
struct AttentionParts {
  const float* partial;
  std::int64_t parts, heads, size;
  T* y;
  float* lse;  // or null
};

constexpr std::int64_t attention_padded(std::int64_t size) { return (size + 15) / 16 * 16; }

// Floats of one partial, and of scratch that the kernels below use, for heads of `size`. `sums`:
// rows of dk and dv that a gradient in bf16 sums up in scratch.
constexpr std::int64_t attention_partial_floats(std::int64_t heads, std::int64_t size) {
  return heads * (attention_padded(size) + 2);
}
constexpr std::int64_t attention_scratch_floats(std::int64_t size, std::int64_t sums = 0) {
  return attention_tile * (10 * attention_padded(size) + 5 * attention_tile + 8) + 2048 +
         2 * sums * attention_padded(size);
}
constexpr std::int64_t attention_decode_floats(std::int64_t heads, std::int64_t size) {
  return heads * (attention_padded(size) + 16 + attention_tile) + 64;
}

template <class T>
struct AttentionKernel {
  void (*forward)(const AttentionBlock<T>&, float* scratch);
  void (*decode)(const AttentionDecode<T>&, float* scratch);
  void (*join)(const AttentionParts<T>&);
  void (*backward)(const AttentionGradHead<T>&, float* scratch);
};

extern const AttentionKernel<float> portable_attention;
extern const AttentionKernel<float> avx2_attention;
extern const AttentionKernel<float> avx512_attention;
extern const AttentionKernel<Half> portable_attention_bf16;
extern const AttentionKernel<Half> avx2_attention_bf16;
extern const AttentionKernel<Half> avx512_attention_bf16;
extern const AttentionKernel<Half> avx512_bf16_attention_bf16;  // products of bf16 pairs

}  // namespace sluice
