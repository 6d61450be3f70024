// Attention in AVX2; costs and limits: attention_{forward,decode,backward}.h.
#include "backend/cpu/ops/attention_backward.h"
#include "backend/cpu/ops/attention_decode.h"
#include "backend/cpu/ops/attention_forward.h"

namespace sluice {

const AttentionKernel<float> avx2_attention = {
    .forward = attention_forward<Isa::avx2>,
    .decode = attention_decode<Isa::avx2>,
    .join = attention_join<Isa::avx2>,
    .backward = attention_backward<Isa::avx2>,
};

const AttentionKernel<Half> avx2_attention_bf16 = {
    .forward = attention_forward<Isa::avx2>,
    .decode = attention_decode<Isa::avx2>,
    .join = attention_join<Isa::avx2>,
    .backward = attention_backward<Isa::avx2>,
};

}  // namespace sluice
