// Products of attention's tiles: C[m, n] = or += A[m, depth] · B[depth, n], lanes along n.
//
// Neither operand is copied: A is read one number at a time where the graph left it (keys and
// values, in rows or transposed), B and C are matrices of 16-column panels. For one element the
// multiply-adds run in ascending depth, whatever the tile. Only files of one instruction set
// include this (see vec.h).
#pragma once

#include <cstdint>

#include "backend/cpu/vec.h"

namespace sluice {

// X(i, 16p + l) lies at data[i * step + p * panel + l]: rows of a matrix (panel = 16) or packed
// panels (step = 16).
template <class Number>
struct Panels {
  Number* data;
  std::int64_t step;
  std::int64_t panel;
};

// Register tiles: `rows` by `panels` sums, the lines of B and one number of A fit the registers.
template <Isa isa>
struct TileShape {
  static constexpr int rows = 2, panels = 1;
};
template <>
struct TileShape<Isa::avx2> {
  static constexpr int rows = 6, panels = 1;
};
template <>
struct TileShape<Isa::avx512> {
  static constexpr int rows = 6, panels = 4;
};

template <Isa isa, bool transposed>
struct TileProduct {
  using V = Vec<isa>;
  std::int64_t m, n, depth;
  const float* a;  // A(i, k) at a[i * lda + k], or transposed at a[k * lda + i]
  std::int64_t lda;
  Panels<const float> b;
  Panels<float> c;
  bool add;

  void run() const {
    const std::int64_t panels = (n + 15) / 16;
    constexpr int wide = TileShape<isa>::panels;
    std::int64_t p = 0;
    if constexpr (wide >= 4)
      for (; p + 4 <= panels; p += 4) columns<4>(p);
    if constexpr (wide >= 2)
      for (; p + 2 <= panels; p += 2) columns<2>(p);
    for (; p < panels; ++p) columns<1>(p);
  }

 private:
  template <int panels>
  void columns(std::int64_t p) const {
    constexpr int tall = TileShape<isa>::rows;
    std::int64_t i = 0;
    for (; i + tall <= m; i += tall) tile<tall, panels>(i, p);
    if constexpr (tall > 4)
      for (; i + 4 <= m; i += 4) tile<4, panels>(i, p);
    if constexpr (tall > 2)
      for (; i + 2 <= m; i += 2) tile<2, panels>(i, p);
    for (; i < m; ++i) tile<1, panels>(i, p);
  }

  template <int rows, int panels>
  void tile(std::int64_t i, std::int64_t p) const {
    V sum[rows][panels];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int q = 0; q < panels; ++q) sum[r][q] = V::zero();
    }
    const float* left = a + (transposed ? i : i * lda);
    const float* right = b.data + p * b.panel;
    for (std::int64_t k = 0; k < depth; ++k, right += b.step, left += transposed ? lda : 1) {
      V line[panels];
#pragma GCC unroll 4
      for (int q = 0; q < panels; ++q) line[q] = V::load(right + q * b.panel);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
        const V value = V::set(left[transposed ? r : r * lda]);
#pragma GCC unroll 4
        for (int q = 0; q < panels; ++q) sum[r][q] = fma(value, line[q], sum[r][q]);
      }
    }
    const std::int64_t last = n - (p + panels - 1) * 16;
    float* const out = c.data + i * c.step + p * c.panel;
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int q = 0; q < panels; ++q) {
        float* const to = out + r * c.step + q * c.panel;
        if (q + 1 < panels || last >= 16) {
          (add ? V::load(to) + sum[r][q] : sum[r][q]).store(to);
        } else {
          (add ? V::load(to, last) + sum[r][q] : sum[r][q]).store(to, last);
        }
      }
    }
  }
};

}  // namespace sluice
