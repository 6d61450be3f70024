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

// Of the device, when nothing fits.
Error below_the_least(const Budget& budget, std::int64_t least);

// Throws `code` when `who` ("what streams needs") takes more of `tier` ("host memory") than its
// budget.
void require_room(const Budget& budget, Exit code, std::string_view who, std::string_view tier,
                  std::int64_t needed);

}  // namespace sluice
