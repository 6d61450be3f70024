// One call of cuDNN's attention: built once for its extents and strides, then run with addresses.
//
// The source of this header is the one file that sees cuDNN's C++ frontend, which takes long to
// compile. cuDNN itself is never linked: libcudnn.so.9 must have been loaded before.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <string>

struct cudnnContext;

namespace sluice {

enum class CudnnKind : std::uint8_t {
  forward,       // q k v -> y
  forward_lse,   // q k v -> y lse
  gradient,      // q k v y lse dy -> dq dk dv, every sum in one order
  any_gradient,  // the same, sums of dq in an order of chance
};

// All of a call but its addresses; values are bf16 [B T N H] with strides in numbers, lse float32
// [B N T] without gaps. Causal.
struct CudnnCall {
  enum Operand : std::uint8_t { q, k, v, y, lse, dy, dq, dk, dv, operands };
  CudnnKind kind = CudnnKind::forward;
  std::int64_t batch = 0, heads = 0, time = 0, head = 0;
  float scale = 1;
  std::array<std::int64_t, operands> token = {}, sequence = {};
  auto operator<=>(const CudnnCall&) const = default;
};
using CudnnPointers = std::array<void*, CudnnCall::operands>;

// What the library keeps for a GPU, that of the thread which makes it. Throws what the library
// says.
class CudnnHandle {
 public:
  CudnnHandle();
  ~CudnnHandle();
  CudnnHandle(const CudnnHandle&) = delete;
  CudnnHandle& operator=(const CudnnHandle&) = delete;
  cudnnContext* get() const { return handle_; }
  int capability() const { return capability_; }  // 90 for compute capability 9.0
  void use(cudaStream_t stream);

 private:
  cudnnContext* handle_ = nullptr;
  int capability_ = 0;
};

class CudnnGraph {
 public:
  // Chooses the library's first engine for it. When the library has none, refusal() says why and
  // there is nothing to run.
  CudnnGraph(const CudnnHandle& handle, const CudnnCall& call);
  ~CudnnGraph();
  CudnnGraph(CudnnGraph&&) noexcept;

  const std::string& refusal() const { return refusal_; }  // empty: it can be run
  std::int64_t workspace() const { return workspace_; }    // bytes
  // Enqueues it on the handle's stream. Throws what the library says.
  void run(const CudnnHandle& handle, const CudnnPointers& pointers, void* workspace);

 private:
  struct Built;
  std::unique_ptr<Built> built_;
  std::string refusal_;
  std::int64_t workspace_ = 0;
};

}  // namespace sluice
