// Matrix products by cuBLASLt: float32 without TF32, bf16 with float32 sums. The library's first
// heuristic answer is taken for a shape, type and alignment, once; the same shape then always runs
// the same algorithm, none of which adds in an order of chance. Shapes that it refuses go to our
// own kernel. One stream, one thread at a time.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <map>

#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/library.h"

namespace sluice {

class Products {
 public:
  Products();  // throws as Library does
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  static constexpr std::size_t workspace_bytes = 32 << 20;
  // `workspace`: so many bytes of the device.
  void run(cudaStream_t stream, void* workspace, const gpu::Gemm& g);

 private:
  struct Shape {
    std::int64_t m, n, k, lda, ldb, ldc;
    int a_align, b_align, c_align;
    gpu::Type type, c_type;
    bool a_transposed, b_transposed, adds;
    auto operator<=>(const Shape&) const = default;
  };
  // What a shape needs, kept for the next time.
  struct Prepared {
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
    bool supported = false;
  };
  Prepared prepare(const Shape& shape) const;

  Library library_;
  decltype(&cublasLtCreate) create_ = nullptr;
  decltype(&cublasLtDestroy) destroy_ = nullptr;
  decltype(&cublasLtMatmul) matmul_ = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create_ = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy_ = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set_ = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create_ = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy_ = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create_ = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy_ = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set_ = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic_ = nullptr;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Shape, Prepared> shapes_;
};

}  // namespace sluice
