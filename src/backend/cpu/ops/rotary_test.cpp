// What Rotary promises beyond closeness to its loop (op_cases_test).
#include <gtest/gtest.h>

#include "backend/cpu/ops/test_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, N = Axis::heads, H = Axis::head;

TEST(CpuRotary, InverseTurnsBackFarOut) {
  RandomFrame f(1);
  const Shape shape{{B, 2}, {T, 33}, {N, 3}, {H, 40}};
  const Id x = f.random(shape);
  const Id positions = f.integers({{B, 2}, {T, 33}}, 0, 2000000);
  const Id y = f.poisoned(shape);
  const Rotary turn{.x = x, .positions = positions, .y = y, .dims = 32};
  RandomFrame expected = f;
  expected.run(turn);
  CpuBackend cpu({.threads = 3, .isa = best_isa()});
  TestFrame there(OpCase{"", turn, f.values()});
  cpu.run(turn, there.frame());
  // Angles of millions of radians stay exact to a float's last place.
  EXPECT_LT(relative_error(there.numbers(y), expected[y].numbers), 2e-7);
  EXPECT_GT(relative_error(there.numbers(y), f[x].numbers), 0.1);
  RandomFrame g = f;
  g[x].numbers = there.numbers(y);
  Rotary back = turn;
  back.inverse = true;
  TestFrame home(OpCase{"", back, g.values()});
  cpu.run(back, home.frame());
  EXPECT_LT(relative_error(home.numbers(y), f[x].numbers), 2e-7);
  EXPECT_TRUE(there.guards_hold() && home.guards_hold());
}

}  // namespace
}  // namespace sluice
