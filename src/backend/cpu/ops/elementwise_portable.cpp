#include "backend/cpu/ops/elementwise_kernel.h"

namespace sluice {

constinit const ElementwiseKernels portable_elementwise = kernel::elementwise<Isa::portable>();

}  // namespace sluice
