#include "train/peaks.h"

namespace sluice {
namespace {

struct Peak {
  std::string_view name;  // part of the GPU's; the first that fits
  double bf16, float32;   // TFLOP/s
};
// By NVIDIA's data sheets.
constexpr Peak peaks[] = {
    {"B300", 2250, 75},        {"B200", 2250, 75},       {"GB200", 2500, 80},
    {"GH200", 989.4, 66.9},    {"H200", 989.4, 66.9},    {"H100 PCIe", 756.4, 51.2},
    {"H100 NVL", 835.5, 60},   {"H100", 989.4, 66.9},    {"A100", 311.9, 19.5},
    {"L40S", 362.1, 91.6},     {"A40", 149.7, 37.4},     {"RTX 5090", 209.5, 104.8},
    {"RTX 4090", 165.2, 82.6}, {"RTX 3090", 71.2, 35.6},
};

}  // namespace

double dense_peak(std::string_view gpu, bool bf16) {
  for (const Peak& one : peaks)
    if (gpu.find(one.name) != std::string_view::npos) return 1e12 * (bf16 ? one.bf16 : one.float32);
  return 0;
}

double causal_flops(const ModelConfig& model, std::int64_t sequence) {
  const auto layers = static_cast<double>(model.layers), width = static_cast<double>(model.width);
  const auto inner = static_cast<double>(model.inner_width());
  const double block = 4 * width * width + 2 * width * inner;
  const double head = width * static_cast<double>(model.vocab);
  return 6 * (layers * block + head) + 6 * layers * width * static_cast<double>(sequence);
}

}  // namespace sluice
