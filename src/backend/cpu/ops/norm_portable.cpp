#include "backend/cpu/ops/norm_kernel.h"

namespace sluice {

constinit const NormKernels portable_norm = kernel::norm<Isa::portable>();

}  // namespace sluice
