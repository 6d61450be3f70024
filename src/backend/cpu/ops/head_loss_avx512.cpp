// The softmax of head_loss_kernel.h in AVX-512.
#include "backend/cpu/exp2_avx512.h"
#include "backend/cpu/ops/head_loss_kernel.h"

namespace sluice {

template <>
struct HeadExponential<Isa::avx512> {
  static Vec<Isa::avx512> of(Vec<Isa::avx512> x) {
    return {exp2_of(_mm512_mul_ps(x.v, _mm512_set1_ps(log2_of_e)))};
  }
};

const HeadLossKernel avx512_head_loss = head_loss<Isa::avx512>();

}  // namespace sluice
