// What attention's launchers hand to the kernels of one instruction set: plain pointers and sizes.
//
// Files of one instruction set include this header; nothing in it is code.
#pragma once

#include <cstdint>

namespace sluice {

constexpr std::int64_t attention_tile = 64;  // queries and keys of one tile

// Up to 64 neighbouring queries of one head. Query i stands at position + i and sees the keys from
// starts[i] (0 without starts) to its own position. Rows of q, k, v, y are `size` floats, their
// strides count floats. Key 0 is the first row of k and v.
struct AttentionBlock {
  const float* q;
  const float* k;
  const float* v;
  float* y;
  float* lse;  // one per query, or null
  const std::int32_t* starts;
  std::int64_t q_stride, k_stride, v_stride, y_stride;
  std::int64_t queries, position, size;
  float scale;
};

// One key head of one row of the batch, with the `group` query heads that share it; query head g
// lies g * size floats (lse: g * tokens) after the first.
struct AttentionGradHead {
  const float* q;
  const float* k;
  const float* v;
  const float* y;
  const float* dy;
  const float* lse;
  const std::int32_t* starts;
  float* dq;
  float* dk;
  float* dv;
  std::int64_t q_stride, k_stride, v_stride, y_stride;
  std::int64_t dq_stride, dk_stride, dv_stride;
  std::int64_t tokens, group, size;
  float scale;
};

// Floats of scratch that the kernels below use, for heads of `size`.
constexpr std::int64_t attention_scratch_floats(std::int64_t size) {
  return attention_tile * (6 * ((size + 15) / 16 * 16) + 2 * attention_tile + 8) + 1024;
}

struct AttentionKernel {
  void (*forward)(const AttentionBlock&, float* scratch);
  // The queries are the heads of a group, all at `position`; no starts.
  void (*decode)(const AttentionBlock&, float* scratch);
  void (*backward)(const AttentionGradHead&, float* scratch);
};

extern const AttentionKernel portable_attention;
extern const AttentionKernel avx2_attention;
extern const AttentionKernel avx512_attention;

}  // namespace sluice
