#include "backend/cuda/products.h"

#include <cstdint>

#include "core/error.h"

namespace sluice {
namespace {

void check_blas(cublasStatus_t status, const char* doing) {
  require(status == CUBLAS_STATUS_SUCCESS, [&] {
    return Error(Exit::internal, {fmt::format("cuBLASLt failed at {}", doing),
                                  {},
                                  {},
                                  fmt::format("status {}", static_cast<int>(status)),
                                  {}});
  });
}

cudaDataType_t data_type(gpu::Type type) {
  return type == gpu::Type::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

// The largest power of two, up to 256, that divides an address.
int alignment(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  int out = 256;
  while (out > 1 && address % static_cast<std::uintptr_t>(out) != 0) out /= 2;
  return out;
}

}  // namespace

Products::Products() : library_("libcublasLt.so.13", "nvidia-cublas") {
  library_.find(create_, "cublasLtCreate");
  library_.find(destroy_, "cublasLtDestroy");
  library_.find(matmul_, "cublasLtMatmul");
  library_.find(desc_create_, "cublasLtMatmulDescCreate");
  library_.find(desc_destroy_, "cublasLtMatmulDescDestroy");
  library_.find(desc_set_, "cublasLtMatmulDescSetAttribute");
  library_.find(layout_create_, "cublasLtMatrixLayoutCreate");
  library_.find(layout_destroy_, "cublasLtMatrixLayoutDestroy");
  library_.find(preference_create_, "cublasLtMatmulPreferenceCreate");
  library_.find(preference_destroy_, "cublasLtMatmulPreferenceDestroy");
  library_.find(preference_set_, "cublasLtMatmulPreferenceSetAttribute");
  library_.find(heuristic_, "cublasLtMatmulAlgoGetHeuristic");
  check_blas(create_(&handle_), "its start");
}

Products::~Products() {
  for (auto& [shape, one] : shapes_) {
    (void)layout_destroy_(one.a), (void)layout_destroy_(one.b), (void)layout_destroy_(one.c);
    (void)desc_destroy_(one.product);
  }
  if (handle_ != nullptr) (void)destroy_(handle_);
}

// The library counts columns first: what is row-major here is transposed there, so c = a b is asked
// for as cᵀ = bᵀ aᵀ, its left operand being our b.
Products::Prepared Products::prepare(const Shape& shape) const {
  Prepared out;
  check_blas(desc_create_(&out.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
  const auto side = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const cublasOperation_t left = side(shape.b_transposed), right = side(shape.a_transposed);
  check_blas(desc_set_(out.product, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof(left)), "a side");
  check_blas(desc_set_(out.product, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof(right)), "a side");
  const auto layout = [&](cublasLtMatrixLayout_t& to, gpu::Type type, bool transposed,
                          std::int64_t rows, std::int64_t columns, std::int64_t line) {
    const auto r = static_cast<std::uint64_t>(transposed ? columns : rows);
    const auto c = static_cast<std::uint64_t>(transposed ? rows : columns);
    check_blas(layout_create_(&to, data_type(type), r, c, line), "describing a matrix");
  };
  layout(out.b, shape.type, shape.b_transposed, shape.n, shape.k, shape.ldb);
  layout(out.a, shape.type, shape.a_transposed, shape.k, shape.m, shape.lda);
  layout(out.c, shape.c_type, false, shape.n, shape.m, shape.ldc);

  cublasLtMatmulPreference_t wish = nullptr;
  check_blas(preference_create_(&wish), "a preference");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
    check_blas(preference_set_(wish, what, &value, sizeof(value)), "a preference");
  };
  const std::size_t workspace = workspace_bytes;
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  // Parts of K are summed in float32, in one order.
  const std::uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes);
  const auto a = static_cast<std::uint32_t>(shape.b_align);
  const auto b = static_cast<std::uint32_t>(shape.a_align);
  const auto c = static_cast<std::uint32_t>(shape.c_align);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status =
      heuristic_(handle_, out.product, out.b, out.a, out.c, out.c, wish, 1, &best, &found);
  (void)preference_destroy_(wish);
  out.supported = status == CUBLAS_STATUS_SUCCESS && found > 0;
  if (out.supported) out.algorithm = best.algo;
  return out;
}

void Products::run(cudaStream_t stream, void* workspace, const gpu::Gemm& g) {
  const Shape shape{g.m,
                    g.n,
                    g.k,
                    g.lda,
                    g.ldb,
                    g.ldc,
                    alignment(g.a),
                    alignment(g.b),
                    alignment(g.c),
                    g.type,
                    g.c_type,
                    g.a_transposed,
                    g.b_transposed,
                    g.beta != 0};
  auto found = shapes_.find(shape);
  if (found == shapes_.end()) found = shapes_.emplace(shape, prepare(shape)).first;
  const Prepared& one = found->second;
  if (!one.supported) return gpu::gemm(stream, g);
  check_blas(matmul_(handle_, one.product, &g.alpha, g.b, one.b, g.a, one.a, &g.beta, g.c, one.c,
                     g.c, one.c, &one.algorithm, workspace, workspace_bytes, stream),
             "a product");
}

}  // namespace sluice
