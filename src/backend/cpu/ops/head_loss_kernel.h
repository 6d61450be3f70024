// One token's logits: softmax, cross entropy and their gradient in place. The kernel may be
// instantiated only by files of one instruction set (see vec.h).
//
// Two passes over a row of V numbers that the product just wrote (200 KB at V = 50k: from the
// second level cache), three with gradients; about 25 operations a logit, most of them
// exponentials. Beside 2·D multiply-adds a logit for each product that is a few percent at D = 768.
#pragma once

#include <cstdint>

#include "backend/cpu/vec.h"

namespace sluice {

struct HeadRow {
  float* logits;        // `padded` numbers, of which the first `vocab` are logits
  std::int64_t vocab;   // at least 1
  std::int64_t padded;  // a multiple of 16; what lies after `vocab` is overwritten
  std::int64_t target;  // < vocab
  float weight;
  bool gradient;  // leave weight * (softmax - onehot), zeros after `vocab`
};

// The loss of a row in pieces: nll = maximum + log(sum) - target.
struct HeadSums {
  float maximum, sum, target;
};

struct HeadLossKernel {
  HeadSums (*row)(const HeadRow&);
};

extern const HeadLossKernel portable_head_loss;
extern const HeadLossKernel avx2_head_loss;
extern const HeadLossKernel avx512_head_loss;

// Four running vectors, taken in turn: the order of the sum is fixed by the row's length.
template <Isa isa>
HeadSums head_loss_row(const HeadRow& row) {
  using V = Vec<isa>;
  float* const x = row.logits;
  const float target = x[row.target];
  const float hidden = -__builtin_inff();
  for (std::int64_t i = row.vocab; i < row.padded; ++i) x[i] = hidden;
  V part[4] = {V::set(hidden), V::set(hidden), V::set(hidden), V::set(hidden)};
  std::int64_t i = 0;
  for (; i + 64 <= row.padded; i += 64)
    for (int j = 0; j < 4; ++j) part[j] = max(V::load(x + i + 16 * j), part[j]);
  for (; i < row.padded; i += 16) part[0] = max(V::load(x + i), part[0]);
  const float maximum = reduce_max(max(max(part[0], part[1]), max(part[2], part[3])));
  const V top = V::set(maximum);
  const auto exponential = [&](float* at) {
    const V p = exp<isa>(V::load(at) - top);
    if (row.gradient) p.store(at);
    return p;
  };
  for (V& one : part) one = V::zero();
  for (i = 0; i + 64 <= row.padded; i += 64)
    for (int j = 0; j < 4; ++j) part[j] = part[j] + exponential(x + i + 16 * j);
  for (; i < row.padded; i += 16) part[0] = part[0] + exponential(x + i);
  const float sum = reduce_add((part[0] + part[1]) + (part[2] + part[3]));
  if (row.gradient) {
    const V factor = V::set(row.weight / sum);
    for (i = 0; i < row.padded; i += 16) (V::load(x + i) * factor).store(x + i);
    x[row.target] -= row.weight;
  }
  return {maximum, sum, target};
}

}  // namespace sluice
