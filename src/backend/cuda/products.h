// Matrix products by cuBLASLt: float32 without TF32, bf16 with float32 sums. A shape always runs
// the same algorithm, none of which adds in an order of chance: the one that a table names for it,
// else the library's first heuristic answer. One stream, one thread at a time.
#pragma once

#include <cublasLt.h>

#include <map>
#include <vector>

#include "backend/algorithms.h"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/library.h"

namespace sluice {

// A product and what is done with its result.
struct Product {
  gpu::Gemm gemm;
  Epilogue epilogue = Epilogue::none;
  void* bias = nullptr;  // of c's type
  void* aux = nullptr;   // laid out like c, of its type
};
ProductShape shape_of(const Product& product);

class Products {
 public:
  Products();  // throws as Library does
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  static constexpr std::size_t workspace_bytes = 32 << 20;
  // `workspace`: so many bytes of the device. What the library has no algorithm for runs on our own
  // kernel; REQUIRES: it has one, or there is no epilogue.
  void run(cudaStream_t stream, void* workspace, const Product& product);
  // Whether the library has an algorithm for it.
  bool has(const ProductShape& shape) { return prepared(shape).supported; }

  std::int64_t version() const { return static_cast<std::int64_t>(version_()); }
  // Exit::input when the library does not know an algorithm of it.
  void use(const AlgorithmTable& table);

  // --- for who measures -----------------------------------------------------------------------

  // The library's answers for a shape, the one it deems best first.
  std::vector<Algorithm> answers(const ProductShape& shape, int most);
  // Runs by one of them, from here on, what has this shape.
  void choose(const ProductShape& shape, const Algorithm& algorithm);
  void forget(const ProductShape& shape);

 private:
  // What a shape needs, kept for the next time.
  struct Prepared {
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
    bool supported = false;
  };
  Prepared describe(const ProductShape& shape) const;
  void release(Prepared& one) const;
  std::vector<cublasLtMatmulHeuristicResult_t> ask(const ProductShape& shape, const Prepared& one,
                                                   int most) const;
  Prepared& prepared(const ProductShape& shape);

  Library library_;
  decltype(&cublasLtCreate) create_ = nullptr;
  decltype(&cublasLtDestroy) destroy_ = nullptr;
  decltype(&cublasLtGetVersion) version_ = nullptr;
  decltype(&cublasLtMatmul) matmul_ = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) check_ = nullptr;
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
  std::map<ProductShape, Prepared> shapes_;
  std::map<ProductShape, TunedProduct> table_;
};

}  // namespace sluice
