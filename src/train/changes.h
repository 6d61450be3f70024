// Changes of what a person asked for with which a run that was refused would fit, each planned
// again before it is told: what a refusal ends with. Pure functions but for planning; one thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "planner/memory_report.h"
#include "train/config.h"

namespace sluice {

// Settings ("plan.state=compact"), and what else a person is told.
struct Alternative {
  std::vector<std::string> settings;
  std::string note;

  std::string as_options() const;  // "--plan.state=compact"
  PlanChange as_lines() const;     // "plan.state = "compact"", with whether it is another run
};

class Changes {
 public:
  static constexpr std::size_t most = 3;
  // Throws Error when a config does not fit; one that is over a budget, BudgetError.
  using Again = std::function<void(const Config&)>;

  // Both outlive it.
  Changes(const Config& asked, const Again& again) : asked_(asked), again_(again) {}

  // Each adds what fits, until there are three. A change that has all settings of one before it is
  // taken only when nothing else makes the three.
  void consider(const std::vector<std::string>& settings, const std::string& note = {});
  // The first that fits, from the mildest to the `last` of so many; none unless the last does.
  void first_of(int last, const std::function<std::vector<std::string>(int)>& settings);
  void free_choices();  // that a person made: left to the planner; or all on disk
  void formats();       // of state and gradients
  // Smaller micro-batches, and steps of fewer tokens, and shorter sequences.
  void smaller_batches(std::int64_t micro_batch);
  // Budgets raised to exactly what is needed: those that are in `keys`.
  void budgets(const std::vector<std::string>& keys);
  // The largest published one, and the most blocks of this one; beside a setting.
  void smaller_model(const std::string& setting = {});
  void fewer_layers(const std::string& setting = {});
  void other_models();                    // smaller published ones, as many as are missing
  void machine(const std::string& text);  // which the caller has planned

  bool enough() const { return found_.size() >= most; }
  std::vector<Alternative> take() &&;  // at most three

 private:
  bool fits(const std::vector<std::string>& settings) const;
  Config with(const std::vector<std::string>& settings) const;
  void add(const std::vector<std::string>& settings, const std::string& note);

  const Config& asked_;
  const Again& again_;
  std::vector<Alternative> found_, others_;
};

// The most blocks that fit; 0: not one.
std::int64_t layers_that_fit(Config config, const Changes::Again& again);

}  // namespace sluice
