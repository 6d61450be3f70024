#include "planner/description.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "core/error.h"
#include "planner/costs.h"
#include "planner/simulate.h"

namespace sluice {
namespace {

std::string refusal(const std::string& text) {
  try {
    parse_description(text, "m.toml");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    return e.text();
  }
  return {};
}

TEST(Description, BuiltInsAreReadAndWrittenBack) {
  std::vector<std::string> names;
  for (const BuiltinMachine& one : builtin_machines()) {
    const Machine machine = load_machine(std::string(one.name));
    EXPECT_EQ(machine.name, one.name);
    EXPECT_EQ(to_toml(parse_description(to_toml(machine), "again")), to_toml(machine));
    EXPECT_GT(gemm_rate(machine, "bf16", 2048, 4096, 4096), 1e14);
    EXPECT_GT(attention_rate(machine, "backward", 128, 2048), 1e13);
    EXPECT_GT(machine.host_budget(), machine.device_budget() / 2);
    names.push_back(machine.name);
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"h200", "h200-20t", "h200x4-one", "rtx4090-64g"}));
  EXPECT_EQ(unmeasured(load_machine("h200")),
            "device_reserved, host_reserved, launch, disk_both, 1 of 11 products");
  Machine other = load_machine("h200");
  other.gemm[0].flops.value += 1;
  EXPECT_NE(to_toml(other), to_toml(load_machine("h200")));
}

TEST(Description, KeepsWhatDoctorMeasuredOfOps) {
  MachineRates rates;
  rates.date = "2026-11-23";
  rates.copy_one = 2e10, rates.copy_all = 3e10;
  const Machine before = description_of(rates, 1 << 30);
  EXPECT_EQ(before.launch.is, Origin::assumed);
  EXPECT_EQ(before.slowing_part.is, Origin::assumed);
  EXPECT_EQ(before.host_beside.value, 0);
  rates.ops = {{"gelu bf16", {1024, 1, 1}, 3e10}};
  rates.between_ops = 2e-6;
  rates.beside = {1e10, 0.75};
  const Machine after = description_of(rates, 1 << 30);
  EXPECT_EQ(after.launch.is, Origin::measured);
  EXPECT_DOUBLE_EQ(after.launch.value, 2e-6);
  EXPECT_DOUBLE_EQ(after.host_beside.value, 5e9);
  EXPECT_DOUBLE_EQ(after.slowing_part.value, 0.25);
  EXPECT_NEAR(op_rate(after, "gelu bf16", {4096, 1, 1}), 3e10, 1);
  EXPECT_EQ(op_rate(after, "gelu f32", {4096, 1, 1}), 0);
  EXPECT_EQ(to_toml(parse_description(to_toml(after), "again")), to_toml(after));
  EXPECT_NE(to_toml(before), to_toml(after));
  const std::string head = "name = \"m\"\ndevice = \"cpu\"\nmodel = \"c\"\n";
  const std::string row = "op = \"gelu\", m = 1, k = 1, n = 1, is = \"measured\", rate = ";
  EXPECT_EQ(refusal(head + "ops = [ { " + row + "1 } ]\n"), "");
  EXPECT_NE(refusal(head + "ops = [ { " + row + "0 } ]\n").find("above 0"), std::string::npos);
}

TEST(Description, EveryFigureSaysWhereItComesFrom) {
  const std::string head = "name = \"m\"\ndevice = \"cpu\"\nmodel = \"c\"\n";
  EXPECT_EQ(refusal(head), "");
  EXPECT_EQ(refusal(head + "cores = { value = 2, is = \"measured\" }\n"), "");
  EXPECT_NE(refusal(head + "cores = { value = 2 }\n").find("m.toml:4 cores.is"), std::string::npos);
  EXPECT_NE(
      refusal(head + "cores = { value = 2, is = \"guessed\" }\n").find("published or assumed"),
      std::string::npos);
  EXPECT_NE(refusal(head + "cores = 2\n").find("m.toml:4 cores"), std::string::npos);
  EXPECT_NE(refusal(head + "corse = 2\n").find("corse"), std::string::npos);
  EXPECT_NE(refusal(head + "cores = { value = -1, is = \"measured\" }\n"), "");
  EXPECT_NE(refusal(head + "cores = { value = nan, is = \"measured\" }\n"), "");
  EXPECT_NE(
      refusal(
          head +
          "gemm = [ { m = 1, k = 0, n = 1, type = \"bf16\", flops = 1, is = \"measured\" } ]\n"),
      "");
  EXPECT_NE(refusal(head + "gemm = [ 3 ]\n"), "");
  EXPECT_NE(refusal("name = \"m\"\ndevice = \"abacus\"\nmodel = \"c\"\n").find("cpu or cuda"),
            std::string::npos);
  EXPECT_NE(refusal("name = ").find("is not TOML"), std::string::npos);
}

// The stated rule: a known place as it is known; else logarithms weighted by 1 / d^2.
TEST(Description, InterpolatesAsItSays) {
  const Known known[] = {{{10, 10, 10}, 100}, {{12, 10, 10}, 400}};
  EXPECT_NEAR(interpolated(known, {10, 10, 10}), 100, 1e-9);
  EXPECT_NEAR(interpolated(known, {11, 10, 10}), 200, 1e-9);  // halfway: the geometric mean
  // d^2 = 1 and 9: weights 0.9 and 0.1.
  EXPECT_NEAR(interpolated(known, {9, 10, 10}), 100 * std::pow(4, 0.1), 1e-9);
  const Known twice[] = {{{10, 10, 10}, 100}, {{10, 10, 10}, 400}, {{12, 10, 10}, 7}};
  EXPECT_NEAR(interpolated(twice, {10, 10, 10}), 200, 1e-9);
  EXPECT_EQ(interpolated({}, {1, 1, 1}), 0);
  const Machine four = load_machine("h200x4-one");
  EXPECT_DOUBLE_EQ(collective_rate(four, "all-reduce", 4, 1 << 20), 46e9);
  EXPECT_DOUBLE_EQ(collective_rate(four, "all-reduce", 4, 4 << 20), (46e9 + 264e9) / 2);
  EXPECT_DOUBLE_EQ(collective_rate(four, "all-reduce", 4, 1LL << 40), 355e9);
  EXPECT_EQ(collective_rate(four, "all-reduce", 8, 1 << 20), 0);
}

TEST(Description, WhatContradictsTheMachineIsRefused) {
  MachineRates rates;
  rates.id = {"a CPU", "avx512", 4};
  rates.copy_one = 1e10, rates.copy_all = 2e10;
  rates.products = {{"fc", "forward", "float32", 10, 20, 30, 4, 0.5}};
  const Machine machine = description_of(rates, 1000);
  const Present present{"a CPU", "avx512", 4, 1000};
  EXPECT_NO_THROW(require_same(machine, present, "m.toml"));
  for (const Present& other : {Present{"another", "avx512", 4, 1000},
                               {"a CPU", "avx2", 4, 1000},
                               {"a CPU", "avx512", 2, 1000},
                               {"a CPU", "avx512", 4, 999}})
    EXPECT_THROW(require_same(machine, other, "m.toml"), Error);
  EXPECT_THROW(require_same(load_machine("h200"), present, "h200"), Error);
  EXPECT_EQ(to_toml(parse_description(to_toml(machine), "m.toml")), to_toml(machine));
}

// A step of two copies and two products' time on whatever machine this is: it ends.
double step_on(const Machine& machine) {
  Program program;
  const auto add = [&](Lane lane, std::vector<Wait> waits) {
    Action action;
    action.lane = lane;
    action.waits = std::move(waits);
    action.bytes = 1 << 20;
    program.actions.push_back(action);
    return static_cast<int>(program.actions.size()) - 1;
  };
  add(Lane::disk_read, {});
  add(Lane::in, {{.action = 0}});
  add(Lane::compute, {{.action = 1}});
  add(Lane::out, {{.action = 2}});
  program.actions[0].phase = Phase::read, program.actions[1].phase = Phase::fetch;
  program.actions[2].phase = Phase::keep, program.actions[3].phase = Phase::leave;
  return simulate(program, costs_of(machine, program)).seconds;
}

// Whatever somebody makes of a description: a clear error, or a machine that is what the file says
// and that a step can be costed on.
TEST(Description, RandomEditsGiveAnErrorOrTheMachineThatIsThere) {
  static constexpr std::string_view bytes = "0123456789\"=[]{}#.,-_ \n\\aeinx\x80\xff";
  const std::string whole = to_toml(load_machine("h200x4-one"));
  std::mt19937 random(5);
  int refused = 0, same = 0, others = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string edit = whole;
    for (int edits = 1 + static_cast<int>(random() % 3); edits > 0; --edits) {
      const std::size_t at = random() % edit.size();
      const int what = static_cast<int>(random() % 4);
      if (what == 0) edit[at] = bytes[random() % bytes.size()];
      if (what == 1) edit.erase(at, 1 + random() % 4);
      if (what == 2) edit.insert(at, 1, bytes[random() % bytes.size()]);
      if (what == 3) edit.insert(at, edit.substr(random() % edit.size(), random() % 40));
    }
    try {
      const Machine machine = parse_description(edit, "m.toml");
      const std::string again = to_toml(machine);
      EXPECT_EQ(to_toml(parse_description(again, "again")), again) << edit;
      const double seconds = step_on(machine);
      EXPECT_TRUE(std::isfinite(seconds) && seconds >= 0) << seconds << again;
      EXPECT_GE(machine.device_budget(), 0);
      EXPECT_GE(machine.host_budget(), 0);
      ++(again == whole ? same : others);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::usage) << e.text();
      EXPECT_NE(e.report().where.find("m.toml"), std::string::npos) << e.text();
      EXPECT_FALSE(e.report().what.empty()) << e.text();
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(same, 20);
  EXPECT_GT(others, 200);
  // A file may say the least and the most of everything.
  for (const double value : {1e-12, 1e18}) {
    Machine machine = load_machine("h200");
    for (Figure* one : {&machine.host_in, &machine.host_out, &machine.host_both, &machine.disk_in,
                        &machine.memory_rate, &machine.slowing_part, &machine.slowing_rate,
                        &machine.launch, &machine.device_memory, &machine.host_memory})
      one->value = value;
    const Machine read = parse_description(to_toml(machine), "m.toml");
    EXPECT_TRUE(std::isfinite(step_on(read)));
    EXPECT_GE(read.device_budget(), 0);
    machine.host_in.value = value < 1 ? value / 10 : value * 10;
    EXPECT_THROW(parse_description(to_toml(machine), "m.toml"), Error);
  }
}

// By hand: one product, one op that moves bytes, and a copy.
TEST(Costs, FollowTheDescription) {
  Machine machine;
  machine.gemm = {{8, 16, 32, "float32", {1000, Origin::measured, ""}}};
  machine.memory_rate.value = 1e6;
  machine.launch.value = 0.25;
  const std::vector<ValueType> types = {
      {DType::f32, {{Axis::batch, 1}, {Axis::time, 8}, {Axis::model, 16}}},
      {DType::f32, {{Axis::model, 16}, {Axis::hidden, 32}}},
      {DType::f32, {{Axis::batch, 1}, {Axis::time, 8}, {Axis::hidden, 32}}}};
  const Op product = Linear{.x = 0, .w = 1, .bias = no_value, .y = 2};
  EXPECT_DOUBLE_EQ(seconds_of(machine, product, types), 0.25 + 2.0 * 8 * 16 * 32 / 1000);
  machine.gemm[0].flops.value = 1e12;  // now memory is what bounds it
  EXPECT_DOUBLE_EQ(seconds_of(machine, product, types), 0.25 + 4 * (128 + 512 + 256) / 1e6);
  machine.host_in.value = 55, machine.host_out.value = 55, machine.host_both.value = 99;
  EXPECT_DOUBLE_EQ(share_of(machine, Way::host_in), 0.9);
  machine.slowing_part.value = 0.1, machine.slowing_rate.value = 100;
  EXPECT_DOUBLE_EQ(compute_share(machine, 50), 0.95);
}

}  // namespace
}  // namespace sluice
