#include "planner/simulate.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

namespace sluice {
namespace {

constexpr double never = std::numeric_limits<double>::infinity();
constexpr auto compute_lane = static_cast<std::size_t>(Lane::compute);

// What a lane is busy with.
struct Work {
  int run = -1, action = -1;   // -1: nothing
  double begin = 0, left = 0;  // seconds of work at full speed
};

// Sums over the time of one run.
struct Tally {
  std::array<double, lanes> busy{}, hidden{}, waited{};
};

class Simulation {
 public:
  Simulation(const Program& program, const LaneCosts& costs, const SimulateOptions& options)
      : program_(program), costs_(costs), options_(options) {
    for (const Action& action : program.actions) {
      auto& lane = lane_actions_[static_cast<std::size_t>(action.lane)];
      ordinal_.push_back(static_cast<std::int64_t>(lane.size()));
      lane.push_back(static_cast<int>(ordinal_.size()) - 1);
    }
    run_end_.assign(static_cast<std::size_t>(options.runs), 0);
    tallies_.resize(static_cast<std::size_t>(options.runs));
  }

  Simulated run() {
    while (start_all(), advance()) {
    }
    for (std::size_t lane = 0; lane < lane_actions_.size(); ++lane)
      require(ended_[lane] == total(lane), [&] {
        return Error(fmt::format("program {}: lanes wait for each other for ever", program_.name));
      });
    return result();
  }

 private:
  std::int64_t total(std::size_t lane) const {
    return static_cast<std::int64_t>(lane_actions_[lane].size()) * options_.runs;
  }

  // How many actions of the wait's lane must have ended, for an action of a run.
  std::int64_t needed(const Wait& wait, int run, std::size_t& lane) const {
    int action = wait.action;
    if (action < 0) {  // of the run before, which is another of this program
      action = program_.marks[static_cast<std::size_t>(wait.mark)];
      if (--run < 0 || action < 0) return 0;
    }
    const auto a = static_cast<std::size_t>(action);
    lane = static_cast<std::size_t>(program_.actions[a].lane);
    return run * static_cast<std::int64_t>(lane_actions_[lane].size()) + ordinal_[a] + 1;
  }

  // The next action of a lane that has not done all; nothing is left of its work yet.
  Work next(std::size_t lane) const {
    const auto count = static_cast<std::int64_t>(lane_actions_[lane].size());
    const int action = lane_actions_[lane][static_cast<std::size_t>(ended_[lane] % count)];
    return {static_cast<int>(ended_[lane] / count), action, now_,
            costs_.seconds[static_cast<std::size_t>(action)]};
  }

  // A lane of which an action must end before that can begin, or `lanes`.
  std::size_t blocker(const Work& work) const {
    std::size_t out = lanes;
    for (const Wait& wait : program_.actions[static_cast<std::size_t>(work.action)].waits) {
      std::size_t other = 0;
      const std::int64_t count_needed = needed(wait, work.run, other);
      if (count_needed > ended_[other]) out = other;
    }
    return out;
  }

  // Begins what can begin now on idle lanes.
  void start_all() {
    for (std::size_t lane = 0; lane < lane_actions_.size(); ++lane) {
      if (work_[lane].action >= 0 || ended_[lane] == total(lane)) continue;
      const Work work = next(lane);
      if (blocker(work) == lanes) work_[lane] = work;
    }
  }

  // The lane at work that an idle one waits for in the end, through lanes that wait themselves.
  std::size_t holds_up(std::size_t lane) const {
    for (int hops = 0; hops < lanes && work_[lane].action < 0; ++hops) {
      if (ended_[lane] == total(lane)) break;
      const std::size_t other = blocker(next(lane));
      if (other == lanes) break;
      lane = other;
    }
    return lane;
  }

  // To the next end of some work. False: nothing is at work.
  bool advance() {
    std::size_t busy = 0;
    for (std::size_t lane = 0; lane < work_.size(); ++lane)
      if (work_[lane].action >= 0) busy |= std::size_t{1} << lane;
    if (busy == 0) return false;
    double step = never;
    for (std::size_t lane = 0; lane < work_.size(); ++lane)
      if (work_[lane].action >= 0)
        step = std::min(step, work_[lane].left / costs_.speed[lane][busy]);
    tally(busy, step);
    now_ += step;
    for (std::size_t lane = 0; lane < work_.size(); ++lane) {
      Work& work = work_[lane];
      if (work.action < 0) continue;
      work.left -= step * costs_.speed[lane][busy];
      if (work.left > 1e-15 * now_) continue;
      if (options_.spans) spans_.push_back({work.run, work.action, work.begin, now_});
      ++ended_[lane];
      if (lane == compute_lane) run_end_[static_cast<std::size_t>(work.run)] = now_;
      work = {};
    }
    return true;
  }

  // The time until the next event belongs to the run that the compute lane is in.
  void tally(std::size_t busy, double step) {
    const auto count = static_cast<std::int64_t>(lane_actions_[compute_lane].size());
    const std::int64_t run =
        std::min<std::int64_t>(ended_[compute_lane] / count, options_.runs - 1);
    Tally& tally = tallies_[static_cast<std::size_t>(run)];
    const bool computes = (busy >> compute_lane & 1) != 0;
    for (std::size_t lane = 0; lane < work_.size(); ++lane) {
      if ((busy >> lane & 1) == 0) continue;
      tally.busy[lane] += step;
      if (computes) tally.hidden[lane] += step;
    }
    if (!computes && ended_[compute_lane] < total(compute_lane))
      tally.waited[holds_up(compute_lane)] += step;
  }

  Simulated result() {
    const auto last = static_cast<std::size_t>(options_.runs - 1);
    Simulated out;
    out.seconds = run_end_[last] - run_end_[last - 1];
    out.busy = tallies_[last].busy;
    out.hidden = tallies_[last].hidden;
    out.waited = tallies_[last].waited;
    for (const Action& action : program_.actions)
      if (action.copies() && action.lane != Lane::compute)
        out.bytes[static_cast<std::size_t>(action.lane)] += action.bytes;
    // The lane that the compute lane waits for most, unless that is little.
    const auto most = static_cast<std::size_t>(
        std::max_element(out.waited.begin(), out.waited.end()) - out.waited.begin());
    if (out.waited[most] > 0.02 * out.seconds) out.bound = static_cast<Lane>(most);
    out.spans = std::move(spans_);
    return out;
  }

  const Program& program_;
  const LaneCosts& costs_;
  const SimulateOptions& options_;
  std::array<std::vector<int>, lanes> lane_actions_;
  std::vector<std::int64_t> ordinal_;  // of an action within its lane
  std::array<Work, lanes> work_;
  std::array<std::int64_t, lanes> ended_{};
  double now_ = 0;
  std::vector<double> run_end_;  // of the compute lane
  std::vector<Tally> tallies_;
  std::vector<Span> spans_;
};

std::string seconds_text(double seconds) {
  return seconds < 1 ? fmt::format("{:.3g} ms", 1e3 * seconds) : fmt::format("{:.4g} s", seconds);
}

}  // namespace

LaneCosts::LaneCosts() {
  for (auto& one : speed) one.fill(1);
}

LaneCosts costs_of(const Machine& machine, const Program& program) {
  LaneCosts out;
  std::vector<double> lists;
  for (const OpList& list : program.lists)
    lists.push_back(seconds_of(machine, list, program.model->of(list.kind)));
  for (const Action& action : program.actions) {
    if (!action.copies()) {
      out.seconds.push_back(lists[static_cast<std::size_t>(action.list)]);
      continue;
    }
    if (action.phase == Phase::keep) {  // read and written, on the device
      const double rate = machine.memory_rate.value;
      out.seconds.push_back(machine.launch.value +
                            (rate > 0 ? 2.0 * static_cast<double>(action.bytes) / rate : 0));
      continue;
    }
    const double rate = rate_of(machine, way_of(action.lane));
    out.seconds.push_back(rate > 0 ? static_cast<double>(action.bytes) / rate : 0);
  }
  const auto is_host = [](Way way) { return way == Way::host_in || way == Way::host_out; };
  const auto same_link = [&](Way a, Way b) {
    return a != Way::none && b != Way::none && is_host(a) == is_host(b);
  };
  for (std::size_t busy = 0; busy < out.speed[0].size(); ++busy) {
    double copied = 0;
    for (std::size_t lane = 0; lane < out.speed.size(); ++lane) {
      const Way way = way_of(static_cast<Lane>(lane));
      if ((busy >> lane & 1) == 0 || way == Way::none) continue;
      double share = 1, alike = 1;
      for (std::size_t other = 0; other < out.speed.size(); ++other) {
        const Way beside = way_of(static_cast<Lane>(other));
        if (other == lane || (busy >> other & 1) == 0 || !same_link(way, beside)) continue;
        if (beside == way) ++alike;  // two lanes on one way share it
        if (beside != way) share = share_of(machine, way);
      }
      if ((busy >> compute_lane & 1) != 0) share *= beside_share(machine, way);
      out.speed[lane][busy] = share / alike;
      if (is_host(way)) copied += rate_of(machine, way) * share / alike;
    }
    out.speed[compute_lane][busy] = compute_share(machine, copied);
  }
  return out;
}

Simulated simulate(const Program& program, const LaneCosts& costs, const SimulateOptions& options) {
  require(costs.seconds.size() == program.actions.size() && options.runs >= 2,
          [&] { return Error("the costs are of another program"); });
  return Simulation(program, costs, options).run();
}

Simulated simulate(const ProgramSet& set, const Machine& machine) {
  const Program& program = set.named("steady");
  return simulate(program, costs_of(machine, program));
}

std::string to_text(const Simulated& step, std::int64_t tokens) {
  std::string out =
      fmt::format("step: {} predicted, {:.4g} tokens/s, bound by {}\n", seconds_text(step.seconds),
                  static_cast<double>(tokens) / step.seconds,
                  step.bound == Lane::compute ? std::string("compute")
                                              : fmt::format("the lane {}", name_of(step.bound)));
  for (std::size_t lane = 0; lane < step.busy.size(); ++lane) {
    if (step.busy[lane] == 0 && step.bytes[lane] == 0) continue;
    out +=
        fmt::format("  {:<8} busy {:>9}, {:>5.1f}% of the step", name_of(static_cast<Lane>(lane)),
                    seconds_text(step.busy[lane]), 100 * step.busy[lane] / step.seconds);
    if (step.bytes[lane] > 0 && step.busy[lane] > 0)
      out += fmt::format("; {:.4g} GB, {:.1f}% of the time behind compute",
                         static_cast<double>(step.bytes[lane]) / 1e9,
                         100 * step.hidden[lane] / step.busy[lane]);
    if (step.waited[lane] > 0)
      out += fmt::format("; compute waits {} for it", seconds_text(step.waited[lane]));
    out += "\n";
  }
  return out;
}

nlohmann::json to_json(const Simulated& step, std::int64_t tokens) {
  nlohmann::json out = {{"seconds", step.seconds},
                        {"tokens_per_second", static_cast<double>(tokens) / step.seconds},
                        {"bound", name_of(step.bound)}};
  for (std::size_t lane = 0; lane < step.busy.size(); ++lane)
    out["lanes"][std::string(name_of(static_cast<Lane>(lane)))] = {{"busy", step.busy[lane]},
                                                                   {"bytes", step.bytes[lane]},
                                                                   {"hidden", step.hidden[lane]},
                                                                   {"waited", step.waited[lane]}};
  return out;
}

}  // namespace sluice
