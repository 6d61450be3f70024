// One token's logits: softmax, cross entropy and their gradient in place. The kernel may be
// instantiated only by files of one instruction set (see vec.h).
//
// A row of V logits (200 KB at V = 50k) is read from memory once; its further passes run from the
// second level cache, those of one block of bf16's row from the first. About 25 operations a logit,
// most of them exponentials. Beside 2·D multiply-adds a logit for each product that is a few
// percent at D = 768.
#pragma once

#include <cstdint>

#include "backend/cpu/vec.h"
#include "core/dtype.h"

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
  float maximum, target;
  double sum;
};

struct HeadLossKernel {
  HeadSums (*row)(const HeadRow&);
  // For operands of bf16: the gradient is rounded to bf16, `padded` numbers in the front half of
  // the row's own memory; float32 behind them is left over.
  HeadSums (*row_bf16)(const HeadRow&);
};

extern const HeadLossKernel portable_head_loss;
extern const HeadLossKernel avx2_head_loss;
extern const HeadLossKernel avx512_head_loss;

// The largest of `count` numbers, a multiple of 16. A NaN is passed over: the sum will show it.
template <Isa isa>
float largest(const float* x, std::int64_t count) {
  using V = Vec<isa>;
  const V none = V::set(-__builtin_inff());
  V part[4] = {none, none, none, none};
  std::int64_t i = 0;
  for (; i + 64 <= count; i += 64)
    for (int j = 0; j < 4; ++j) part[j] = max(V::load(x + i + 16 * j), part[j]);
  for (; i < count; i += 16) part[0] = max(V::load(x + i), part[0]);
  return reduce_max(max(max(part[0], part[1]), max(part[2], part[3])));
}

// The exponentials of bf16's row; an instruction set with a quicker one says so.
template <Isa isa>
struct HeadExponential {
  static Vec<isa> of(Vec<isa> x) { return exp<isa>(x); }
};
template <Isa isa>
struct FloatExponential {
  static Vec<isa> of(Vec<isa> x) { return exp<isa>(x); }
};

// The sum of exp(x - top) over `count` numbers, a multiple of 16; they may be left in place.
template <Isa isa, bool keep, template <Isa> class Exponential>
float add_exponentials(float* x, std::int64_t count, float maximum) {
  using V = Vec<isa>;
  const V top = V::set(maximum);
  const auto exponential = [top](float* at) {
    const V p = Exponential<isa>::of(V::load(at) - top);
    if (keep) p.store(at);
    return p;
  };
  V part[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
  std::int64_t i = 0;
  for (; i + 64 <= count; i += 64)
    for (int j = 0; j < 4; ++j) part[j] = part[j] + exponential(x + i + 16 * j);
  for (; i < count; i += 16) part[0] = part[0] + exponential(x + i);
  return reduce_add((part[0] + part[1]) + (part[2] + part[3]));
}

// Sums run over 1,024 numbers in float and over those sums in double: a large vocabulary's many
// small terms are not lost beside a large one.
template <Isa isa>
HeadSums head_loss_row(const HeadRow& row) {
  using V = Vec<isa>;
  constexpr std::int64_t block = 1024;
  float* const x = row.logits;
  const float target = x[row.target];
  for (std::int64_t i = row.vocab; i < row.padded; ++i) x[i] = -__builtin_inff();
  const float maximum = largest<isa>(x, row.padded);
  double sum = 0;
  for (std::int64_t i = 0; i < row.padded; i += block) {
    const std::int64_t count = row.padded - i < block ? row.padded - i : block;
    sum += row.gradient ? add_exponentials<isa, true, FloatExponential>(x + i, count, maximum)
                        : add_exponentials<isa, false, FloatExponential>(x + i, count, maximum);
  }
  if (row.gradient) {
    const V factor = V::set(static_cast<float>(row.weight / sum));
    for (std::int64_t i = 0; i < row.padded; i += 16) (V::load(x + i) * factor).store(x + i);
    x[row.target] -= row.weight;
  }
  return {maximum, target, sum};
}

// The row in blocks, each with a largest logit of its own, so that a block is read from memory
// once; their sums are brought to one scale afterwards. `padded` alone decides the blocks.
template <Isa isa>
struct HeadBlocks {
  using V = Vec<isa>;
  static constexpr int most = 256;
  std::int64_t size, count;
  float largest[most], sum[most];
  float scale[most];  // of the exponentials of a block, to those of the row

  explicit HeadBlocks(std::int64_t padded) {
    const std::int64_t least = (padded + most - 1) / most;
    size = least <= 1024 ? 1024 : (least + 63) / 64 * 64;
    count = (padded + size - 1) / size;
    for (int i = 0; i < most; ++i) largest[i] = -__builtin_inff(), sum[i] = 0;
  }
  HeadSums join(float target) {
    const float maximum = sluice::largest<isa>(largest, most);
    double total = 0;
    for (int i = 0; i < most; i += 16) {
      HeadExponential<isa>::of(V::load(largest + i) - V::set(maximum)).store(scale + i);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      total += static_cast<double>(sum[i]) * static_cast<double>(scale[i]);
    }
    return {maximum, target, total};
  }
};

template <Isa isa>
HeadSums head_loss_row_bf16(const HeadRow& row) {
  using V = Vec<isa>;
  float* const x = row.logits;
  const float target = x[row.target];
  for (std::int64_t i = row.vocab; i < row.padded; ++i) x[i] = -__builtin_inff();
  HeadBlocks<isa> blocks(row.padded);
  const auto end_of = [&](std::int64_t block) {
    const std::int64_t end = (block + 1) * blocks.size;
    return end < row.padded ? end : row.padded;
  };
  for (std::int64_t b = 0; b < blocks.count; ++b) {
    float* const at = x + b * blocks.size;
    const std::int64_t count = end_of(b) - b * blocks.size;
    const float top = largest<isa>(at, count);
    blocks.largest[b] = top > -3e38f ? top : -3e38f;  // a block of padding: exp(-inf + 3e38) = 0
    blocks.sum[b] =
        row.gradient ? add_exponentials<isa, true, HeadExponential>(at, count, blocks.largest[b])
                     : add_exponentials<isa, false, HeadExponential>(at, count, blocks.largest[b]);
  }
  const HeadSums sums = blocks.join(target);
  if (!row.gradient) return sums;
  // Reading runs ahead of writing, so that a number is gone only after its use.
  bf16* const dlogits = reinterpret_cast<bf16*>(x);
  const V share = V::set(static_cast<float>(row.weight / sums.sum));
  const V hot = V::set(x[row.target]);
  for (std::int64_t b = 0; b < blocks.count; ++b) {
    const V factor = share * V::set(blocks.scale[b]);
    for (std::int64_t i = b * blocks.size; i < end_of(b); i += 16) {
      (V::load(x + i) * factor).store(dlogits + i);
    }
  }
  const V probability = hot * (share * V::set(blocks.scale[row.target / blocks.size]));
  (probability - V::set(row.weight)).store(dlogits + row.target, 1);
  return sums;
}

template <Isa isa>
constexpr HeadLossKernel head_loss() {
  return {.row = head_loss_row<isa>, .row_bf16 = head_loss_row_bf16<isa>};
}

}  // namespace sluice
