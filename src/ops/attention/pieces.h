// Which attention a library's kernels compute, and how it is cut for them.
//
// Pure functions of shape and type, so that memory is planned, and the choice printed, on a machine
// that has neither the GPU nor the library.
#pragma once

#include "ops/attention/attention.h"

namespace sluice {

struct AttentionExtent {
  AttentionKernels kernels = AttentionKernels::own;
  DType type = DType::f32;
  bool gradient = false, cached = false, dropped = false;
  std::int64_t batch = 0, time = 0, heads = 0, key_heads = 0, head = 0;
};

// What a kernel is given at once: `sequences` with all of their heads; or some heads of one. The
// last piece may be smaller.
struct AttentionPieces {
  std::int64_t sequences = 0;  // 0: this attention is not the library's
  std::int64_t heads = 0;
  std::int64_t workspace = 0;  // bytes that one piece may need; pieces take turns with them
  explicit operator bool() const { return sequences > 0; }
};

// The library's are: bf16 training attention of two tokens or more, as many key heads as heads,
// heads of a multiple of 8 numbers up to 256, nothing dropped, and one head's workspace within
// most_attention_workspace. No piece needs more than that.
inline constexpr std::int64_t most_attention_workspace = std::int64_t{1} << 30;
AttentionPieces pieces_of(const AttentionExtent& extent);

// Bytes that cuDNN 9's kernels may need for so many (sequence, head) pairs: an upper bound, to
// which the backend holds the library. The gradient with sums in one order keeps the scores'
// gradients of a piece, T x T numbers of 2 bytes; the other one sums dq in float32.
std::int64_t library_workspace(const AttentionExtent& extent, std::int64_t pairs);

}  // namespace sluice
