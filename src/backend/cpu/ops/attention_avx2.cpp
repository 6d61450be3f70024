// Attention in AVX2; costs and limits: attention_forward.h, attention_backward.h.
#include "backend/cpu/ops/attention_backward.h"
#include "backend/cpu/ops/attention_forward.h"

namespace sluice {

const AttentionKernel avx2_attention = {
    .forward = attention_forward<Isa::avx2>,
    .decode = attention_decode<Isa::avx2>,
    .backward = attention_backward<Isa::avx2>,
};

}  // namespace sluice
