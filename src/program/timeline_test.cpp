#include "program/timeline.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sluice {
namespace {

// Computing from 1 to 3 and from 3 to 4, from 6 to 7; copies as given.
Timeline with_copies(std::vector<Timeline::Span> copies) {
  Timeline out;
  out.name = "measured";
  Timeline::Row compute{"compute", {}, true};
  compute.spans = {{"forward block 0 micro 0", 1, 3, 0, 0},
                   {"linear", 1, 2, 1, 0},
                   {"gelu \"x\"", 2, 3, 1, 0},
                   {"forward block 1 micro 0", 3, 4, 0, 0},
                   {"forward block 2 micro 0", 6, 7, 0, 1}};
  out.rows = {std::move(compute), {"in", std::move(copies), false}};
  out.counters = {{"in has waited, ms", {{0.5, 0}, {2, 1.25}}}};
  return out;
}

TEST(Timeline, HiddenIsWhatLiesInsideComputation) {
  const auto check = [](std::vector<Timeline::Span> copies, double copying, double hidden) {
    const Hidden found = hidden_copies(with_copies(std::move(copies)));
    EXPECT_DOUBLE_EQ(found.copying, copying);
    EXPECT_DOUBLE_EQ(found.hidden, hidden);
  };
  check({}, 0, 0);
  check({{"fetch", 1.5, 2.5, 0, 0}}, 1, 1);
  check({{"fetch", 2.5, 3.5, 0, 0}}, 1, 1);  // across two that touch
  check({{"fetch", 0, 1, 0, 0}}, 1, 0);
  check({{"fetch", 4, 6, 0, 0}}, 2, 0);
  check({{"fetch", 0, 8, 0, 0}}, 8, 4);
  check({{"fetch", 3.5, 6.25, 0, 0}, {"fetch", 6.5, 7.5, 0, 0}}, 3.75, 1.25);
  EXPECT_EQ(hidden_copies(with_copies({})).share(), 0);
  EXPECT_DOUBLE_EQ(hidden_copies(with_copies({{"fetch", 0, 8, 0, 0}})).share(), 0.5);
}

TEST(Timeline, ATraceIsJsonOfProcessesAndThreads) {
  const Timeline measured = with_copies({{"fetch weights block 1", 0.5, 2.0000000014, 0, 0}});
  Timeline predicted = measured;
  predicted.name = "predicted";
  std::string text;
  const Timeline both[] = {predicted, measured};
  write_trace(both, [&](std::string_view piece) { text += piece; });
  const nlohmann::json events = nlohmann::json::parse(text).at("traceEvents");
  int spans = 0, counters = 0;
  std::map<int, std::string> processes;
  for (const nlohmann::json& event : events) {
    if (event.at("ph") == "M" && event.at("name") == "process_name")
      processes[event.at("pid")] = event.at("args").at("name");
    spans += event.at("ph") == "X" ? 1 : 0;
    counters += event.at("ph") == "C" ? 1 : 0;
    if (event.at("name") != "fetch weights block 1") continue;
    EXPECT_EQ(event.at("ts"), 500000.0);
    EXPECT_EQ(event.at("dur"), 1500000.001);
    EXPECT_EQ(event.at("tid"), 2);
  }
  EXPECT_EQ(spans, 12);
  EXPECT_EQ(counters, 4);
  EXPECT_EQ(processes, (std::map<int, std::string>{{1, "predicted"}, {2, "measured"}}));
}

}  // namespace
}  // namespace sluice
