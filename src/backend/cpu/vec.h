// Sixteen floats at a time, for kernels: one wrapper, three instruction sets, the same lane order.
//
// A kernel is a template over `Isa` in `x_kernel.h` that uses Vec<isa>; x_avx512.cpp, x_avx2.cpp
// and x_portable.cpp instantiate it, compiled with that set's flags. Vec<Isa::avx2> exists only in
// files compiled with AVX2, Vec<Isa::avx512> only in those with AVX-512, Vec<Isa::portable>
// everywhere (do not use it in the other two). Everything here is tagged by the instruction set, so
// the linker can never hand AVX-512 code to another file; kernels must do likewise and must not
// call inline functions of the standard library or of other headers.
//
// Vec<isa> has: static load(p), load(p, n), zero(), set(x), iota() = 0 … 15; store(p), store(p, n),
// p being float* or bf16* (stores round to nearest even; the bits are those of struct bf16);
// + - * / and fma(a, b, c) = a * b + c (fused, but for the portable one: two roundings);
// max(a, b) = a > b ? a : b and min(a, b) = a < b ? a : b (b when either is NaN); sqrt, abs;
// copy_sign(size, sign); a < b and a <= b give a Mask, & joins two, select(mask, yes, no);
// swap_pairs: lanes 1, 0, 3, 2 …; pow2(n) = 2ⁿ for whole n in [-126, 127]; reduce_add and
// reduce_max, both in one order: lane i with lane i + 8, then i + 4, i + 2, i + 1. load(p, n) and
// store(p, n) touch the first n < 16 numbers alone; the other lanes of such a load are 0. No
// alignment is needed.
#pragma once

#include "backend/cpu/vec_avx2.h"
#include "backend/cpu/vec_avx512.h"
#include "backend/cpu/vec_portable.h"

namespace sluice {

// eˣ within 1 ulp or so. Below -87.33 (the result would be denormal) it is 0, so exp(-inf) = 0;
// above 88.72 it is inf; NaN stays.
template <Isa isa>
inline Vec<isa> exp(Vec<isa> x) {
  using V = Vec<isa>;
  const V lowest = V::set(-87.33654f), highest = V::set(88.72283f);
  const V y = min(highest, max(lowest, x));  // a NaN passes through both
  // n = y / ln 2 to the nearest whole number, by pushing the fraction out of the significand.
  const V magic = V::set(12582912.0f);
  const V n = fma(y, V::set(1.44269504f), magic) - magic;
  // r = y - n ln 2, with ln 2 in two pieces, the first so short that n times it is exact.
  V r = fma(n, V::set(-0.693359375f), y);
  r = fma(n, V::set(2.12194440e-4f), r);
  V p = V::set(1.392625039e-3f);  // (eʳ - 1 - r) / r² on |r| <= ln 2 / 2, Chebyshev, error 7e-8
  p = fma(p, r, V::set(8.363232948e-3f));
  p = fma(p, r, V::set(4.166655242e-2f));
  p = fma(p, r, V::set(1.666657627e-1f));
  p = fma(p, r, V::set(0.5f));
  p = fma(p, r * r, r) + V::set(1.0f);
  // In two factors: n reaches 128 where eˣ still is a number.
  const V half = fma(n, V::set(0.5f), magic) - magic;
  const V result = p * pow2(half) * pow2(n - half);
  const V bounded = select(highest < x, V::set(__builtin_inff()), result);
  return select(x < lowest, V::zero(), bounded);
}

// tanh x within 2 ulp: a polynomial below 0.625, 1 - 2 / (e²ˣ + 1) above. Odd; ±1 far out.
template <Isa isa>
inline Vec<isa> tanh(Vec<isa> x) {
  using V = Vec<isa>;
  const V size = abs(x), s = x * x;
  V p = V::set(-6.096714176e-3f);  // (tanh x / x - 1) / x² on x² <= 0.39, Chebyshev, error 4e-8
  p = fma(p, s, V::set(2.099717967e-2f));
  p = fma(p, s, V::set(-5.385090783e-2f));
  p = fma(p, s, V::set(1.333276927e-1f));
  p = fma(p, s, V::set(-3.333332837e-1f));
  const V small = fma(p * s, x, x);
  const V e = exp(size + size);
  const V large = V::set(1.0f) - V::set(2.0f) / (e + V::set(1.0f));
  return select(size < V::set(0.625f), small, copy_sign(large, x));
}

// The error function within 2 ulp: an odd polynomial below 0.9277, 1 - e^q(|x|) above. Odd.
template <Isa isa>
inline Vec<isa> erf(Vec<isa> x) {
  using V = Vec<isa>;
  const V t = abs(x), s = x * x;
  V p = V::set(-5.967310863e-4f);  // erf x / x - 1 on x² <= 0.865, Chebyshev, error 2e-8
  p = fma(p, s, V::set(4.988905974e-3f));
  p = fma(p, s, V::set(-2.676399425e-2f));
  p = fma(p, s, V::set(1.128175408e-1f));
  p = fma(p, s, V::set(-3.761248887e-1f));
  p = fma(p, s, V::set(1.283791512e-1f));
  const V small = fma(p, x, x);
  // (log erfc t + t) / t on [0.92, 4], Chebyshev, error 4e-7; beyond 4, erf is 1 in float32.
  const V u = min(V::set(4.0f), t);
  V q = V::set(-1.653977961e-5f);
  q = fma(q, u, V::set(3.727074945e-4f));
  q = fma(q, u, V::set(-3.827122739e-3f));
  q = fma(q, u, V::set(2.410253510e-2f));
  q = fma(q, u, V::set(-1.065612882e-1f));
  q = fma(q, u, V::set(-6.350042820e-1f));
  q = fma(q, u, V::set(-1.286715865e-1f));
  const V large = V::set(1.0f) - exp(fma(q, u, V::zero() - u));
  return select(t < V::set(0.9277f), small, copy_sign(large, x));
}

}  // namespace sluice
