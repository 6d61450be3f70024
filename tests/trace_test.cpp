// --trace with the binary: real times of steady steps, lanes as rows, nothing that overlaps within
// a lane, ops within their actions; and it changes no bit.
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>

#include "tiny_run.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

struct Span {
  std::int64_t begin = 0, end = 0;  // nanoseconds
  std::string name;
  bool op = false;
  std::int64_t step = 0;
};

struct Trace {
  std::map<std::string, std::vector<Span>> rows, predicted;
  std::map<std::string, std::vector<double>> counters;
};

std::int64_t nanoseconds(const Json& microseconds) {
  return std::llround(1000 * microseconds.get<double>());
}

Trace read_trace(const std::filesystem::path& path) {
  Trace out;
  std::map<std::pair<int, int>, std::string> names;
  std::map<int, std::string> processes;
  const auto row = [](const Json& event) { return std::pair(event.at("pid"), event.at("tid")); };
  const Json trace = Json::parse(read_text(path));
  for (const Json& event : trace.at("traceEvents")) {
    const std::string kind = event.at("ph");
    if (kind == "M" && event.at("name") == "thread_name")
      names[row(event)] = event.at("args").at("name");
    if (kind == "M" && event.at("name") == "process_name")
      processes[event.at("pid")] = event.at("args").at("name");
    if (kind == "C") out.counters[event.at("name")].push_back(event.at("args").at("value"));
    if (kind != "X") continue;
    const std::int64_t begin = nanoseconds(event.at("ts"));
    const bool measured = processes.at(event.at("pid")) == "measured";
    (measured ? out.rows : out.predicted)[names.at(row(event))].push_back(
        {begin, begin + nanoseconds(event.at("dur")), event.at("name"), event.at("cat") == "op",
         event.at("args").at("step")});
  }
  return out;
}

// What is wrong with the spans of a row, or nothing.
std::string complaint(const std::vector<Span>& spans) {
  const Span* action = nullptr;
  std::int64_t free_from = 0;
  for (const Span& span : spans) {
    if (span.end < span.begin) return span.name + " ends before it begins";
    if (!span.op) {
      if (action != nullptr && span.begin < action->end)
        return span.name + " begins within " + action->name;
      action = &span;
      free_from = span.begin;
      continue;
    }
    if (action == nullptr || span.begin < action->begin || span.end > action->end)
      return span.name + " lies outside of its action";
    if (span.begin < free_from) return span.name + " begins within the op before it";
    free_from = span.end;
  }
  return "";
}

// Of the copies' time, the part that lies inside compute spans: by looking at every pair.
double hidden_share(const Trace& trace) {
  double copying = 0, hidden = 0;
  for (const auto& [lane, spans] : trace.rows) {
    if (lane == "compute") continue;
    for (const Span& copy : spans) {
      copying += static_cast<double>(copy.end - copy.begin);
      for (const Span& span : trace.rows.at("compute"))
        if (!span.op)
          hidden += static_cast<double>(std::max<std::int64_t>(
              0, std::min(span.end, copy.end) - std::max(span.begin, copy.begin)));
    }
  }
  return hidden / copying;
}

TEST(TraceSlow, ShowsWhatTheLanesDid) {
  const TinyRun tiny;
  const std::string streams =
      "--model.layers=4 --plan.homes=host --plan.slots=2 --plan.schedule=layer-major "
      "--run.validate_every=0 --run.save_every=0";
  tiny.train("whole", streams);
  const Ended ended = tiny.train("run", streams + " --trace 3");
  EXPECT_EQ(tiny.tensors("run"), tiny.tensors("whole"));
  EXPECT_FALSE(std::filesystem::exists(tiny.path("whole/trace.json")));

  const Trace trace = read_trace(tiny.path("run/trace.json"));
  std::set<std::string> lanes, actions;
  std::set<std::int64_t> steps;
  std::size_t ops = 0, copies = 0;
  for (const auto& [lane, spans] : trace.rows) {
    lanes.insert(lane);
    EXPECT_EQ(complaint(spans), "") << lane;
    for (const Span& span : spans) {
      steps.insert(span.step);
      if (span.op)
        ++ops;
      else
        actions.insert(span.name);
      if (lane != "compute") ++copies;
    }
  }
  EXPECT_EQ(lanes, (std::set<std::string>{"compute", "in", "out"}));
  EXPECT_EQ(steps, (std::set<std::int64_t>{0, 1, 2}));
  EXPECT_GT(ops, 3u * 2 * 4 * 10);
  for (const char* name : {"load micro 1", "fetch weights block 2", "leave optimizer block 1",
                           "update block 3", "forward block 0 micro 1", "input_grad head micro 0",
                           "weight_grad embedding micro 1", "norm block 1", "finish"})
    EXPECT_TRUE(actions.contains(name)) << name;
  // Every block's state comes and goes once a step.
  EXPECT_EQ(std::count_if(trace.rows.at("out").begin(), trace.rows.at("out").end(),
                          [](const Span& s) { return s.name.starts_with("leave optimizer"); }),
            3 * 4);

  for (const char* lane : {"compute", "in", "out"}) {
    const std::vector<double>& waited = trace.counters.at(fmt::format("{} has waited, ms", lane));
    EXPECT_FALSE(waited.empty());
    EXPECT_TRUE(std::is_sorted(waited.begin(), waited.end())) << lane;
  }

  const double share = 100 * hidden_share(trace);
  EXPECT_GT(copies, 0u);
  EXPECT_TRUE(share >= 0 && share <= 100) << share;
  const std::string said = "copy time inside compute spans: ";
  const std::size_t at = ended.err.find(said);
  ASSERT_NE(at, std::string::npos) << ended.err;
  EXPECT_NEAR(std::stod(ended.err.substr(at + said.size())), share, 0.06);
}

using Names = std::map<std::string, std::vector<std::string>>;

// The names of a row's spans by lane, in their order.
Names names_of(const std::map<std::string, std::vector<Span>>& rows) {
  Names out;
  for (const auto& [lane, spans] : rows)
    for (const Span& span : spans)
      out[lane].push_back(fmt::format("{} {} {}", span.step, span.op, span.name));
  return out;
}

// A prediction has the rows, spans and ops of what was measured, in the same order.
TEST(TraceSlow, ShowsThePredictionBelow) {
  const TinyRun tiny;
  const std::string base =
      "--model.layers=4 --run.validate_every=0 --run.save_every=0 --run.threads=0 --trace 2";
  const std::string streams = base + " --plan.homes=host --plan.schedule=layer-major";
  const Ended none = tiny.train("none", streams);
  EXPECT_NE(none.err.find("no predicted rows"), std::string::npos) << none.err;
  EXPECT_NE(none.err.find("sluice doctor --save"), std::string::npos) << none.err;
  EXPECT_TRUE(read_trace(tiny.path("none/trace.json")).predicted.empty());

  const Ended doctor = tiny.run(
      "XDG_CACHE_HOME=\"$PWD/cache\"; export XDG_CACHE_HOME; "
      "instead doctor --quick --save here.toml");
  ASSERT_EQ(doctor.exit, 0) << doctor.err;
  std::map<std::string, Names> all;
  for (const std::string& options : {base, streams}) {
    const std::string out = options == base ? "resident" : "streamed";
    const Ended ended = tiny.train(out, options + " --machine here.toml");
    EXPECT_EQ(ended.err.find("no predicted rows"), std::string::npos) << ended.err;
    const Trace trace = read_trace(tiny.path(out + "/trace.json"));
    for (const auto& [lane, spans] : trace.predicted) EXPECT_EQ(complaint(spans), "") << lane;
    all[out] = names_of(trace.predicted);
    EXPECT_EQ(all[out], names_of(trace.rows)) << out;
  }
  EXPECT_NE(all["resident"], all["streamed"]);
}

TEST(TraceSlow, ARunWithoutSteadyStepsSaysSo) {
  const TinyRun tiny;
  const Ended none = tiny.train("none", "--run.save_every=1 --trace 2");
  EXPECT_NE(none.err.find("no trace: there was no steady step"), std::string::npos) << none.err;
  EXPECT_FALSE(std::filesystem::exists(tiny.path("none/trace.json")));
  // Fewer than were asked for.
  const Ended few = tiny.train("few", "--trace 1000 --run.save_every=0 --run.validate_every=0");
  EXPECT_NE(few.err.find("trace of 10 steps"), std::string::npos) << few.err;
}

TEST(TraceJudge, SeesWhatOverlaps) {
  const std::vector<Span> good{
      {0, 10, "a", false, 0}, {0, 4, "x", true, 0}, {4, 10, "y", true, 0}, {10, 12, "b", false, 0}};
  EXPECT_EQ(complaint(good), "");
  std::vector<Span> bad = good;
  bad[3].begin = 9;
  EXPECT_NE(complaint(bad), "");
  bad = good, bad[2].begin = 3;
  EXPECT_NE(complaint(bad), "");
  bad = good, bad[2].end = 11;
  EXPECT_NE(complaint(bad), "");
  const Trace trace{{{"compute", good}, {"in", {{8, 16, "c", false, 0}}}}, {}, {}};
  EXPECT_DOUBLE_EQ(hidden_share(trace), 0.5);
}

}  // namespace
}  // namespace sluice
