#include "planner/budget.h"

#include "planner/memory_report.h"

namespace sluice {

BudgetError::BudgetError(const Budget& budget, std::string tier, Exit code, std::string what,
                         std::int64_t least)
    : Error(code, {std::move(what),
                   budget.place,
                   fmt::format("at least {} bytes", least),
                   fmt::format("{}", budget.bytes),
                   {fmt::format("{} = {}", budget.key, least)}}),
      key_(budget.key),
      tier_(std::move(tier)),
      least_(least),
      budget_(budget.bytes) {}

BudgetError below_the_least(const Budget& budget, std::int64_t least) {
  return {
      budget, "the device's memory", Exit::memory,
      fmt::format("the device's budget is too small: {} are the least that do", human_bytes(least)),
      least};
}

void require_room(const Budget& budget, Exit code, std::string_view who, std::string_view tier,
                  std::int64_t needed) {
  require(budget.bytes == 0 || needed <= budget.bytes, [&] {
    return BudgetError(budget, std::string(tier), code,
                       fmt::format("{} {} of {}", who, human_bytes(needed), tier), needed);
  });
}

}  // namespace sluice
