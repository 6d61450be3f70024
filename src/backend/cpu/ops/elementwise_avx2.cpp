#include "backend/cpu/ops/elementwise_kernel.h"

namespace sluice {

constinit const ElementwiseKernels avx2_elementwise = kernel::elementwise<Isa::avx2>();

}  // namespace sluice
