#include "graph/numerics.h"

namespace sluice {

std::string_view name_of(StateFormat format) {
  return format == StateFormat::exact ? "exact" : "compact";
}

std::string_view name_of(GradientFormat format) {
  static constexpr std::string_view names[] = {"float32", "bf16", "int8"};
  return names[static_cast<std::size_t>(format)];
}

std::string_view name_of(AttentionKernels kernels) {
  static constexpr std::string_view names[] = {"own", "cudnn", "cudnn-unordered"};
  return names[static_cast<std::size_t>(kernels)];
}

}  // namespace sluice
