#include "backend/cuda/products.h"

#include <cstdint>
#include <cstring>

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

cudaDataType_t data_type(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }
DType type_of(gpu::Type type) { return type == gpu::Type::bf16 ? DType::bf16 : DType::f32; }

cublasLtEpilogue_t epilogue_of(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::none:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case Epilogue::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::gelu:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case Epilogue::gelu_slope:
      return CUBLASLT_EPILOGUE_DGELU;
  }
  throw Error("corrupt Epilogue");
}

// The largest power of two, up to 256, that divides an address.
int alignment(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  int out = 256;
  while (out > 1 && address % static_cast<std::uintptr_t>(out) != 0) out /= 2;
  return out;
}

}  // namespace

ProductShape shape_of(const Product& product) {
  const gpu::Gemm& g = product.gemm;
  return {.m = g.m,
          .n = g.n,
          .k = g.k,
          .lda = g.lda,
          .ldb = g.ldb,
          .ldc = g.ldc,
          .a_align = alignment(g.a),
          .b_align = alignment(g.b),
          .c_align = alignment(g.c),
          .type = type_of(g.type),
          .c_type = type_of(g.c_type),
          .a_transposed = g.a_transposed,
          .b_transposed = g.b_transposed,
          .adds = g.beta != 0,
          .epilogue = product.epilogue};
}

Products::Products() : library_("libcublasLt.so.13", "nvidia-cublas") {
  library_.find(create_, "cublasLtCreate");
  library_.find(destroy_, "cublasLtDestroy");
  library_.find(version_, "cublasLtGetVersion");
  library_.find(matmul_, "cublasLtMatmul");
  library_.find(check_, "cublasLtMatmulAlgoCheck");
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
  for (auto& [shape, one] : shapes_) release(one);
  if (handle_ != nullptr) (void)destroy_(handle_);
}

void Products::release(Prepared& one) const {
  (void)layout_destroy_(one.a), (void)layout_destroy_(one.b), (void)layout_destroy_(one.c);
  (void)desc_destroy_(one.product);
}

// The library counts columns first: what is row-major here is transposed there, so c = a b is asked
// for as cᵀ = bᵀ aᵀ, its left operand being our b.
Products::Prepared Products::describe(const ProductShape& shape) const {
  Prepared out;
  check_blas(desc_create_(&out.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
  const auto set = [&](cublasLtMatmulDescAttributes_t what, const auto& value) {
    check_blas(desc_set_(out.product, what, &value, sizeof(value)), "describing a product");
  };
  const auto side = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  set(CUBLASLT_MATMUL_DESC_TRANSA, side(shape.b_transposed));
  set(CUBLASLT_MATMUL_DESC_TRANSB, side(shape.a_transposed));
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(shape.epilogue));
  // Answers depend on how these are aligned; 256 stands for what run() sets.
  void* const aligned = reinterpret_cast<void*>(std::uintptr_t{256});
  if (has_bias(shape.epilogue)) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, aligned);
  if (has_aux(shape.epilogue)) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aligned);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, shape.ldc);
  }
  const auto layout = [&](cublasLtMatrixLayout_t& to, DType type, bool transposed,
                          std::int64_t rows, std::int64_t columns, std::int64_t line) {
    const auto r = static_cast<std::uint64_t>(transposed ? columns : rows);
    const auto c = static_cast<std::uint64_t>(transposed ? rows : columns);
    check_blas(layout_create_(&to, data_type(type), r, c, line), "describing a matrix");
  };
  layout(out.b, shape.type, shape.b_transposed, shape.n, shape.k, shape.ldb);
  layout(out.a, shape.type, shape.a_transposed, shape.k, shape.m, shape.lda);
  layout(out.c, shape.c_type, false, shape.n, shape.m, shape.ldc);
  return out;
}

std::vector<cublasLtMatmulHeuristicResult_t> Products::ask(const ProductShape& shape,
                                                           const Prepared& one, int most) const {
  cublasLtMatmulPreference_t wish = nullptr;
  check_blas(preference_create_(&wish), "a preference");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
    check_blas(preference_set_(wish, what, &value, sizeof(value)), "a preference");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
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
  std::vector<cublasLtMatmulHeuristicResult_t> out(static_cast<std::size_t>(most));
  int found = 0;
  const cublasStatus_t status =
      heuristic_(handle_, one.product, one.b, one.a, one.c, one.c, wish, most, out.data(), &found);
  (void)preference_destroy_(wish);
  out.resize(status == CUBLAS_STATUS_SUCCESS ? static_cast<std::size_t>(found) : 0);
  std::erase_if(out, [](const auto& answer) { return answer.state != CUBLAS_STATUS_SUCCESS; });
  return out;
}

std::vector<Algorithm> Products::answers(const ProductShape& shape, int most) {
  Prepared one = describe(shape);
  std::vector<Algorithm> out;
  for (const auto& answer : ask(shape, one, most)) {
    static_assert(sizeof(answer.algo) == sizeof(Algorithm::words));
    std::memcpy(out.emplace_back().words.data(), &answer.algo, sizeof(answer.algo));
  }
  release(one);
  return out;
}

Products::Prepared& Products::prepared(const ProductShape& shape) {
  if (const auto found = shapes_.find(shape); found != shapes_.end()) return found->second;
  Prepared one = describe(shape);
  if (const auto tuned = table_.find(shape); tuned != table_.end()) {
    std::memcpy(&one.algorithm, tuned->second.algorithm.words.data(), sizeof(one.algorithm));
    one.supported = !tuned->second.own;
  } else if (const auto first = ask(shape, one, 1); !first.empty()) {
    one.algorithm = first.front().algo;
    one.supported = true;
  }
  return shapes_.emplace(shape, one).first->second;
}

void Products::forget(const ProductShape& shape) {
  table_.erase(shape);
  if (const auto found = shapes_.find(shape); found != shapes_.end()) {
    release(found->second);
    shapes_.erase(found);
  }
}

void Products::choose(const ProductShape& shape, const Algorithm& algorithm) {
  forget(shape);
  table_[shape] = {.algorithm = algorithm};
}

void Products::use(const AlgorithmTable& table) {
  for (const auto& [shape, tuned] : table.products) {
    forget(shape);
    table_[shape] = tuned;
    if (tuned.own) continue;
    const Prepared& one = prepared(shape);
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status =
        check_(handle_, one.product, one.b, one.a, one.c, one.c, &one.algorithm, &result);
    require(status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace_bytes, [&] {
      return Error(Exit::input, {"the table of algorithms names one that cuBLASLt does not know",
                                 shape.text(),
                                 fmt::format("an algorithm of version {}", version()),
                                 fmt::format("status {}", static_cast<int>(status)),
                                 {"without the table products are tuned anew"}});
    });
  }
}

void Products::run(cudaStream_t stream, void* workspace, const Product& product) {
  const gpu::Gemm& g = product.gemm;
  const Prepared& one = prepared(shape_of(product));
  if (!one.supported) {
    require(product.epilogue == Epilogue::none,
            [] { return Error("our own product has no epilogues"); });
    return gpu::gemm(stream, g);
  }
  const auto set = [&](cublasLtMatmulDescAttributes_t what, const void* pointer) {
    check_blas(desc_set_(one.product, what, &pointer, sizeof(pointer)), "an epilogue");
  };
  if (product.bias != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
  if (product.aux != nullptr) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, product.aux);
  check_blas(matmul_(handle_, one.product, &g.alpha, g.b, one.b, g.a, one.a, &g.beta, g.c, one.c,
                     g.c, one.c, &one.algorithm, workspace, workspace_bytes, stream),
             "a product");
}

}  // namespace sluice
