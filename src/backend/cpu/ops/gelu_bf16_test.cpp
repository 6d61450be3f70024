// GELU of bf16 against the C library in double, over all 65,536 numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

using Kernels = StreamKernels<bf16>;
using Exact = double (*)(double);

// The formulas without a sum that would lose the tail.
double gate(double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }
double exact(double x) { return x * gate(x); }
double exact_slope(double x) {
  return gate(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
}
double twice_u(double x) {
  return 2 * std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
}
double tanh_gate(double x) { return 1 / (1 + std::exp(-twice_u(x))); }
double tanh(double x) { return x * tanh_gate(x); }
double tanh_slope(double x) {
  if (std::abs(x) > 100) return x > 0;
  const double slope_of_2u = 2 * std::sqrt(2 / std::numbers::pi) * (1 + 3 * 0.044715 * x * x);
  return tanh_gate(x) * (1 + x * tanh_gate(-x) * slope_of_2u);
}

// The bf16 numbers in ascending order, 0 being 0.
int place_of(bf16 x) { return x.bits & 0x8000 ? -(x.bits & 0x7fff) : x.bits; }
double at_place(int place) {
  bf16 x;
  x.bits = static_cast<std::uint16_t>(place < 0 ? 0x8000 - place : place);
  return static_cast<float>(x);
}

// The least relative error before rounding that makes `got` of `want`: 0 if it is the nearest. What
// is below 1e-36, times a dy below 2, may become 0.
double error_before_rounding(bf16 got, double want) {
  const int place = place_of(got);
  const double value = at_place(place);
  if (std::abs(want) < 2e-36 && std::abs(value) < 2e-36) return 0;
  const double middle = (value + at_place(value < want ? place + 1 : place - 1)) / 2;
  const double beyond = value < want ? want - middle : middle - want;
  return std::max(beyond, 0.0) / std::abs(want);
}

std::vector<bf16> numbers(bool finite) {
  std::vector<bf16> result;
  for (int bits = 0; bits < 65536; ++bits) {
    bf16 x;
    x.bits = static_cast<std::uint16_t>(bits);
    if (std::isfinite(static_cast<float>(x)) == finite) result.push_back(x);
  }
  return result;
}

struct Worst {
  double near = 0, far = 0;  // |x| <= 4 and beyond
};

// The largest error over all finite x; of a slope over several dy, which show more of it.
template <class Run>
Worst worst_error(const std::vector<double>& factors, Exact want, Run run) {
  const std::vector<bf16> x = numbers(true);
  Worst worst;
  for (const double factor : factors) {
    const std::vector<bf16> dy(x.size(), bf16(static_cast<float>(factor)));
    std::vector<bf16> y(x.size());
    run(x.data(), dy.data(), y.data(), static_cast<std::int64_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double number = static_cast<float>(x[i]);
      EXPECT_FALSE(std::isnan(static_cast<float>(y[i]))) << number;
      const double error = error_before_rounding(y[i], factor * want(number));
      double& bin = std::abs(number) <= 4 ? worst.near : worst.far;
      bin = std::max(bin, error);
    }
  }
  return worst;
}

Worst worst_gelu(void (*gelu)(const bf16*, bf16*, std::int64_t), Exact want) {
  return worst_error({1}, want,
                     [=](const bf16* x, const bf16*, bf16* y, std::int64_t n) { gelu(x, y, n); });
}
Worst worst_slope(void (*grad)(const bf16*, const bf16*, bf16*, std::int64_t), Exact want) {
  std::vector<double> factors;
  for (int i = 0; i < 16; ++i) factors.push_back(1 + i / 16.0);
  return worst_error(factors, want, grad);
}

// Those whose bf16 kernels are these.
std::vector<Isa> isas() {
  std::vector<Isa> result;
  for (const Isa isa : available_isas())
    if (vector_isa(isa) == Isa::avx512) result.push_back(isa);
  return result;
}
const Kernels& kernels(Isa isa) {
  return kernels_of(isa, portable_elementwise, avx2_elementwise, avx512_elementwise).b16;
}

TEST(GeluBf16, SmallRelativeErrorOfEveryNumber) {
  for (const Isa isa : isas()) {
    SCOPED_TRACE(name_of(isa));
    const Kernels& k = kernels(isa);
    const auto within = [](Worst worst, double near, double far) {
      EXPECT_LT(worst.near, near);
      EXPECT_LT(worst.far, far);
    };
    within(worst_gelu(k.gelu_exact, exact), 1.4e-5, 8e-5);
    within(worst_gelu(k.gelu_tanh, tanh), 4e-6, 7e-6);
    within(worst_slope(k.gelu_exact_grad, exact_slope), 1.2e-5, 2.3e-4);
    within(worst_slope(k.gelu_tanh_grad, tanh_slope), 6e-5, 7e-6);
  }
}

// The measure sees the other form, a factor of 1.0001, and a tail that is right in absolute terms
// alone.
TEST(GeluBf16, TheMeasureSeesSmallErrors) {
  for (const Isa isa : isas()) {
    const Kernels& k = kernels(isa);
    EXPECT_GT(worst_gelu(k.gelu_exact, tanh).near, 1e-3);
    EXPECT_GT(worst_slope(k.gelu_tanh_grad, exact_slope).near, 1e-3);
    const auto scaled = worst_gelu(k.gelu_exact, [](double x) { return 1.0001 * exact(x); });
    EXPECT_GT(scaled.near, 5e-5);
    const auto cut = worst_gelu(k.gelu_exact, [](double x) { return exact(x) - 1e-20; });
    EXPECT_GT(cut.far, 0.5);
  }
}

TEST(GeluBf16, NanStaysAndInfinitiesFollowTheFormulas) {
  const std::vector<bf16> x = numbers(false), dy(x.size(), bf16(1.0f));
  const std::vector<bf16> ones(x.size(), bf16(1.0f));
  const auto n = static_cast<std::int64_t>(x.size());
  for (const Isa isa : isas()) {
    const Kernels& k = kernels(isa);
    std::vector<bf16> y(x.size());
    for (const auto gelu : {k.gelu_exact, k.gelu_tanh}) {
      gelu(x.data(), y.data(), n);
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (x[i].bits == 0x7f80) {
          EXPECT_EQ(y[i].bits, 0x7f80);  // +inf
        } else {
          EXPECT_TRUE(std::isnan(static_cast<float>(y[i]))) << x[i].bits;
        }
      }
    }
    for (const auto grad : {k.gelu_exact_grad, k.gelu_tanh_grad}) {
      grad(x.data(), ones.data(), y.data(), n);
      for (const bf16 one : y) EXPECT_TRUE(std::isnan(static_cast<float>(one)));
      grad(ones.data(), x.data(), y.data(), n);  // the slope at 1 is above 1
      for (std::size_t i = 0; i < x.size(); ++i) {
        const float from = static_cast<float>(x[i]), to = static_cast<float>(y[i]);
        EXPECT_TRUE(std::isnan(from) ? std::isnan(to) : from == to) << x[i].bits;
      }
    }
  }
}

// Any float32, NaN with payloads included: h and dy become what bf16() makes of them, and the rest
// has the bits of the kernels for bf16. Of two NaN factors it is the compiler's choice which one's
// sign and payload a product has: there any NaN will do.
TEST(GeluBf16, RoundedFirst) {
  std::vector<float> x;
  std::vector<bf16> h;
  for (std::uint64_t bits = 0; bits < 1ull << 32; bits += 32749 * 13) {
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits) | 0x7f800000u));
  }
  for (const float one : x) h.push_back(bf16(one));
  const auto same = [](const std::vector<bf16>& a, const std::vector<bf16>& b) {
    return std::ranges::equal(a, b, [](bf16 one, bf16 other) {
      const bool both_nan =
          std::isnan(static_cast<float>(one)) && std::isnan(static_cast<float>(other));
      return one.bits == other.bits || both_nan;
    });
  };
  const auto same_bits = [](const std::vector<bf16>& a, const std::vector<bf16>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(bf16)) == 0;
  };
  const auto n = static_cast<std::int64_t>(x.size());
  const ProductPart part = {.from = x.data(), .from_ld = n, .ld = n, .rows = 1, .columns = n};
  for (const Isa isa : available_isas()) {
    const RoundedGelu& rounded =
        kernels_of(isa, portable_elementwise, avx2_elementwise, avx512_elementwise).rounded_gelu;
    const Kernels& k = kernels(isa);
    std::vector<bf16> got_h(x.size()), got(x.size()), want(x.size());
    const auto check = [&](auto first, auto after) {
      first(part, got_h.data(), got.data());
      after(h.data(), want.data(), n);
      EXPECT_TRUE(same_bits(got_h, h)) << name_of(isa);
      EXPECT_TRUE(same(got, want)) << name_of(isa);
    };
    const auto check_grad = [&](auto first, auto after) {
      const std::vector<bf16> at(x.size(), bf16(-0.3f));
      first(part, at.data(), got.data());
      after(at.data(), h.data(), want.data(), n);
      EXPECT_TRUE(same(got, want)) << name_of(isa);
    };
    check(rounded.exact, k.gelu_exact);
    check(rounded.tanh, k.gelu_tanh);
    check_grad(rounded.exact_grad, k.gelu_exact_grad);
    check_grad(rounded.tanh_grad, k.gelu_tanh_grad);
    rounded.exact(part, got_h.data(), got.data());  // the other form is seen
    k.gelu_tanh(h.data(), want.data(), n);
    EXPECT_FALSE(same(got, want)) << name_of(isa);
  }
}

// A part of several rows is its rows, one by one, and no number beside it is touched.
TEST(GeluBf16, PartsAreTheirRows) {
  constexpr std::int64_t from_ld = 80, ld = 100;
  std::vector<float> from(10 * from_ld);
  std::vector<bf16> x(10 * ld);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = 0.01f * static_cast<float>(i % 700) - 3;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = bf16(2 - 0.01f * static_cast<float>(i % 500));
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(name_of(isa));
    const RoundedGelu& gelu =
        kernels_of(isa, portable_elementwise, avx2_elementwise, avx512_elementwise).rounded_gelu;
    for (const std::int64_t rows : {1, 2, 3, 4, 7}) {
      for (const std::int64_t columns : {1, 31, 32, 47, 64, 77}) {
        const bf16 untouched(7.0f);
        std::vector<bf16> h(10 * ld, untouched), y = h, dx = h, h1 = h, y1 = h, dx1 = h;
        const ProductPart part = {from.data(), from_ld, ld, rows, columns};
        gelu.exact(part, h.data(), y.data());
        gelu.exact_grad(part, x.data(), dx.data());
        for (std::int64_t i = 0; i < rows; ++i) {
          const ProductPart row = {from.data() + i * from_ld, 0, 0, 1, columns};
          gelu.exact(row, h1.data() + i * ld, y1.data() + i * ld);
          gelu.exact_grad(row, x.data() + i * ld, dx1.data() + i * ld);
        }
        const auto bytes = h.size() * sizeof(bf16);
        EXPECT_EQ(std::memcmp(h.data(), h1.data(), bytes), 0) << rows << " x " << columns;
        EXPECT_EQ(std::memcmp(y.data(), y1.data(), bytes), 0) << rows << " x " << columns;
        EXPECT_EQ(std::memcmp(dx.data(), dx1.data(), bytes), 0) << rows << " x " << columns;
        EXPECT_EQ(h[static_cast<std::size_t>(columns)].bits, untouched.bits);
        EXPECT_NE(dx[0].bits, untouched.bits);
        y1[0] = untouched;
        EXPECT_NE(std::memcmp(y.data(), y1.data(), bytes), 0);
      }
    }
  }
}

// Each length touches its own numbers alone, a number's bits do not depend on its lane, and dx may
// lie where dy does.
TEST(GeluBf16, EveryRest) {
  std::vector<bf16> x, dy;
  for (int i = 0; i < 300; ++i) {
    x.push_back(bf16(0.03f * static_cast<float>(i) - 5));
    dy.push_back(bf16(2 - 0.01f * static_cast<float>(i)));
  }
  for (const Isa isa : isas()) {
    const Kernels& k = kernels(isa);
    std::vector<bf16> whole(300), whole_grad(300);
    k.gelu_exact(x.data(), whole.data(), 300);
    k.gelu_exact_grad(x.data(), dy.data(), whole_grad.data(), 300);
    for (std::int64_t n = 0; n <= 270; ++n) {
      std::vector<bf16> y(300, bf16(7.0f)), dx = dy;
      k.gelu_exact(x.data() + 3, y.data() + 1, n);
      k.gelu_exact_grad(x.data() + 3, dx.data() + 3, dx.data() + 3, n);
      for (std::int64_t i = 0; i < 297; ++i) {
        const auto at = static_cast<std::size_t>(i);
        EXPECT_EQ(y[at + 1].bits, i < n ? whole[at + 3].bits : bf16(7.0f).bits);
        EXPECT_EQ(dx[at + 3].bits, i < n ? whole_grad[at + 3].bits : dy[at + 3].bits);
      }
      EXPECT_EQ(y[0].bits, bf16(7.0f).bits);
      EXPECT_EQ(dx[2].bits, dy[2].bits);
    }
  }
}

}  // namespace
}  // namespace sluice
