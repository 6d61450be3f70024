// The GPU backend. One stream computes; copies have streams of their own. run() only enqueues: what
// it was given has ended when then() says so, on a thread that waits for nothing else.
//
// Threads: as Backend says. Kernels and library calls need no memory beyond what is taken at
// construction: scratch for what an op leaves between its kernels, and the workspace of products.
#pragma once

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/cudnn_attention.h"
#include "backend/cuda/products.h"
#include "backend/cuda/runtime.h"
#include "backend/cuda/stamps.h"
#include "backend/tuner.h"

namespace sluice {

class CudaBackend final : public Backend, public ProductTuner {
 public:
  explicit CudaBackend(int index);
  ~CudaBackend() override;

  std::string_view name() const override { return "cuda"; }
  bool host_sees() const override { return false; }
  std::byte* take(std::int64_t bytes) override;
  void prepare(const Op& op, const Frame& frame) override;
  void run(const Op& op, const Frame& frame) override;
  std::byte* take_host(std::int64_t bytes) override;
  void copy_in(std::byte* device, const std::byte* host, std::int64_t bytes) override;
  void copy_out(std::byte* host, const std::byte* device, std::int64_t bytes) override;
  void copy_within(std::byte* to, const std::byte* from, std::int64_t bytes) override;
  void then(Done done, void* with) override;
  void finish() override;
  bool records() const override { return true; }
  void record() override;
  int recorded() override;
  void abandon() override;
  void replay(int number) override;
  ProductTuner* tuner() override { return this; }

  AlgorithmTable machine() const override;
  std::vector<ProductShape> products_of(const Op& op, const Frame& frame) override;
  TunedProduct tune(const ProductShape& shape) override;
  void use(const AlgorithmTable& table) override { products_.use(table); }
  std::int64_t stamp() override { return select(), stamps_.put(stream()); }
  std::int64_t stamped(std::int64_t look) const override { return select(), stamps_.time_of(look); }

  // For the launchers of cuda/ops.
  cudaStream_t stream() const { return compute_.get(); }
  static constexpr std::int64_t scratch_bytes = 64 << 20;
  template <class T>
  T* scratch(std::int64_t count) {
    require_scratch(count * static_cast<std::int64_t>(sizeof(T)));
    return reinterpret_cast<T*>(scratch_);
  }
  void multiply(const Product& product) {
    if (listed_ != nullptr) return listed_->push_back(shape_of(product));
    products_.run(stream(), workspace_, product);
  }
  void multiply(const gpu::Gemm& g) { multiply(Product{g}); }
  // Whether cuBLASLt has an algorithm for a product, its epilogue included.
  bool has(const Product& product) { return products_.has(shape_of(product)); }
  // Loaded when it is first asked for; throws as it does.
  CudnnAttention& cudnn() {
    if (!cudnn_) cudnn_ = std::make_unique<CudnnAttention>();
    return *cudnn_;
  }
  // Where kernels leave the number of what was bad in their data.
  enum Bad : int { bad_id, bad_target, bad_cache, bad_kinds };
  int* bad(Bad which) const { return bad_ + which; }

 private:
  struct Waiting {
    CudaEvent event;
    Done done = nullptr;
    void* with = nullptr;
  };
  void select() const { check_cuda(cudaSetDevice(index_), "choosing the GPU"); }
  static void require_scratch(std::int64_t bytes);
  void require_good();
  void complete();  // the thread that waits

  int index_;
  Products products_;
  std::unique_ptr<CudnnAttention> cudnn_;
  std::vector<ProductShape>* listed_ = nullptr;  // products are only written down
  CudaStream compute_, in_, out_;
  std::vector<CudaGraph> kept_;
  CudaStamps stamps_;
  std::vector<void*> device_, host_;
  std::byte *scratch_ = nullptr, *workspace_ = nullptr;
  int* bad_ = nullptr;
  static constexpr std::int64_t room = 256;
  std::array<Waiting, room> waiting_;
  std::atomic<std::int64_t> asked_ = 0, answered_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread completer_;
};

}  // namespace sluice
