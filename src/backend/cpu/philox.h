// The counter-based random numbers of core/random.h for kernels: the same numbers, many at a time.
//
// For files of one instruction set, like Vec (see vec.h). Philox 4x32-10 draws four neighbours per
// block; here a block lies across four vectors of 64-bit lanes, so that a round is two multiplies,
// two shifts and two three-way xors for eight blocks (AVX-512) or four (AVX2): about two, and five,
// instructions a number. The upper halves of lanes hold rubbish that no multiply looks at.
//
// RandomBits<isa>(seed, stream) has
//   fill(first, n, out): out[i] = random_bits(seed, stream, first + i). REQUIRES: first is a
//     multiple of 4; out has room for n rounded up to 32, which may all be written.
//   at_least(bits, threshold): which of 16 such numbers are >= threshold, as a Mask of Vec<isa>.
#pragma once

#include "backend/cpu/vec.h"

namespace sluice {

// What one instruction set brings: Word = 64-bit lanes, one block each, and
//   blocks(first) = first, first + 1 …;  times(x, m) = the low half of x by m;
//   mix(p, c, k) = (p >> 32) ^ c ^ k;  write(c0, c1, c2, c3, out): 4 x lanes numbers, in order.
template <Isa isa>
struct PhiloxLanes;

template <>
struct PhiloxLanes<Isa::portable> {
  using Word = std::uint64_t;
  static constexpr int lanes = 1;
  static Word blocks(std::uint64_t first) { return first; }
  static Word set(std::uint64_t x) { return x; }
  static Word upper(Word x) { return x >> 32; }
  static Word times(Word x, std::uint32_t m) { return (x & 0xffffffffu) * m; }
  static Word mix(Word p, Word c, std::uint64_t k) { return (p >> 32) ^ c ^ k; }
  static void write(Word c0, Word c1, Word c2, Word c3, std::uint32_t* out) {
    out[0] = static_cast<std::uint32_t>(c0);
    out[1] = static_cast<std::uint32_t>(c1);
    out[2] = static_cast<std::uint32_t>(c2);
    out[3] = static_cast<std::uint32_t>(c3);
  }
  static Vec<Isa::portable>::Mask at_least(const std::uint32_t* bits, std::uint32_t threshold) {
    Vec<Isa::portable>::Mask r;
    for (int i = 0; i < 16; ++i) r.m[i / 4][i % 4] = bits[i] >= threshold ? -1 : 0;
    return r;
  }
};

#if defined(__AVX2__) && defined(__FMA__)
template <>
struct PhiloxLanes<Isa::avx2> {
  using Word = __m256i;
  static constexpr int lanes = 4;
  static Word blocks(std::uint64_t first) {
    return _mm256_add_epi64(set(first), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  static Word set(std::uint64_t x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }
  static Word upper(Word x) { return _mm256_srli_epi64(x, 32); }
  static Word times(Word x, std::uint32_t m) { return _mm256_mul_epu32(x, set(m)); }
  static Word mix(Word p, Word c, std::uint64_t k) {
    return _mm256_xor_si256(_mm256_xor_si256(upper(p), c), set(k));
  }
  static void write(Word c0, Word c1, Word c2, Word c3, std::uint32_t* out) {
    const Word c01 = _mm256_blend_epi32(c0, _mm256_slli_epi64(c1, 32), 0xaa);
    const Word c23 = _mm256_blend_epi32(c2, _mm256_slli_epi64(c3, 32), 0xaa);
    const Word even = _mm256_unpacklo_epi64(c01, c23);  // blocks 0 and 2
    const Word odd = _mm256_unpackhi_epi64(c01, c23);
    _mm256_storeu_si256(reinterpret_cast<Word*>(out), _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256(reinterpret_cast<Word*>(out) + 1,
                        _mm256_permute2x128_si256(even, odd, 0x31));
  }
  static Vec<Isa::avx2>::Mask at_least(const std::uint32_t* bits, std::uint32_t threshold) {
    return {eight(bits, threshold), eight(bits + 8, threshold)};
  }

 private:
  static __m256 eight(const std::uint32_t* bits, std::uint32_t threshold) {
    const Word x = _mm256_loadu_si256(reinterpret_cast<const Word*>(bits));
    const Word t = _mm256_set1_epi32(static_cast<int>(threshold));
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(x, t), x));
  }
};
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__)
template <>
struct PhiloxLanes<Isa::avx512> {
  using Word = __m512i;
  static constexpr int lanes = 8;
  // The maskz forms: g++ 12 warns of the plain ones' undefined pass-through operand.
  static Word blocks(std::uint64_t first) {
    return _mm512_add_epi64(set(first), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Word set(std::uint64_t x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
  static Word upper(Word x) { return _mm512_maskz_srli_epi64(0xff, x, 32); }
  static Word times(Word x, std::uint32_t m) { return _mm512_maskz_mul_epu32(0xff, x, set(m)); }
  static Word mix(Word p, Word c, std::uint64_t k) {
    return _mm512_ternarylogic_epi64(upper(p), c, set(k), 0x96);
  }
  static void write(Word c0, Word c1, Word c2, Word c3, std::uint32_t* out) {
    const Word c01 = _mm512_mask_shuffle_epi32(c0, 0xaaaa, c1, _MM_PERM_CCAA);
    const Word c23 = _mm512_mask_shuffle_epi32(c2, 0xaaaa, c3, _MM_PERM_CCAA);
    const Word first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    const Word second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi64(c01, first, c23));
    _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi64(c01, second, c23));
  }
  static Vec<Isa::avx512>::Mask at_least(const std::uint32_t* bits, std::uint32_t threshold) {
    const Word t = _mm512_set1_epi32(static_cast<int>(threshold));
    return {_mm512_cmpge_epu32_mask(_mm512_loadu_si512(bits), t)};
  }
};
#endif

template <Isa isa>
class RandomBits {
  using P = PhiloxLanes<isa>;
  using Word = typename P::Word;

 public:
  RandomBits(std::uint64_t seed, std::uint64_t stream) : stream_(stream) {
    auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int i = 0; i < rounds; ++i, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      key_[i][0] = k0;
      key_[i][1] = k1;
    }
  }

  void fill(std::uint64_t first, std::int64_t n, std::uint32_t* out) const {
    for (std::uint64_t block = first / 4; n > 0; n -= 4 * P::lanes) {
      draw(block, out);
      block += P::lanes;
      out += 4 * P::lanes;
    }
  }

  static typename Vec<isa>::Mask at_least(const std::uint32_t* bits, std::uint32_t threshold) {
    return P::at_least(bits, threshold);
  }

 private:
  static constexpr int rounds = 10;

  void draw(std::uint64_t block, std::uint32_t* out) const {
    Word c0 = P::blocks(block), c1 = P::upper(c0);
    Word c2 = P::set(stream_), c3 = P::set(stream_ >> 32);
#pragma GCC unroll 10
    for (int i = 0; i < rounds; ++i) {
      const Word a = P::times(c0, 0xD2511F53u), b = P::times(c2, 0xCD9E8D57u);
      c0 = P::mix(b, c1, key_[i][0]);
      c1 = b;
      c2 = P::mix(a, c3, key_[i][1]);
      c3 = a;
    }
    P::write(c0, c1, c2, c3, out);
  }

  std::uint64_t stream_;
  std::uint64_t key_[rounds][2];  // of each round, 32 bits in 64: as the lanes are
};

}  // namespace sluice
