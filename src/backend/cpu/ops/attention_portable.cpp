// Attention in plain C++; costs and limits: attention_{forward,decode,backward}.h.
#include "backend/cpu/ops/attention_backward.h"
#include "backend/cpu/ops/attention_decode.h"
#include "backend/cpu/ops/attention_forward.h"

namespace sluice {

const AttentionKernel<float> portable_attention = {
    .forward = attention_forward<Isa::portable>,
    .decode = attention_decode<Isa::portable>,
    .join = attention_join<Isa::portable>,
    .backward = attention_backward<Isa::portable>,
};

const AttentionKernel<Half> portable_attention_bf16 = {
    .forward = attention_forward<Isa::portable>,
    .decode = attention_decode<Isa::portable>,
    .join = attention_join<Isa::portable>,
    .backward = attention_backward<Isa::portable>,
};

}  // namespace sluice
