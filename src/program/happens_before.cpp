#include "program/happens_before.h"

#include <algorithm>

namespace sluice {

HappensBefore::HappensBefore(const Program& before, const Program& program)
    : programs_{&before, &program}, first_of_this_(static_cast<int>(before.actions.size())) {
  const std::size_t count = before.actions.size() + program.actions.size();
  position_.resize(count);
  clocks_.resize(count);
  order_.reserve(count);
  for (int node = 0; node < nodes(); ++node) {
    auto& lane = lane_nodes_[static_cast<std::size_t>(action(node).lane)];
    position_[static_cast<std::size_t>(node)] = static_cast<int>(lane.size());
    lane.push_back(node);
  }
  sort_by_waits();
}

const Action& HappensBefore::action(int node) const {
  return program_of(node).actions[static_cast<std::size_t>(index_of(node))];
}

std::string HappensBefore::name(int node) const {
  return fmt::format("{} ({} run, {})", program_of(node).action_name(index_of(node)),
                     run_of(node) == 0 ? "previous" : "this", program_of(node).name);
}

int HappensBefore::resolve(int node, const Wait& wait) const {
  const Program& own = program_of(node);
  const auto bad = [&](const char* what) {
    return Error(fmt::format("{} waits for {}", name(node), what));
  };
  if (wait.action >= 0) {
    require(wait.action < static_cast<int>(own.actions.size()),
            [&] { return bad("an action that does not exist"); });
    return wait.action + (run_of(node) == 0 ? 0 : first_of_this_);
  }
  const Program& before = *programs_[0];
  require(wait.mark >= 0 && wait.mark < static_cast<int>(before.marks.size()),
          [&] { return bad("a mark that does not exist"); });
  // Of the runs before, only the last one is looked at.
  return run_of(node) == 0 ? -1 : before.marks[static_cast<std::size_t>(wait.mark)];
}

// Sets the clock of `node` if all that it waits for is done.
bool HappensBefore::try_start(int node, const std::vector<bool>& done) {
  Clock clock{};
  const auto join = [&](int other) {
    const Clock& theirs = clocks_[static_cast<std::size_t>(other)];
    for (std::size_t lane = 0; lane < clock.size(); ++lane)
      clock[lane] = std::max(clock[lane], theirs[lane]);
    int& own = clock[static_cast<std::size_t>(action(other).lane)];
    own = std::max(own, position_[static_cast<std::size_t>(other)] + 1);
  };
  for (const Wait& wait : action(node).waits) {
    const int other = resolve(node, wait);
    if (other < 0) continue;
    if (!done[static_cast<std::size_t>(other)]) return false;
    join(other);
  }
  const int position = position_[static_cast<std::size_t>(node)];
  const auto& lane = lane_nodes_[static_cast<std::size_t>(action(node).lane)];
  if (position > 0) join(lane[static_cast<std::size_t>(position) - 1]);
  clocks_[static_cast<std::size_t>(node)] = clock;
  return true;
}

void HappensBefore::sort_by_waits() {
  std::vector<bool> done(clocks_.size(), false);
  std::array<std::size_t, lanes> next{};
  while (order_.size() < clocks_.size()) {
    int chosen = -1;
    for (std::size_t lane = 0; lane < lane_nodes_.size(); ++lane) {
      if (next[lane] >= lane_nodes_[lane].size()) continue;
      const int node = lane_nodes_[lane][next[lane]];
      if ((chosen < 0 || node < chosen) && try_start(node, done)) chosen = node;
    }
    if (chosen < 0) report_deadlock(next);
    done[static_cast<std::size_t>(chosen)] = true;
    order_.push_back(chosen);
    ++next[static_cast<std::size_t>(action(chosen).lane)];
  }
}

void HappensBefore::report_deadlock(const std::array<std::size_t, lanes>& next) const {
  std::string waiting;
  for (std::size_t lane = 0; lane < lane_nodes_.size(); ++lane)
    if (next[lane] < lane_nodes_[lane].size())
      waiting += (waiting.empty() ? "" : "; ") + name(lane_nodes_[lane][next[lane]]);
  throw Error(Exit::internal, {"lanes wait for each other for ever",
                               fmt::format("program {}", programs_[1]->name),
                               {},
                               waiting,
                               {}});
}

}  // namespace sluice
