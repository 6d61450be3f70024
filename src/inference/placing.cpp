#include "inference/placing.h"

#include <optional>

#include "planner/budget.h"
#include "planner/placement.h"

namespace sluice {
namespace {

class Placer {
 public:
  Placer(ProgramSpec& spec, const PlanConfig& plan)
      : spec_(spec), plan_(plan), blocks_(spec.model->layers) {
    // A batch of its own: what is checked is of the memory alone.
    PlanConfig checked;
    checked.homes = plan.homes;
    checked.slots = plan.slots;
    checked.device_memory = plan.device_memory;
    checked.host_memory = plan.host_memory;
    checked.disk_memory = plan.disk_memory;
    slots_ = {resolve(checked, {1}, 1).slots};
    if (plan.slots == 0) slots_ = {spec.model->parts == 1 ? 3 : 4, 2};
  }

  WeightPlacement place() const {
    const std::optional<WeightPlacement> found = first_that_fits();
    require(found.has_value(), [&] {
      return below_the_least(budget_of("plan.device_memory", plan_.device_memory), device(least()));
    });
    WeightPlacement placed = within_host(*found);
    const MemoryMap map = memory(placed);
    require_room(budget_of("plan.host_memory", plan_.host_memory), Exit::memory, who, "host memory",
                 map.host_bytes());
    require_room(budget_of("plan.disk_memory", plan_.disk_memory), Exit::disk, who, "disk",
                 map.disk_bytes());
    return placed;
  }

  WeightPlacement least() const {
    return plan_.homes == "auto" ? streaming(all(), slots_.back()) : said(slots_.back());
  }

  std::int64_t device(const WeightPlacement& placement) const { return memory(placement).total(); }

 private:
  static constexpr std::string_view who = "the weights that stream need";

  static Budget budget_of(const char* key, std::int64_t bytes) { return {key, key, bytes}; }

  std::optional<WeightPlacement> first_that_fits() const {
    if (plan_.homes != "auto") {
      for (const int slots : slots_)
        if (fits(said(slots))) return said(slots);
      return std::nullopt;
    }
    WeightPlacement resident = placement("device", slots_.front());
    if (fits(resident)) return resident;
    for (const int slots : slots_) {
      int most = all(), too_few = 0;
      if (!fits(streaming(most, slots))) continue;
      while (most - too_few > 1) {
        const int middle = (most + too_few) / 2;
        (fits(streaming(middle, slots)) ? most : too_few) = middle;
      }
      return streaming(most, slots);
    }
    return std::nullopt;
  }

  // What a person said, as far as it is of weights.
  WeightPlacement said(int slots) const { return placement(plan_.homes, slots); }

  int all() const { return blocks_ + 1; }

  // The first `count` blocks off the device, and of those the first `disk` on disk. One more: with
  // embedding and head, which go to the host.
  WeightPlacement streaming(int count, int slots, int disk = 0) const {
    std::string text;
    add_homes(text, "weights", 0, disk, blocks_, "disk");
    add_homes(text, "weights", disk, count, blocks_, "host");
    if (count == all()) text += ",weights@ends=host";
    return placement(text, slots);
  }

  // With as few blocks on disk as the host's budget wants, when nobody said where they live.
  WeightPlacement within_host(const WeightPlacement& found) const {
    const auto fits_host = [&](const WeightPlacement& one) {
      return memory(one).host_bytes() <= plan_.host_memory;
    };
    if (plan_.homes != "auto" || plan_.host_memory == 0 || fits_host(found)) return found;
    const int blocks = found.parsed.streaming(Kind::weights);
    const int count = blocks + (found.parsed.ends_stream(Kind::weights) ? 1 : 0);
    for (int disk = 1; disk <= blocks; ++disk) {
      WeightPlacement moved = streaming(count, found.slots, disk);
      if (fits_host(moved)) return moved;
    }
    return found;
  }

  WeightPlacement placement(const std::string& text, int slots) const {
    WeightPlacement out{text, slots, parse_homes(text, blocks_), Blobs::layer};
    for (const Kind other : {Kind::gradients, Kind::optimizer}) {
      out.parsed.blocks[static_cast<std::size_t>(other)].clear();
      out.parsed.ends[static_cast<std::size_t>(other)] = {};
    }
    out.parsed.slots.fill(slots);
    return out;
  }

  MemoryMap memory(const WeightPlacement& placement) const {
    spec_.options.homes = placement.parsed;
    return memory_map(spec_);
  }

  bool fits(const WeightPlacement& placement) const {
    return plan_.device_memory == 0 || device(placement) <= plan_.device_memory;
  }

  ProgramSpec& spec_;
  const PlanConfig& plan_;
  int blocks_;
  std::vector<int> slots_;
};

}  // namespace

namespace {

// What fits instead, each placed again: at most three.
class Instead {
 public:
  Instead(ProgramSpec& spec, const PlanConfig& plan) : spec_(spec), plan_(plan) {}

  std::vector<std::string> found() {
    raised_budgets();
    const auto leave = [&](bool said, const char* text, auto change) {
      PlanConfig other = plan_;
      change(other);
      if (said && out_.size() < 3 && fits(other)) out_.emplace_back(text);
    };
    leave(plan_.homes != "auto", "plan.homes = \"auto\"", [](PlanConfig& p) { p.homes = "auto"; });
    leave(plan_.slots > 2, "plan.slots = 2", [](PlanConfig& p) { p.slots = 2; });
    leave(plan_.homes != "disk", "plan.homes = \"disk\"", [](PlanConfig& p) { p.homes = "disk"; });
    leave(plan_.homes != "device", "plan.homes = \"device\"",
          [](PlanConfig& p) { p.homes = "device"; });
    leave(plan_.device_memory > 0, "plan.device_memory = \"auto\"",
          [](PlanConfig& p) { p.device_memory = 0; });
    return out_;
  }

 private:
  bool fits(const PlanConfig& plan) {
    try {
      Placer(spec_, plan).place();
      return true;
    } catch (const Error&) {
      return false;
    }
  }

  // All that are too small, to exactly what is needed.
  void raised_budgets() {
    PlanConfig plan = plan_;
    std::string text;
    for (int round = 0; round < 4; ++round) try {
        Placer(spec_, plan).place();
        if (!text.empty()) out_.push_back(text);
        return;
      } catch (const BudgetError& e) {
        text += fmt::format("{}{} = {}", text.empty() ? "" : " and ", e.key(), e.least());
        std::int64_t* const budgets[] = {&plan.device_memory, &plan.host_memory, &plan.disk_memory};
        const char* const keys[] = {"plan.device_memory", "plan.host_memory", "plan.disk_memory"};
        for (int i = 0; i < 3; ++i)
          if (e.key() == keys[i]) *budgets[i] = e.least();
      }
  }

  ProgramSpec& spec_;
  const PlanConfig& plan_;
  std::vector<std::string> out_;
};

}  // namespace

WeightPlacement place_weights(ProgramSpec spec, const PlanConfig& plan) {
  try {
    return Placer(spec, plan).place();
  } catch (BudgetError& e) {
    if (std::vector<std::string> found = Instead(spec, plan).found(); !found.empty())
      e.report().tries = std::move(found);
    throw;
  }
}

std::int64_t least_device_bytes(ProgramSpec spec, const PlanConfig& plan) {
  const Placer placer(spec, plan);
  return placer.device(placer.least());
}

}  // namespace sluice
