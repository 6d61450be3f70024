#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/gelu_bf16_kernels.h"

namespace sluice {
namespace {

constexpr ElementwiseKernels kernels() {
  ElementwiseKernels all = kernel::elementwise<Isa::avx512>();
  all.b16.gelu_tanh = gelu_avx512::gelu<gelu_avx512::tanh>;
  all.b16.gelu_exact = gelu_avx512::gelu<gelu_avx512::exact>;
  all.b16.gelu_tanh_grad = gelu_avx512::gelu_grad<gelu_avx512::tanh_slope>;
  all.b16.gelu_exact_grad = gelu_avx512::gelu_grad<gelu_avx512::exact_slope>;
  all.rounded_gelu = {.tanh = gelu_avx512::round_gelu<gelu_avx512::tanh>,
                      .exact = gelu_avx512::round_gelu<gelu_avx512::exact>,
                      .tanh_grad = gelu_avx512::round_gelu_grad<gelu_avx512::tanh_slope>,
                      .exact_grad = gelu_avx512::round_gelu_grad<gelu_avx512::exact_slope>};
  return all;
}

}  // namespace

constinit const ElementwiseKernels avx512_elementwise = kernels();

}  // namespace sluice
