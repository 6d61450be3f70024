// Dropout over n neighbouring elements; y may lie where x does. Numbers are stored as T, float or
// bf16.
//
// Bytes per element: 8 in float32, 4 in bf16. Limit: the memory bandwidth, or the generator's two
// (AVX-512) or five (AVX2) instructions a number where the operands lie in a cache.
#pragma once

#include "backend/cpu/ops/lanes.h"
#include "backend/cpu/philox.h"

namespace sluice {

// Element e is kept, times `scale`, when random_bits(seed, stream, e) >= threshold.
struct DropoutMask {
  std::uint64_t seed, stream;
  std::uint32_t threshold;
  float scale;
};

struct DropoutKernels {
  // Elements `first` and on of the whole step's value.
  void (*f32)(const DropoutMask& mask, std::uint64_t first, const float* x, float* y,
              std::int64_t n);
  void (*b16)(const DropoutMask& mask, std::uint64_t first, const bf16* x, bf16* y, std::int64_t n);
  // RandomBits by themselves: what their test calls.
  void (*random_bits)(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, std::int64_t n,
                      std::uint32_t* out);

  auto of(const float*) const { return f32; }
  auto of(const bf16*) const { return b16; }
};

extern const DropoutKernels portable_dropout;
extern const DropoutKernels avx2_dropout;
extern const DropoutKernels avx512_dropout;

namespace kernel {

template <Isa isa, class T>
void dropout(const DropoutMask& mask, std::uint64_t first, const T* x, T* y, std::int64_t n) {
  using V = Vec<isa>;
  constexpr std::int64_t block = 512;  // elements whose random numbers stay in the first cache
  alignas(64) std::uint32_t bits[block + 32];
  const RandomBits<isa> random(mask.seed, mask.stream);
  const V scale = V::set(mask.scale);
  for (std::int64_t i = 0; i < n; i += block) {
    const std::int64_t count = n - i < block ? n - i : block;
    const std::uint64_t element = first + static_cast<std::uint64_t>(i);
    const auto skip = static_cast<std::int64_t>(element % 4);
    random.fill(element / 4 * 4, skip + (count + 15) / 16 * 16, bits);
    for_lanes<isa>(count, [&](std::int64_t j, auto lanes) {
      const auto kept = RandomBits<isa>::at_least(bits + skip + j, mask.threshold);
      lanes.store(y + i + j, select(kept, lanes.load(x + i + j) * scale, V::zero()));
    });
  }
}

template <Isa isa>
void random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, std::int64_t n,
                 std::uint32_t* out) {
  RandomBits<isa>(seed, stream).fill(first, n, out);
}

template <Isa isa>
constexpr DropoutKernels dropout_kernels() {
  return {.f32 = dropout<isa, float>, .b16 = dropout<isa, bf16>, .random_bits = random_bits<isa>};
}

}  // namespace kernel
}  // namespace sluice
