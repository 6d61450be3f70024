#include "backend/cpu/ops/elementwise_kernel.h"

namespace sluice {

constinit const ElementwiseKernels avx512_elementwise = kernel::elementwise<Isa::avx512>();

}  // namespace sluice
