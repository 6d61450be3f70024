// What the files of op_cases() share. Private to this room.
#pragma once

#include <string>
#include <vector>

#include "ops/random_frame.h"

namespace sluice {

using Cases = std::vector<OpCase>;

// One case; its label gets the op's name.
void add(Cases& cases, const std::string& label, const Op& op, const RandomFrame& frame,
         bool first = true);

// The ops that walk over activations once: embeddings, sums, casts, GELU, norms, rotary, dropout.
void stream_cases(Cases& cases);

// Matrix products, alone and fused, the head with its loss, and packed weights.
void product_cases(Cases& cases);

}  // namespace sluice
