#include "backend/cpu/ops/optimizer_kernel.h"

namespace sluice {

constinit const OptimizerKernels avx512_optimizer = kernel::optimizer<Isa::avx512>();

}  // namespace sluice
