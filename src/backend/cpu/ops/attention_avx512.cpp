// Attention in AVX-512; costs and limits: attention_forward.h, attention_backward.h.
#include "backend/cpu/ops/attention_backward.h"
#include "backend/cpu/ops/attention_forward.h"

namespace sluice {

const AttentionKernel avx512_attention = {
    .forward = attention_forward<Isa::avx512>,
    .decode = attention_decode<Isa::avx512>,
    .backward = attention_backward<Isa::avx512>,
};

}  // namespace sluice
