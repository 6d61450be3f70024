// Attention by cuDNN, in the pieces that ops/attention/pieces.h says. The library is looked for
// when this is made, which is when an op first needs it.
//
// What was built for a shape is kept, so that only its first call takes memory of the host. One
// stream, one thread at a time.
#pragma once

#include <map>
#include <span>

#include "backend/cuda/cudnn_graph.h"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/library.h"
#include "ops/attention/pieces.h"

namespace sluice {

// Attention, or its gradient, of a whole micro-batch, as ops/attention says.
struct LibraryAttention {
  CudnnKind kind = CudnnKind::forward;
  AttentionPieces pieces;
  gpu::AttentionShape shape;
  gpu::Heads q, k, v, y;
  float* lse = nullptr;
  gpu::Heads dy, dq, dk, dv;  // of a gradient
  std::span<std::byte> workspace;
};

class CudnnAttention {
 public:
  // Exit::usage, with what to install, when there is no library, or one of another version. Of this
  // thread's GPU.
  explicit CudnnAttention(const std::string& file = "libcudnn.so.9");

  std::size_t version() const { return version_; }  // 91900 is 9.19.0
  // Exit::usage when the library has no kernel for a piece, or one that wants more workspace than
  // there is.
  void prepare(const LibraryAttention& a);
  // prepare(), then enqueues it.
  void run(cudaStream_t stream, const LibraryAttention& a);

 private:
  CudnnGraph& graph_for(const CudnnCall& call, std::int64_t workspace);

  Library library_;
  std::size_t version_;
  CudnnHandle handle_;
  cudaStream_t stream_ = nullptr;
  std::map<CudnnCall, CudnnGraph> graphs_;
};

}  // namespace sluice
