// What the closeness of op_cases_test.cpp does not show: an update that is not to be applied, state
// that fades away, numbers that are not finite.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "backend/cpu/ops/test_frame.h"

namespace sluice {
namespace {

constexpr Axis D = Axis::model, F = Axis::hidden, S = Axis::scalar;
constexpr double infinity = std::numeric_limits<double>::infinity();

struct Update {
  RandomFrame f{1};
  Id w, g, m, v, pending;
  AdamW op;
  explicit Update(std::vector<double> values) {
    const Shape shape{{D, 37}, {F, 51}};
    w = f.random(shape);
    g = f.random(shape);
    m = f.random(shape, 0.1);
    v = f.random(shape, 0.01, 0.1);
    pending = f.numbers({{S, Pending::slots}}, DType::f64, std::move(values));
    op = {.w = w, .g = g, .m = m, .v = v, .pending = pending, .part = {}};
  }
};

TEST(AdamW, NothingIsTouchedWhenNotApplied) {
  for (const double apply : {0.0, 1.0}) {
    // A dropped step's numbers may be anything.
    Update u({1e-3, 7, apply == 0 ? NAN : 1.0, apply});
    for (double& x : u.f[u.g].numbers) x = apply == 0 ? infinity : x;
    const OpCase one{"adamw", u.op, u.f.values()};
    for (const Isa isa : available_isas()) {
      CpuBackend cpu({.threads = 2, .isa = isa});
      TestFrame before(one);
      TestFrame result(one);
      cpu.run(one.op, result.frame());
      EXPECT_EQ(same_bits(one, before, result), apply == 0) << name_of(isa);
    }
  }
}

// A row that never sees a gradient again ends at zero, not among the denormal numbers.
TEST(AdamW, StateFadesToZero) {
  Update u({1e-3, 5, 1, 1});
  for (double& x : u.f[u.g].numbers) x = 0;
  for (double& x : u.f[u.m].numbers) x = 1.2e-38;
  for (double& x : u.f[u.v].numbers) x = 1.2e-38;
  const OpCase one{"adamw", u.op, u.f.values()};
  for (const Isa isa : available_isas()) {
    CpuBackend cpu({.threads = 1, .isa = isa});
    TestFrame result(one);
    cpu.run(one.op, result.frame());
    for (const Id id : {u.m, u.v}) {
      for (const double x : result.numbers(id)) EXPECT_EQ(x, 0);
    }
    EXPECT_EQ(result.numbers(u.w), u.f[u.w].numbers);  // no gradient, no decay: no change
  }
}

TEST(SquaredNorm, NotFiniteStaysNotFinite) {
  for (const double bad : {static_cast<double>(NAN), infinity, 1e30, 1.0}) {
    RandomFrame f(1);
    const Id x = f.random({{D, 70000}});
    const Id norms = f.random({{S, 3}}, 1, 0, DType::f64);
    f[x].numbers[68000] = bad;
    const OpCase one{"squared_norm", SquaredNorm{.x = x, .norms = norms, .index = 2}, f.values()};
    for (const Isa isa : available_isas()) {
      CpuBackend cpu({.threads = 2, .isa = isa});
      TestFrame result(one);
      cpu.run(one.op, result.frame());
      const std::vector<double> got = result.numbers(norms);
      EXPECT_EQ(std::isfinite(got[2]), std::isfinite(bad));  // 1e30 squared is finite in double
      EXPECT_EQ(got[1], f[norms].numbers[1]);
    }
  }
}

// One bad number anywhere: apply and finite are 0, and the results say so in the step's own row.
TEST(FinishStep, NotFiniteIsNotApplied) {
  const std::vector<std::vector<double>> stats = {{2, 4}, {NAN, 4}, {2, 4}, {2, 0}, {infinity, 4}};
  const std::vector<double> norms = {1, 1, infinity, 1, 1};
  CpuBackend cpu({.threads = 1, .isa = Isa::portable});
  for (std::size_t i = 0; i < stats.size(); ++i) {
    RandomFrame f(1);
    const Id stat = f.numbers({{S, 2}}, DType::f64, stats[i]);
    const Id norm = f.numbers({{S, 2}}, DType::f64, {3, norms[i]});
    const Id control = f.numbers({{S, Control::slots}}, DType::f64, {1e-3, 5, 0});
    const Id pending = f.poisoned({{S, Pending::slots}}, DType::f64);
    const Id results = f.random({{S, 2 * Results::slots}}, 1, 0, DType::f64);
    const FinishStep op{.stats = stat,
                        .norms = norm,
                        .control = control,
                        .pending = pending,
                        .results = results,
                        .clip = 1};
    TestFrame result(OpCase{"finish", op, f.values()});
    cpu.run(op, result.frame());
    const std::vector<double> update = result.numbers(pending);
    const std::vector<double> rows = result.numbers(results);
    EXPECT_EQ(update[Pending::apply], i == 0 ? 1 : 0) << i;
    EXPECT_EQ(rows[Results::slots + Results::finite], i == 0 ? 1 : 0) << i;
    EXPECT_EQ(rows[Results::slots + Results::step], 5);
    EXPECT_EQ(rows[Results::slots + Results::bad], i == 2 ? 1 : -1) << i;
    EXPECT_EQ(rows[Results::loss],
              f[results].numbers[Results::loss]);  // the other row is as it was
  }
}

}  // namespace
}  // namespace sluice
