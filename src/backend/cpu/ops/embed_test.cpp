// What Embed and EmbedGrad promise beyond closeness to their loops (op_cases_test).
#include <gtest/gtest.h>

#include "backend/cpu/ops/test_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, V = Axis::vocab;

TEST(CpuEmbed, RefusesAnIdOutsideTheTable) {
  for (const double id : {-1.0, 50.0}) {
    RandomFrame f(1);
    const Id ids = f.integers({{B, 2}, {T, 9}}, 0, 49);
    const Id table = f.random({{V, 50}, {D, 8}});
    const Id y = f.random({{B, 2}, {T, 9}, {D, 8}});
    f[ids].numbers[13] = id;
    const Op ops[] = {Embed{.ids = ids, .table = table, .y = y},
                      EmbedGrad{.ids = ids, .dy = y, .dtable = table}};
    for (const Op& op : ops) {
      CpuBackend cpu({.threads = 2, .isa = best_isa()});
      TestFrame frame(OpCase{"", op, f.values()});
      try {
        cpu.run(op, frame.frame());
        FAIL() << name_of(op);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::input);
        EXPECT_NE(error.text().find(fmt::format("id {} is outside an embedding table of 50 rows",
                                                static_cast<int>(id))),
                  std::string::npos);
        EXPECT_NE(error.text().find("token 13"), std::string::npos);
      }
      EXPECT_TRUE(frame.guards_hold());
    }
  }
}

// A row that many tokens name: the order of its sum must not depend on the threads.
TEST(CpuEmbed, ARowNamedByAllTokensHasOneSum) {
  RandomFrame f(2);
  const Id ids = f.integers({{B, 4}, {T, 300}}, 7, 7);
  const Id dy = f.random({{B, 4}, {T, 300}, {D, 200}});
  const Id dtable = f.poisoned({{V, 1000}, {D, 200}});
  const EmbedGrad op{.ids = ids, .dy = dy, .dtable = dtable};
  std::vector<std::string> bits;
  for (const int threads : {1, 2, 3}) {
    CpuBackend cpu({.threads = threads, .isa = best_isa()});
    TestFrame frame(OpCase{"", op, f.values()});
    cpu.run(op, frame.frame());
    bits.push_back(frame.bytes(dtable));
  }
  EXPECT_EQ(bits[0], bits[1]);
  EXPECT_EQ(bits[0], bits[2]);
  // Another order gives other bits: the first and the last token's rows change places.
  auto& rows = f[dy].numbers;
  std::swap_ranges(rows.begin(), rows.begin() + 200, rows.end() - 200);
  CpuBackend cpu({.threads = 1, .isa = best_isa()});
  TestFrame frame(OpCase{"", op, f.values()});
  cpu.run(op, frame.frame());
  EXPECT_NE(bits[0], frame.bytes(dtable));
}

}  // namespace
}  // namespace sluice
