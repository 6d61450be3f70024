#include "data/numpy_shuffle.h"

#include <array>
#include <bit>
#include <numeric>
#include <utility>

namespace sluice {
namespace {

// numpy.random.SeedSequence(seed).generate_state(8): a pool of four words, stirred.
class SeedPool {
 public:
  explicit SeedPool(std::uint64_t seed) {
    const std::array<std::uint32_t, 4> words = {static_cast<std::uint32_t>(seed),
                                                static_cast<std::uint32_t>(seed >> 32), 0, 0};
    for (std::size_t i = 0; i < 4; ++i) pool_[i] = hashed(words[i]);
    for (std::size_t from = 0; from < 4; ++from)
      for (std::size_t to = 0; to < 4; ++to)
        if (from != to) pool_[to] = mixed(pool_[to], hashed(pool_[from]));
  }
  std::array<std::uint32_t, 8> words() const {
    std::array<std::uint32_t, 8> out = {};
    std::uint32_t factor = 0x8b51f9dd;
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::uint32_t value = pool_[i % 4] ^ factor;
      factor *= 0x58f38ded;
      value *= factor;
      out[i] = value ^ (value >> 16);
    }
    return out;
  }

 private:
  std::uint32_t hashed(std::uint32_t value) {
    value ^= factor_;
    factor_ *= 0x931e8875;
    value *= factor_;
    return value ^ (value >> 16);
  }
  static std::uint32_t mixed(std::uint32_t a, std::uint32_t b) {
    const std::uint32_t value = 0xca01f9dd * a - 0x4973f715 * b;
    return value ^ (value >> 16);
  }
  std::array<std::uint32_t, 4> pool_ = {};
  std::uint32_t factor_ = 0x43b0d7e5;
};

}  // namespace

Pcg64::Pcg64(std::uint64_t seed) {
  const std::array<std::uint32_t, 8> words = SeedPool(seed).words();
  const auto wide = [&](std::size_t at) {  // two 64-bit numbers, the upper one first
    const auto half = [&](std::size_t i) { return words[i] | Wide{words[i + 1]} << 32; };
    return half(at) << 64 | half(at + 2);
  };
  increment_ = wide(4) << 1 | 1;
  next64();
  state_ += wide(0);
  next64();
}

std::uint64_t Pcg64::next64() {
  constexpr Wide factor = Wide{2549297995355413924U} << 64 | 4865540595714422341U;
  state_ = state_ * factor + increment_;
  const auto folded = static_cast<std::uint64_t>(state_ >> 64) ^ static_cast<std::uint64_t>(state_);
  return std::rotr(folded, static_cast<int>(state_ >> 122));
}

std::uint32_t Pcg64::next32() {
  if (std::exchange(half_, false)) return upper_;
  const std::uint64_t both = next64();
  half_ = true;
  upper_ = static_cast<std::uint32_t>(both >> 32);
  return static_cast<std::uint32_t>(both);
}

std::uint64_t Pcg64::up_to(std::uint64_t most) {
  if (most == 0) return 0;
  const std::uint64_t mask = ~std::uint64_t{0} >> std::countl_zero(most);
  for (;;) {
    const std::uint64_t value = (mask >> 32 == 0 ? next32() : next64()) & mask;
    if (value <= most) return value;
  }
}

std::vector<std::uint32_t> numpy_permutation(std::int64_t n, std::uint64_t seed) {
  std::vector<std::uint32_t> out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), 0U);
  Pcg64 random(seed);
  for (std::size_t i = out.size(); i-- > 1;) std::swap(out[i], out[random.up_to(i)]);
  return out;
}

}  // namespace sluice
