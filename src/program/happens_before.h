// What surely happens before what when two programs run back to back: rebuilt from lanes and waits
// alone, whatever the order of the lists.
//
// A node is an action of either run: those of the previous run first.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "program/program.h"

namespace sluice {

class HappensBefore {
 public:
  // Both programs outlive this. What the previous run itself waits for of an earlier one is taken
  // as reached. Throws when a wait names no action or lanes wait for each other for ever.
  HappensBefore(const Program& before, const Program& program);

  int nodes() const { return static_cast<int>(clocks_.size()); }
  int run_of(int node) const { return node < first_of_this_ ? 0 : 1; }
  const Program& program_of(int node) const { return *programs_[run_of(node)]; }
  int index_of(int node) const { return node < first_of_this_ ? node : node - first_of_this_; }
  const Action& action(int node) const;
  std::string name(int node) const;  // "forward block 3 micro 1 (previous run, steady)"

  // All nodes in the one order that lanes and waits allow and that is nearest to the lists': the
  // list's own order when every wait looks back. An unordered pair then meets as it was meant.
  const std::vector<int>& order() const { return order_; }
  // `earlier` has ended when `later` starts, in every execution.
  bool ordered(int earlier, int later) const {
    const auto lane = static_cast<std::size_t>(action(earlier).lane);
    return clocks_[static_cast<std::size_t>(later)][lane] >
           position_[static_cast<std::size_t>(earlier)];
  }

 private:
  using Clock = std::array<int, lanes>;           // per lane: actions that have ended
  int resolve(int node, const Wait& wait) const;  // the node waited for; -1: none
  bool try_start(int node, const std::vector<bool>& done);
  void sort_by_waits();
  [[noreturn]] void report_deadlock(const std::array<std::size_t, lanes>& next) const;

  const Program* programs_[2];
  int first_of_this_;
  std::array<std::vector<int>, lanes> lane_nodes_;
  std::vector<int> position_;  // of a node within its lane
  std::vector<Clock> clocks_;  // when it starts
  std::vector<int> order_;
};

}  // namespace sluice
