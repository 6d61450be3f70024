// AdamW's arithmetic, and the kernels that work block by block on state of 8 bits: AdamW compact,
// and gradients rounded to int8. A block is decoded into buffers of float32 in the L1 cache, worked
// on there, and encoded again: one pass over memory. For files of one instruction set (see vec.h).
#pragma once

#include "backend/cpu/ops/lanes.h"
#include "backend/cpu/ops/optimizer_formats.h"

namespace sluice {

// What one step's AdamW does to every number of a part: float32, but computed in double.
struct AdamWNumbers {
  float scale;         // of the gradient
  float beta1, rest1;  // rest = 1 - beta
  float beta2, rest2;
  float correct1, correct2;  // 1 / (1 - betaᵗ)
  float lr, decay, eps;
};

// A compact tensor: rows of `row` numbers in `blocks` blocks each.
struct CompactTensor {
  std::uint16_t* w;  // bf16
  const float* g;
  std::uint8_t *m, *v;
  float *m_scale, *v_scale;
  std::int64_t row, blocks;
  const AdamWNumbers* numbers;  // of each part
  std::int64_t parts, parts_inner;
  std::uint64_t seed, stream;
};
struct Int8Tensor {
  float* g;
  std::int8_t* codes;  // of a rounding: null when they are not wanted
  float* scales;       // of them, one a block
  std::int64_t row, blocks;
  std::uint64_t seed, stream;
};

namespace kernel {

// State too small for a normal float32 becomes 0: it is 30 orders below eps, and a row of an
// embedding whose token is never seen would else cost denormal arithmetic in every step for ever.
template <Isa isa>
inline Vec<isa> flush(Vec<isa> x) {
  return select(abs(x) < Vec<isa>::set(__FLT_MIN__), Vec<isa>::zero(), x);
}

// The arithmetic of AdamW, the same for every form.
template <Isa isa>
struct AdamWLanes {
  using V = Vec<isa>;
  V scale, beta1, rest1, beta2, rest2, correct1, correct2, down, decay, eps;

  explicit AdamWLanes(const AdamWNumbers& a)
      : scale(V::set(a.scale)),
        beta1(V::set(a.beta1)),
        rest1(V::set(a.rest1)),
        beta2(V::set(a.beta2)),
        rest2(V::set(a.rest2)),
        correct1(V::set(a.correct1)),
        correct2(V::set(a.correct2)),
        down(V::set(-a.lr)),
        decay(V::set(a.decay)),
        eps(V::set(a.eps)) {}
  V mean(V gradient, V m) const { return flush(fma(beta1, m, rest1 * gradient)); }
  V square(V gradient, V v) const { return flush(fma(beta2, v, rest2 * gradient * gradient)); }
  V weight(V w, V mean, V square) const {
    const V ratio = correct1 * mean / (sqrt(correct2 * square) + eps);
    return fma(down, fma(decay, w, ratio), w);
  }
};

// Numbers of a block, those past its end zero.
template <Isa isa, class T>
struct Padded {
  T values[block_size];
  Padded() = default;
  Padded(const T* from, std::int64_t n) {
    for (std::int64_t i = n; i < block_size; ++i) values[i] = 0;
    __builtin_memcpy(values, from, static_cast<std::size_t>(n) * sizeof(T));
  }
  void store(T* to, std::int64_t n) const {
    __builtin_memcpy(to, values, static_cast<std::size_t>(n) * sizeof(T));
  }
};

// The draws of a block that begins anywhere: RandomBits begins at multiples of four.
template <Isa isa>
class BlockDraws {
 public:
  const std::uint32_t* draw(const RandomBits<isa>& random, std::int64_t first) {
    const std::int64_t before = first & 3;
    random.fill(static_cast<std::uint64_t>(first - before), block_size + before, values_);
    return values_ + before;
  }

 private:
  std::uint32_t values_[block_size + 32];
};

// One block of float32 numbers, part by part: v becomes what is kept, made from v; the division
// sees what is made from `read`.
template <Isa isa>
void adamw_block(const CompactTensor& t, std::int64_t first, std::int64_t n, float* w, float* m,
                 float* v, const float* read) {
  using V = Vec<isa>;
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t place = t.parts == 1 ? 0 : (first + i) / t.parts_inner;
    const std::int64_t end = t.parts == 1 ? n : (place + 1) * t.parts_inner - first;
    const std::int64_t size = (end < n ? end : n) - i;
    const AdamWLanes<isa> step(t.numbers[place % t.parts]);
    for_lanes<isa>(size, [=](std::int64_t k, auto lanes) {
      const std::int64_t at = i + k;
      const V gradient = step.scale * lanes.load(t.g + first + at);
      const V mean = step.mean(gradient, lanes.load(m + at));
      const V square = step.square(gradient, lanes.load(read + at));
      lanes.store(w + at, step.weight(lanes.load(w + at), mean, square));
      lanes.store(m + at, mean);
      lanes.store(v + at, step.square(gradient, lanes.load(v + at)));
    });
    i += size;
  }
}

template <Isa isa>
void adamw_compact(const CompactTensor& t, std::int64_t first_block, std::int64_t last_block) {
  const RandomBits<isa> random(t.seed, t.stream);
  BlockDraws<isa> draws;
  float w[block_size], m[block_size], v[block_size], read[block_size];
  for (std::int64_t block = first_block; block < last_block; ++block) {
    const std::int64_t column = block % t.blocks * block_size;
    const std::int64_t first = block / t.blocks * t.row + column;
    const std::int64_t n = t.row - column < block_size ? t.row - column : block_size;
    Padded<isa, std::uint16_t> weights(t.w + first, n);
    Padded<isa, std::uint8_t> means(t.m + first, n), squares(t.v + first, n);
    widen<isa>(weights.values, w, block_size);
    decode_m<isa>(means.values, t.m_scale[block], m);
    decode_v<isa>(squares.values, t.v_scale[block], v, read);
    adamw_block<isa>(t, first, n, w, m, v, read);
    const std::uint32_t* bits = draws.draw(random, first);
    round_at_random<isa>(w, bits, weights.values, block_size);
    t.m_scale[block] = encode_m<isa>(m, means.values);
    t.v_scale[block] = encode_v<isa>(v, bits, squares.values);
    weights.store(t.w + first, n);
    means.store(t.m + first, n);
    squares.store(t.v + first, n);
  }
}

template <Isa isa>
void round_int8(const Int8Tensor& t, std::int64_t first_block, std::int64_t last_block) {
  const RandomBits<isa> random(t.seed, t.stream);
  BlockDraws<isa> draws;
  for (std::int64_t block = first_block; block < last_block; ++block) {
    const std::int64_t column = block % t.blocks * block_size;
    const std::int64_t first = block / t.blocks * t.row + column;
    const std::int64_t n = t.row - column < block_size ? t.row - column : block_size;
    Padded<isa, float> x(t.g + first, n);
    const float scale = encode_int8<isa>(x.values, draws.draw(random, first));
    if (t.codes != nullptr) {
      for (std::int64_t i = 0; i < n; ++i)
        t.codes[first + i] = static_cast<std::int8_t>(static_cast<std::int32_t>(x.values[i]));
      t.scales[block] = scale;
    }
    scale_block<isa>(x.values, scale);
    x.store(t.g + first, n);
  }
}

template <Isa isa>
void restore_int8(const Int8Tensor& t, std::int64_t first_block, std::int64_t last_block) {
  for (std::int64_t block = first_block; block < last_block; ++block) {
    const std::int64_t column = block % t.blocks * block_size;
    const std::int64_t first = block / t.blocks * t.row + column;
    const std::int64_t n = t.row - column < block_size ? t.row - column : block_size;
    const float scale = t.scales[block];
    for (std::int64_t i = 0; i < n; ++i)
      t.g[first + i] = static_cast<float>(static_cast<std::int32_t>(t.codes[first + i])) * scale;
  }
}

}  // namespace kernel
}  // namespace sluice
