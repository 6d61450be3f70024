#include "inference/placing.h"

#include <optional>

#include "planner/memory_report.h"

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
    slots_ = {resolve(checked, {1}, 1).slots};
    if (plan.slots == 0) slots_ = {3, 2};
  }

  WeightPlacement place() const {
    const std::optional<WeightPlacement> found = first_that_fits();
    require(found.has_value(), [&] {
      const std::int64_t needed = device(least());
      return Error(Exit::memory,
                   {fmt::format("the device's budget is too small: {} are the least that do",
                                human_bytes(needed)),
                    "plan.device_memory",
                    fmt::format("at least {} bytes", needed),
                    fmt::format("{}", plan_.device_memory),
                    {fmt::format("plan.device_memory = {}", needed)}});
    });
    const std::int64_t host = memory(*found).host_bytes(), there = plan_.host_memory;
    require(there == 0 || host <= there, [&] {
      return Error(Exit::memory, {fmt::format("the weights that stream need {} of host memory",
                                              human_bytes(host)),
                                  "plan.host_memory",
                                  fmt::format("at least {} bytes", host),
                                  fmt::format("{}", there),
                                  {fmt::format("plan.host_memory = {}", host)}});
    });
    return *found;
  }

  WeightPlacement least() const {
    return plan_.homes == "auto" ? streaming(blocks_, slots_.back()) : said(slots_.back());
  }

  std::int64_t device(const WeightPlacement& placement) const { return memory(placement).total(); }

 private:
  std::optional<WeightPlacement> first_that_fits() const {
    if (plan_.homes != "auto") {
      for (const int slots : slots_)
        if (fits(said(slots))) return said(slots);
      return std::nullopt;
    }
    if (fits(streaming(0, slots_.front()))) return streaming(0, slots_.front());
    for (const int slots : slots_) {
      int most = blocks_, too_few = 0;
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

  WeightPlacement streaming(int count, int slots) const {
    if (count == 0) return placement("device", slots);
    return placement(
        count == blocks_ ? "weights=host" : fmt::format("weights@0-{}=host", count - 1), slots);
  }

  WeightPlacement placement(const std::string& text, int slots) const {
    WeightPlacement out{text, slots, parse_homes(text, blocks_)};
    for (const Kind other : {Kind::gradients, Kind::optimizer})
      out.parsed.blocks[static_cast<std::size_t>(other)].clear();
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

WeightPlacement place_weights(ProgramSpec spec, const PlanConfig& plan) {
  return Placer(spec, plan).place();
}

std::int64_t least_device_bytes(ProgramSpec spec, const PlanConfig& plan) {
  const Placer placer(spec, plan);
  return placer.device(placer.least());
}

}  // namespace sluice
