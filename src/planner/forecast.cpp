#include "planner/forecast.h"

#include <algorithm>

namespace sluice {
namespace {

// By list: the part of an action's time before which each of its ops begins, and 1.
std::vector<std::vector<double>> shares_of(const Program& program, const Machine& machine) {
  std::vector<std::vector<double>> out;
  for (const OpList& list : program.lists) {
    const std::vector<ValueType> types = program.model->of(list.kind).types();
    std::vector<double>& begins = out.emplace_back(1, 0.0);
    for (const Op& op : list.ops) begins.push_back(begins.back() + seconds_of(machine, op, types));
    for (double& begin : begins) begin = begins.back() > 0 ? begin / begins.back() : 0;
  }
  return out;
}

}  // namespace

Timeline predicted_timeline(const Program& program, const Machine& machine, int steps) {
  const Simulated simulated =
      simulate(program, costs_of(machine, program), {.runs = steps + 2, .spans = true});
  std::vector<Span> spans = simulated.spans;
  std::erase_if(spans, [&](const Span& span) { return span.run < 1 || span.run > steps; });
  std::stable_sort(spans.begin(), spans.end(),
                   [](const Span& a, const Span& b) { return a.begin < b.begin; });
  const double zero = spans.empty() ? 0 : spans.front().begin;
  const std::vector<std::vector<double>> shares = shares_of(program, machine);
  Timeline out;
  out.name = "predicted";
  for (int lane = 0; lane < lanes; ++lane) {
    Timeline::Row row;
    row.name = name_of(static_cast<Lane>(lane));
    row.computes = static_cast<Lane>(lane) == Lane::compute;
    for (const Span& span : spans) {
      const Action& action = program.actions[static_cast<std::size_t>(span.action)];
      if (static_cast<int>(action.lane) != lane) continue;
      const std::int64_t step = span.run - 1;
      const double begin = span.begin - zero, end = span.end - zero;
      row.spans.push_back({program.action_name(span.action), begin, end, 0, step});
      if (action.copies()) continue;
      const std::vector<Op>& ops = program.list_of(action).ops;
      const std::vector<double>& share = shares[static_cast<std::size_t>(action.list)];
      for (std::size_t op = 0; op < ops.size(); ++op)
        row.spans.push_back({name_of(ops[op]), begin + share[op] * (end - begin),
                             std::min(end, begin + share[op + 1] * (end - begin)), 1, step});
    }
    if (!row.spans.empty()) out.rows.push_back(std::move(row));
  }
  return out;
}

}  // namespace sluice
