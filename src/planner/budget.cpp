#include "planner/budget.h"

#include "planner/memory_report.h"

namespace sluice {
namespace {

Error too_small(const Budget& budget, Exit code, std::string what, std::int64_t needed) {
  return Error(code, {std::move(what),
                      budget.place,
                      fmt::format("at least {} bytes", needed),
                      fmt::format("{}", budget.bytes),
                      {fmt::format("{} = {}", budget.key, needed)}});
}

}  // namespace

Error below_the_least(const Budget& budget, std::int64_t least) {
  return too_small(
      budget, Exit::memory,
      fmt::format("the device's budget is too small: {} are the least that do", human_bytes(least)),
      least);
}

void require_room(const Budget& budget, Exit code, std::string_view who, std::string_view tier,
                  std::int64_t needed) {
  require(budget.bytes == 0 || needed <= budget.bytes, [&] {
    return too_small(budget, code, fmt::format("{} {} of {}", who, human_bytes(needed), tier),
                     needed);
  });
}

}  // namespace sluice
