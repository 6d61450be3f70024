#include "backend/cpu/ops/optimizer_kernel.h"

namespace sluice {

constinit const OptimizerKernels portable_optimizer = kernel::optimizer<Isa::portable>();

}  // namespace sluice
