// Loops of a kernel over n numbers, sixteen at a time with a masked rest. For files of one
// instruction set: everything is tagged by it (see vec.h).
#pragma once

#include <cstdint>

#include "backend/cpu/vec.h"

namespace sluice {

// How a body loads and stores: all sixteen lanes, or the first n of them.
template <Isa isa>
struct WholeLanes {
  using V = Vec<isa>;
  template <class T>  // float or bf16
  V load(const T* p) const {
    return V::load(p);
  }
  template <class T>
  void store(T* p, V v) const {
    v.store(p);
  }
  V keep(V v) const { return v; }
};
template <Isa isa>
struct FirstLanes {
  using V = Vec<isa>;
  std::int64_t n;
  template <class T>
  V load(const T* p) const {
    return V::load(p, n);
  }
  template <class T>
  void store(T* p, V v) const {
    v.store(p, n);
  }
  // v with its other lanes made 0.
  V keep(V v) const { return select(V::iota() < V::set(static_cast<float>(n)), v, V::zero()); }
};

// body(i, lanes) for i = 0, 16, 32 …
template <Isa isa, class Body>
inline void for_lanes(std::int64_t n, Body body) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) body(i, WholeLanes<isa>{});
  if (i < n) body(i, FirstLanes<isa>{n - i});
}

// The sum of term(i, lanes) over all lanes of n numbers, in one order for every instruction set:
// four running vectors, taken in turn, then (0 + 2) + (1 + 3), then the lanes.
template <Isa isa, class Term>
inline float sum_lanes(std::int64_t n, Term term) {
  using V = Vec<isa>;
  V s0 = V::zero(), s1 = V::zero(), s2 = V::zero(), s3 = V::zero();
  const WholeLanes<isa> all;
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    s0 = s0 + term(i, all);
    s1 = s1 + term(i + 16, all);
    s2 = s2 + term(i + 32, all);
    s3 = s3 + term(i + 48, all);
  }
  for (; i + 16 <= n; i += 16) s0 = s0 + term(i, all);
  if (i < n) {
    const FirstLanes<isa> rest{n - i};
    s1 = s1 + rest.keep(term(i, rest));
  }
  return reduce_add((s0 + s2) + (s1 + s3));
}

}  // namespace sluice
