// Every op on tensors of more than 2^31 elements: what lies at the start, across element 2^31 and
// at the end is held against the same numbers in a small tensor. Each case is a process of its own,
// so that its peak of memory is its own and an address gone wrong ends nothing else.
#include "backend/cpu/ops/beyond.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <type_traits>

namespace sluice {
namespace {

constexpr std::int64_t most_resident = std::int64_t{2} << 30;

// How a process ended: empty if well.
struct Outcome {
  std::string failure;
  std::int64_t peak;  // bytes resident
};

Outcome run_apart(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      body();
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
    std::fflush(nullptr);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  rusage usage{};
  if (child < 0 || ::wait4(child, &status, 0, &usage) != child) return {"no process", 0};
  const std::int64_t peak = usage.ru_maxrss * 1024;
  if (WIFSIGNALED(status)) return {fmt::format("signal {}", WTERMSIG(status)), peak};
  return {WEXITSTATUS(status) == 0 ? "" : "failed in its process: see above", peak};
}

std::vector<BeyondCase> all_cases() {
  std::vector<BeyondCase> all;
  for (const auto& list : {row_beyond_cases, state_beyond_cases, token_beyond_cases,
                           product_beyond_cases, head_beyond_cases})
    for (BeyondCase& one : list()) all.push_back(std::move(one));
  return all;
}

template <class... Ops>
std::vector<std::string> names_of(std::type_identity<std::variant<Ops...>>) {
  return {Ops::name...};
}

// The forms that there must be a case of: every op in float32, most in bf16, and the coded ones.
std::set<std::string> needed_forms() {
  const std::set<std::string> f32_only = {"add_into", "squared_norm", "finish_step"};
  std::set<std::string> needed = {
      "adamw bf16 i16",      "adamw bf16 u8",          "ema bf16 i16",       "round_gradient bf16",
      "round_gradient int8", "round_gradient u8 int8", "restore_gradient u8"};
  for (const std::string& name : names_of(std::type_identity<Op>())) {
    if (name == "round_gradient" || name == "restore_gradient") continue;
    needed.insert(name);
    if (name != "adamw" && f32_only.count(name) == 0) needed.insert(name + " bf16");
  }
  return needed;
}

std::set<std::string> without_case(const std::vector<BeyondCase>& cases) {
  std::set<std::string> missing = needed_forms();
  for (const BeyondCase& one : cases)
    for (const std::string& form : one.forms) missing.erase(form);
  return missing;
}

TEST(BeyondCases, EveryOpHasOne) {
  std::vector<BeyondCase> cases = all_cases();
  EXPECT_EQ(without_case(cases), std::set<std::string>{});
  std::erase_if(cases, [](const BeyondCase& one) { return one.forms.count("dropout") != 0; });
  EXPECT_EQ(without_case(cases), std::set<std::string>{"dropout"});
}

TEST(BeyondCases, AProcessTellsItsPeakAndItsEnd) {
  constexpr std::int64_t bytes = 64 << 20;
  const Outcome idle = run_apart([] {});
  EXPECT_EQ(idle.failure, "");
  EXPECT_LT(idle.peak, most_resident);
  const Outcome busy = run_apart([] {
    Reserved reserved;
    std::memset(reserved[reserved.add({{Axis::bytes, bytes}}, DType::u8)].raw(), 1, bytes);
  });
  EXPECT_EQ(busy.failure, "");
  EXPECT_GE(busy.peak, idle.peak + bytes - (8 << 20));
  EXPECT_EQ(run_apart([] { ::_exit(3); }).failure, "failed in its process: see above");
  EXPECT_EQ(run_apart([] { ::kill(::getpid(), SIGKILL); }).failure, "signal 9");
}

class BeyondAll : public ::testing::TestWithParam<BeyondCase> {};

TEST_P(BeyondAll, IsTheSmallOne) {
  const BeyondCase& one = GetParam();
  const Outcome outcome = run_apart([&] {
    std::set<std::string> ran;
    for (const Isa isa : one.every_isa ? available_isas() : std::vector{best_isa()}) {
      SCOPED_TRACE(name_of(isa));
      CpuBackend cpu({.threads = 2, .isa = isa});
      Beyond beyond{cpu, ran};
      one.body(beyond);
    }
    EXPECT_EQ(ran, one.forms);  // what the list says is what happens
  });
  EXPECT_EQ(outcome.failure, "");
  EXPECT_LE(outcome.peak, most_resident);
  RecordProperty("peak_mib", std::to_string(outcome.peak >> 20));
}

INSTANTIATE_TEST_SUITE_P(Ops, BeyondAll, ::testing::ValuesIn(all_cases()),
                         [](const auto& info) { return info.param.label; });

}  // namespace
}  // namespace sluice
