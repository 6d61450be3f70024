// Measures a product by each of the library's algorithms, on random numbers in memory of its own.
#pragma once

#include "backend/algorithms.h"
#include "backend/cuda/products.h"
#include "backend/cuda/runtime.h"

namespace sluice {

// What one product reads and writes, and the algorithms that it may run by.
class GpuTrials final : public ProductTrials {
 public:
  // Takes memory until it dies; Exit::memory. All outlive it.
  GpuTrials(Products& products, cudaStream_t stream, void* workspace, const ProductShape& shape);

  int count() const override { return static_cast<int>(algorithms_.size()); }
  double seconds(int candidate) override;
  bool repeats(int candidate) override;

  const Algorithm& algorithm(int candidate) const {
    return algorithms_[static_cast<std::size_t>(candidate)];
  }

 private:
  struct Memory {
    explicit Memory(std::int64_t bytes);
    ~Memory() { (void)cudaFree(data); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    void* data = nullptr;
    std::int64_t bytes;
  };
  void run() { products_.run(stream_, workspace_, product_); }
  void choose(int candidate);
  std::uint64_t fingerprint();

  Products& products_;
  cudaStream_t stream_;
  void* workspace_;
  ProductShape shape_;
  Memory a_, b_, c_, bias_, aux_, sum_;
  Product product_;
  std::vector<Algorithm> algorithms_;
  int chosen_ = -1, runs_ = 1;  // runs: of one measurement
  CudaTimer begin_, end_;
};

// The algorithm of a shape by choose()'s rule; the products then know nothing of the shape.
TunedProduct tune(Products& products, cudaStream_t stream, void* workspace,
                  const ProductShape& shape);

}  // namespace sluice
