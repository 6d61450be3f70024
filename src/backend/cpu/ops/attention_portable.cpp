// Attention in plain C++; costs and limits: attention_forward.h, attention_backward.h.
#include "backend/cpu/ops/attention_backward.h"
#include "backend/cpu/ops/attention_forward.h"

namespace sluice {

const AttentionKernel portable_attention = {
    .forward = attention_forward<Isa::portable>,
    .decode = attention_decode<Isa::portable>,
    .backward = attention_backward<Isa::portable>,
};

}  // namespace sluice
