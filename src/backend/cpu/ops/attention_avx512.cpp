// Attention in AVX-512; costs and limits: attention_{forward,decode,backward}.h.
#include "backend/cpu/ops/attention_backward.h"
#include "backend/cpu/ops/attention_decode.h"
#include "backend/cpu/ops/attention_dot.h"
#include "backend/cpu/ops/attention_forward.h"

namespace sluice {

void avx512_draw_dropout(const AttentionDropout& dropout, std::int64_t j0, std::int64_t visible,
                         std::int64_t queries, float* rows, float* keep) {
  draw_dropout<Isa::avx512>(dropout, j0, visible, queries, rows, keep);
}
void avx512_attention_join(const AttentionParts<Half>& all) { attention_join<Isa::avx512>(all); }

const AttentionKernel<float> avx512_attention = {
    .forward = attention_forward<Isa::avx512>,
    .decode = attention_decode<Isa::avx512>,
    .join = attention_join<Isa::avx512>,
    .backward = attention_backward<Isa::avx512>,
};

const AttentionKernel<Half> avx512_attention_bf16 = {
    .forward = attention_forward<Isa::avx512>,
    .decode = attention_decode<Isa::avx512>,
    .join = attention_join<Isa::avx512>,
    .backward = attention_backward<Isa::avx512>,
};

}  // namespace sluice
