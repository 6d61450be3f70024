#include "train/device.h"

#include "backend/cpu/host.h"
#include "backend/cuda/cuda.h"

namespace sluice {
namespace {

// What the backend takes beside the plan's memory: scratch, the workspace of products, and what
// the driver keeps of kernels and libraries.
constexpr std::int64_t beside_the_plan = std::int64_t{512} << 20;

CpuBackend::Options cpu_options(const Config& config) {
  CpuBackend::Options out;
  out.threads = config.run.threads == 0 ? usable_threads() : static_cast<int>(config.run.threads);
  out.isa = config.run.isa == "auto" ? best_isa() : parse_isa(config.run.isa);
  return out;
}

void refuse_poison(const Config& config) {
  require(!config.run.poison, [&] {
    return Error(Exit::usage, {"freed memory is not poisoned on a GPU",
                               config.place("run.poison"),
                               "false, or the CPU",
                               fmt::format("true with {}", config.plan.device),
                               {"plan.device = \"cpu\"", "run.poison = false"}});
  });
}

}  // namespace

Device::Device(const Config& config)
    : cpu_(cpu_options(config)), gpu_(cuda_index(config.plan.device)) {
  if (gpu_ < 0) return;
  try {
    const CudaDevice device = cuda_device(gpu_);
    name_ = device.name;
    memory_ = device.memory, free_ = device.free;
  } catch (Error& e) {
    if (e.report().where == "plan.device") e.report().where = config.place("plan.device");
    throw;
  }
  refuse_poison(config);
}

std::string Device::text() const {
  if (is_gpu()) return fmt::format("{} (cuda:{})", name_, gpu_);
  return fmt::format("{} threads, {}", cpu_.threads, name_of(cpu_.isa));
}

std::int64_t Device::available() const { return is_gpu() ? free_ : available_memory(); }

MemoryBytes Device::wanted(const MemoryBytes& planned) const {
  if (!is_gpu()) return planned;
  MemoryBytes out = planned;
  out.total += beside_the_plan - out.process - out.host;
  out.process = beside_the_plan, out.host = 0;
  return out;
}

double Device::peak_flops(bool bf16) const {
  // Dense, SXM parts, by NVIDIA's data sheets.
  if (name_.find("H100") != std::string::npos || name_.find("H200") != std::string::npos)
    return bf16 ? 989.4e12 : 66.9e12;
  return 0;
}

std::unique_ptr<Backend> Device::take() const {
  if (is_gpu()) return make_cuda(gpu_);
  return std::make_unique<CpuBackend>(cpu_);
}

}  // namespace sluice
