// Vec<Isa::portable>: four vectors of four floats in the compiler's own vector type, which it maps
// to whatever the target has (SSE2 on x86-64, NEON on Arm). Contract in vec.h.
#pragma once

#include <cstdint>

#include "backend/cpu/isa.h"
#include "core/dtype.h"

namespace sluice {

template <Isa isa>
struct Vec;

template <>
struct Vec<Isa::portable> {
  using F = float __attribute__((vector_size(16)));
  using I = std::int32_t __attribute__((vector_size(16)));
  using U = std::uint32_t __attribute__((vector_size(16)));
  using Halves = std::uint16_t __attribute__((vector_size(8)));
  struct Mask {
    I m[4];
  };
  static constexpr int lanes = 16;
  F v[4];

  static Vec load(const float* p) {
    Vec r;
    __builtin_memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  static Vec load(const float* p, std::int64_t n) {
    Vec r = zero();
    __builtin_memcpy(r.v, p, static_cast<std::size_t>(n) * sizeof(float));
    return r;
  }
  static Vec set(float x) {
    const F f = {x, x, x, x};
    return {{f, f, f, f}};
  }
  static Vec zero() { return set(0.0f); }
  static Vec iota() { return {{F{0, 1, 2, 3}, F{4, 5, 6, 7}, F{8, 9, 10, 11}, F{12, 13, 14, 15}}}; }
  void store(float* p) const { __builtin_memcpy(p, v, sizeof(v)); }
  void store(float* p, std::int64_t n) const {
    __builtin_memcpy(p, v, static_cast<std::size_t>(n) * sizeof(float));
  }
  static Vec load(const bf16* p) { return load(p, 16); }
  static Vec load(const bf16* p, std::int64_t n) {
    Halves halves[4] = {};
    __builtin_memcpy(halves, p, static_cast<std::size_t>(n) * sizeof(bf16));
    Vec r;
    for (int i = 0; i < 4; ++i) r.v[i] = F(__builtin_convertvector(halves[i], U) << 16);
    return r;
  }
  void store(bf16* p) const { store(p, 16); }
  void store(bf16* p, std::int64_t n) const {
    Halves halves[4];
    for (int i = 0; i < 4; ++i) {
      const U u = U(v[i]);
      const U nearest = u + 0x7fffu + ((u >> 16) & 1u);
      const U nan = U(v[i] != v[i]);
      const U kept = (nearest & ~nan) | ((u | 0x400000u) & nan);
      halves[i] = __builtin_convertvector(kept >> 16, Halves);
    }
    __builtin_memcpy(static_cast<void*>(p), halves, static_cast<std::size_t>(n) * sizeof(bf16));
  }

  friend Vec operator+(Vec a, Vec b) {
    for (int i = 0; i < 4; ++i) a.v[i] += b.v[i];
    return a;
  }
  friend Vec operator-(Vec a, Vec b) {
    for (int i = 0; i < 4; ++i) a.v[i] -= b.v[i];
    return a;
  }
  friend Vec operator*(Vec a, Vec b) {
    for (int i = 0; i < 4; ++i) a.v[i] *= b.v[i];
    return a;
  }
  friend Vec operator/(Vec a, Vec b) {
    for (int i = 0; i < 4; ++i) a.v[i] /= b.v[i];
    return a;
  }
  friend Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
  friend Vec max(Vec a, Vec b) {
    for (int i = 0; i < 4; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
  }
  friend Vec min(Vec a, Vec b) {
    for (int i = 0; i < 4; ++i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
    return a;
  }
  friend Vec sqrt(Vec a) {
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j) a.v[i][j] = __builtin_sqrtf(a.v[i][j]);
    return a;
  }
  friend Vec abs(Vec a) {
    for (int i = 0; i < 4; ++i) a.v[i] = F(I(a.v[i]) & 0x7fffffff);
    return a;
  }
  friend Vec copy_sign(Vec size, Vec sign) {
    constexpr std::int32_t top = INT32_MIN;
    for (int i = 0; i < 4; ++i) size.v[i] = F((I(size.v[i]) & ~top) | (I(sign.v[i]) & top));
    return size;
  }
  friend Mask operator<(Vec a, Vec b) {
    Mask r;
    for (int i = 0; i < 4; ++i) r.m[i] = a.v[i] < b.v[i];
    return r;
  }
  friend Mask operator<=(Vec a, Vec b) {
    Mask r;
    for (int i = 0; i < 4; ++i) r.m[i] = a.v[i] <= b.v[i];
    return r;
  }
  friend Mask operator&(Mask a, Mask b) {
    for (int i = 0; i < 4; ++i) a.m[i] &= b.m[i];
    return a;
  }
  friend Vec select(Mask mask, Vec yes, Vec no) {
    for (int i = 0; i < 4; ++i) {
      yes.v[i] = F((I(yes.v[i]) & mask.m[i]) | (I(no.v[i]) & ~mask.m[i]));
    }
    return yes;
  }
  friend Vec swap_pairs(Vec a) {
    for (F& f : a.v) f = F{f[1], f[0], f[3], f[2]};
    return a;
  }
  friend Vec pow2(Vec n) {
    // The low bits of n + magic are n itself; moved to the exponent's place they scale by 2ⁿ.
    for (int i = 0; i < 4; ++i) n.v[i] = F((I(n.v[i] + 12582912.0f) + 127) << 23);
    return n;
  }
  friend float reduce_add(Vec a) {
    const F f = (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
    return (f[0] + f[2]) + (f[1] + f[3]);
  }
  friend float reduce_max(Vec a) {
    const Vec b = max(a, Vec{{a.v[2], a.v[3], a.v[2], a.v[3]}});
    const F f = b.v[0] > b.v[1] ? b.v[0] : b.v[1];
    const float even = f[0] > f[2] ? f[0] : f[2], odd = f[1] > f[3] ? f[1] : f[3];
    return even > odd ? even : odd;
  }
};

}  // namespace sluice
