#include "train/device.h"

#include <algorithm>
#include <filesystem>

#include "backend/cpu/host.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/usable.h"
#include "train/peaks.h"
#include "train/this_machine.h"

namespace sluice {
namespace {

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

// What was kept of a GPU, if it is of this one.
std::optional<Machine> kept_description(const std::string& file, const CudaDevice& device) {
  std::error_code ignored;
  if (file.empty() || !std::filesystem::exists(file, ignored)) return {};
  try {
    Machine machine = load_machine(file);
    const bool same = machine.device == "cuda" && machine.model == device.name &&
                      machine.device_memory.value <= static_cast<double>(device.memory);
    return same ? std::optional(std::move(machine)) : std::nullopt;
  } catch (const Error&) {  // it can be measured again
    return {};
  }
}

}  // namespace

std::string settle_device(Config& config) {
  if (config.plan.device != "auto") return {};
  config.plan.device = "cpu";
  const ChosenDevice chosen = choose_device();
  if (chosen.device == "cpu")
    return chosen.why.empty() ? "" : fmt::format("plan.device = auto is the CPU: {}", chosen.why);
  if (config.run.poison) return "plan.device = auto is the CPU: run.poison is of the CPU";
  config.plan.device = chosen.device;
  return {};
}

std::string gpu_file(const std::string& machine_file) {
  if (machine_file.empty()) return {};
  return (std::filesystem::path(machine_file).parent_path() / "gpu.toml").string();
}

Device::Device(const Config& config, const std::string& machine_file)
    : cpu_(cpu_options(config)), gpu_(cuda_index(config.plan.device)) {
  if (gpu_ < 0) return;
  try {
    const CudaDevice device = cuda_device(gpu_);
    name_ = device.name;
    memory_ = device.memory, free_ = device.free;
    described_ = kept_description(gpu_file(machine_file), device);
  } catch (Error& e) {
    if (e.report().where == "plan.device") e.report().where = config.place("plan.device");
    throw;
  }
  rest_ = usual_cuda_rest;
  if (described_ && described_->device_reserved.value > 0)
    rest_ = static_cast<std::int64_t>(described_->device_reserved.value);
  refuse_poison(config);
}

std::string Device::text() const {
  if (is_gpu()) return fmt::format("{} (cuda:{})", name_, gpu_);
  return fmt::format("{} threads, {}", cpu_.threads, name_of(cpu_.isa));
}

std::int64_t Device::available() const { return is_gpu() ? free_ : available_memory(); }

Counted Device::counted() const {
  return is_gpu() ? Counted::on_gpu(rest_, available_memory()) : Counted(cpu_.threads);
}

double Device::peak_flops(bool bf16) const { return is_gpu() ? dense_peak(name_, bf16) : 0; }

std::unique_ptr<Backend> Device::take() const {
  if (is_gpu()) return make_cuda(gpu_);
  return std::make_unique<CpuBackend>(cpu_);
}

std::int64_t Device::bytes_taken() const {
  return std::max<std::int64_t>(0, cuda_bytes_in_use(gpu_) - taken());
}

PlanMachine plan_machine(const Device& device, const ThisMachine& here) {
  PlanMachine out = plan_machine(here);
  if (!device.is_gpu()) return out;
  out.device = device.backend(), out.model = device.model(), out.isa = "";
  out.threads = device.workers(), out.memory = device.memory();
  return out;
}

}  // namespace sluice
