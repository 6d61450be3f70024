#include <charconv>

#include "backend/cuda/cuda.h"

namespace sluice {

int cuda_index(const std::string& device) {
  if (device == "auto" || device == "cpu") return -1;
  if (device == "cuda") return 0;
  constexpr std::string_view prefix = "cuda:";
  int index = -1;
  if (device.starts_with(prefix)) {
    const char* const end = device.data() + device.size();
    const auto read = std::from_chars(device.data() + prefix.size(), end, index);
    if (read.ec != std::errc() || read.ptr != end) index = -1;
  }
  require(index >= 0 && index < 1024, [&] {
    return Error(Exit::usage, {fmt::format("plan.device cannot be {}", device),
                               "plan.device",
                               "one of auto, cpu, cuda:N",
                               device,
                               {"plan.device = \"cuda:0\""}});
  });
  return index;
}

}  // namespace sluice
