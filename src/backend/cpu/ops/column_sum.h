// Sums of the columns of a matrix, float32 or bf16, in float32: the gradient of a bias.
//
// The order is fixed: rows ascending within chunks of 64, the chunks' sums added ascending, so that
// the bits depend neither on threads nor on the instruction set.
#pragma once

#include <cstdint>

#include "backend/cpu/isa.h"
#include "backend/cpu/pool.h"
#include "core/dtype.h"

namespace sluice {

// sum[c] = (accumulate ? sum[c] : 0) + the sum over rows of x[r * ld + c], for c < columns.
void column_sum(Pool& pool, Isa isa, const float* x, std::int64_t rows, std::int64_t columns,
                std::int64_t ld, bool accumulate, float* sum);
void column_sum(Pool& pool, Isa isa, const bf16* x, std::int64_t rows, std::int64_t columns,
                std::int64_t ld, bool accumulate, float* sum);

}  // namespace sluice
