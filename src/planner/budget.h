// What a person hears whose budget of a tier is too small: how much would do. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"

namespace sluice {

struct Budget {
  std::string key;         // of the option: "plan.device_memory"
  std::string place;       // where it was said
  std::int64_t bytes = 0;  // 0: none was
};

// More is needed of a tier than its budget.
class BudgetError : public Error {
 public:
  BudgetError(const Budget& budget, std::string tier, Exit code, std::string what,
              std::int64_t least);
  const std::string& key() const { return key_; }    // of the option
  const std::string& tier() const { return tier_; }  // "host memory"
  std::int64_t least() const { return least_; }      // bytes that would do
  std::int64_t budget() const { return budget_; }

 private:
  std::string key_, tier_;
  std::int64_t least_, budget_;
};

// Of the device, when nothing fits.
BudgetError below_the_least(const Budget& budget, std::int64_t least);

// Throws `code` when `who` ("what streams needs") takes more of `tier` ("host memory") than its
// budget.
void require_room(const Budget& budget, Exit code, std::string_view who, std::string_view tier,
                  std::int64_t needed);

}  // namespace sluice
