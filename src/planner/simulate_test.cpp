// Timelines that were drawn by hand.
#include "planner/simulate.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace sluice {
namespace {

// A program of bare actions: the simulator looks at lanes, waits, marks and bytes alone.
struct Drawn {
  Program program;
  LaneCosts costs;

  int add(Lane lane, double seconds, std::vector<Wait> waits = {}, std::int64_t bytes = 0) {
    Action action;
    action.lane = lane;
    action.waits = std::move(waits);
    action.bytes = bytes;
    if (lane == Lane::compute) action.list = 0;
    program.actions.push_back(action);
    costs.seconds.push_back(seconds);
    return static_cast<int>(program.actions.size()) - 1;
  }
  Simulated run(int runs = 3) const {
    return simulate(program, costs, {.runs = runs, .spans = true});
  }
};

constexpr auto compute = static_cast<std::size_t>(Lane::compute);
constexpr auto in = static_cast<std::size_t>(Lane::in);
constexpr auto out = static_cast<std::size_t>(Lane::out);

//  in       |f0  |f1  |            two slots, each used by every other fetch
//  compute       |c0   |c1   |     fetches of the next step wait for their slot's last use
TEST(Simulate, FetchesHideBehindCompute) {
  Drawn d;
  d.program.marks = {-1, -1};
  const int f0 = d.add(Lane::in, 2, {{.mark = 0}}, 100);
  const int c0 = d.add(Lane::compute, 3, {{.action = f0}});
  const int f1 = d.add(Lane::in, 2, {{.mark = 1}}, 50);
  const int c1 = d.add(Lane::compute, 3, {{.action = f1}});
  d.program.marks = {c0, c1};
  const Simulated s = d.run();
  EXPECT_DOUBLE_EQ(s.seconds, 6);
  EXPECT_DOUBLE_EQ(s.busy[compute], 6);
  EXPECT_DOUBLE_EQ(s.waited[in], 0);
  EXPECT_EQ(s.bytes[in], 150);
  EXPECT_EQ(s.bound, Lane::compute);
  // f0 0-2, c0 2-5, f1 2-4, c1 5-8; then f0 5-7, c0 8-11, f1 8-10, c1 11-14.
  std::vector<double> begins(4, -1);
  for (const Span& span : s.spans)
    if (span.run == 1) begins[static_cast<std::size_t>(span.action)] = span.begin;
  EXPECT_EQ(begins, (std::vector<double>{5, 8, 8, 11}));
}

// The same with one slot: fetches and compute take turns.
TEST(Simulate, OneSlotTakesTurns) {
  Drawn d;
  const int f0 = d.add(Lane::in, 2, {{.mark = 0}}, 100);
  const int c0 = d.add(Lane::compute, 3, {{.action = f0}});
  const int f1 = d.add(Lane::in, 2, {{.action = c0}}, 100);
  const int c1 = d.add(Lane::compute, 3, {{.action = f1}});
  d.program.marks = {c1};
  const Simulated s = d.run();
  EXPECT_DOUBLE_EQ(s.seconds, 10);
  EXPECT_DOUBLE_EQ(s.busy[compute], 6);
  EXPECT_DOUBLE_EQ(s.busy[in], 4);
  EXPECT_DOUBLE_EQ(s.hidden[in], 0);
  EXPECT_DOUBLE_EQ(s.waited[in], 4);
  EXPECT_EQ(s.bound, Lane::in);
}

// A chain: the disk reads for 8 s what is copied in within 1 s. What holds the step up is the disk,
// though it is a copy in that the compute lane waits for; with a fast disk it would be that.
TEST(Simulate, WhatHoldsAStepUpIsTheLaneAtWork) {
  const auto chain = [](double read_seconds, double in_seconds) {
    Drawn d;
    const int r = d.add(Lane::disk_read, read_seconds, {{.mark = 0}}, 100);
    const int f = d.add(Lane::in, in_seconds, {{.action = r}}, 100);
    d.program.marks = {d.add(Lane::compute, 3, {{.action = f}})};
    return d.run();
  };
  const Simulated s = chain(8, 1);
  constexpr auto read = static_cast<std::size_t>(Lane::disk_read);
  EXPECT_DOUBLE_EQ(s.seconds, 12);
  EXPECT_DOUBLE_EQ(s.waited[read], 8);
  EXPECT_DOUBLE_EQ(s.waited[in], 1);
  EXPECT_EQ(s.bound, Lane::disk_read);
  EXPECT_EQ(chain(1, 8).bound, Lane::in);
}

// in 4 s and out 4 s alone; together each at 0.8: 5 s. Beside them compute has half its speed.
TEST(Simulate, LinksAreShared) {
  Drawn d;
  d.add(Lane::in, 4, {}, 1);
  d.add(Lane::out, 4, {}, 1);
  const int c = d.add(Lane::compute, 6);
  d.program.marks = {c};
  for (std::size_t busy = 0; busy < d.costs.speed[0].size(); ++busy) {
    const bool both = (busy >> in & 1) != 0 && (busy >> out & 1) != 0;
    d.costs.speed[in][busy] = d.costs.speed[out][busy] = both ? 0.8 : 1;
    d.costs.speed[compute][busy] = both ? 0.5 : 1;
  }
  // Nothing holds the copies of the next runs back: 2 x 5 s of copies in the first 10 s, in which
  // 5 s of compute are done. Run 0 then ends at 11, run 1 at 17.
  const Simulated s = d.run(2);
  EXPECT_DOUBLE_EQ(s.spans[0].end, 5);
  EXPECT_DOUBLE_EQ(s.seconds, 6);
  double end = 0;
  for (const Span& span : s.spans)
    if (span.run == 0 && span.action == c) end = span.end;
  EXPECT_DOUBLE_EQ(end, 11);
}

TEST(Simulate, WaitsForEverAreRefused) {
  Drawn d;
  d.add(Lane::compute, 1, {{.action = 1}});
  d.add(Lane::in, 1, {{.action = 0}}, 1);
  d.program.marks = {};
  EXPECT_THROW(d.run(), Error);
}

// Two lanes of one link, as a machine describes them: 100 in, 50 out, 120 both ways; 0.1 of compute
// at 120.
TEST(Simulate, SpeedsFollowTheMachine) {
  Machine machine;
  machine.host_in.value = 100, machine.host_out.value = 50, machine.host_both.value = 120;
  machine.slowing_part.value = 0.1, machine.slowing_rate.value = 120;
  Program program;
  program.actions.resize(2);
  program.actions[0].lane = Lane::in, program.actions[0].bytes = 300;
  program.actions[1].lane = Lane::out, program.actions[1].bytes = 100;
  const LaneCosts costs = costs_of(machine, program);
  EXPECT_EQ(costs.seconds, (std::vector<double>{3, 2}));
  const std::size_t both = std::size_t{1} << in | std::size_t{1} << out;
  EXPECT_DOUBLE_EQ(costs.speed[in][both], 0.8);
  EXPECT_DOUBLE_EQ(costs.speed[out][both], 0.8);
  EXPECT_DOUBLE_EQ(costs.speed[in][std::size_t{1} << in], 1);
  EXPECT_DOUBLE_EQ(costs.speed[compute][both | 1], 0.9);
}

// A copy has 40 of its 100 while compute works, and takes 0.1 of it at 40.
TEST(Simulate, CopiesTakeTurnsWithCompute) {
  Machine machine;
  machine.host_in.value = 100, machine.host_beside.value = 40;
  machine.slowing_part.value = 0.1, machine.slowing_rate.value = 40;
  Program program;
  program.actions.resize(1);
  program.actions[0].lane = Lane::in, program.actions[0].bytes = 300;
  const LaneCosts costs = costs_of(machine, program);
  EXPECT_DOUBLE_EQ(costs.speed[in][std::size_t{1} << in], 1);
  EXPECT_DOUBLE_EQ(costs.speed[in][std::size_t{1} << in | 1], 0.4);
  EXPECT_DOUBLE_EQ(costs.speed[compute][std::size_t{1} << in | 1], 0.9);
}

// An op that was measured among its neighbours costs what it did; others cost what they did before.
TEST(Costs, OpsThatWereMeasuredCostThat) {
  Machine machine;
  machine.memory_rate.value = 1e9, machine.launch.value = 1e-6;
  const std::vector<ValueType> types(
      2, {DType::bf16, {{Axis::batch, 2}, {Axis::time, 8}, {Axis::model, 32}}});
  const Op gelu = Gelu{.x = 0, .y = 1};
  const OpClass what = class_of(gelu, types);
  EXPECT_EQ(what.name, "gelu bf16");
  EXPECT_DOUBLE_EQ(what.work, 2 * 2 * 2 * 8 * 32);
  EXPECT_EQ(what.sizes[0], 2 * 2 * 2 * 8 * 32);
  const double before = seconds_of(machine, gelu, types);
  EXPECT_DOUBLE_EQ(before, 1e-6 + what.work / 1e9);
  machine.ops = {{"gelu f32", what.sizes[0], 1, 1, {5, Origin::measured, ""}}};
  EXPECT_DOUBLE_EQ(seconds_of(machine, gelu, types), before);
  machine.ops[0].op = "gelu bf16";
  EXPECT_DOUBLE_EQ(seconds_of(machine, gelu, types), 1e-6 + what.work / 5);
  // Between two, the mean of their logarithms.
  machine.ops = {{"gelu bf16", what.sizes[0] / 2, 1, 1, {2, Origin::measured, ""}},
                 {"gelu bf16", what.sizes[0] * 2, 1, 1, {8, Origin::measured, ""}}};
  EXPECT_DOUBLE_EQ(seconds_of(machine, gelu, types), 1e-6 + what.work / 4);
}

}  // namespace
}  // namespace sluice
