#include "backend/cpu/ops/optimizer_kernel.h"

namespace sluice {

constinit const OptimizerKernels avx2_optimizer = kernel::optimizer<Isa::avx2>();

}  // namespace sluice
