#include "doctor_gpu.h"

#include "backend/cpu/host.h"
#include "planner/memory_report.h"
#include "train/device.h"
#include "train/measure_gpu.h"

namespace sluice {
namespace {

constexpr double system_share = 0.1;  // of the host's memory, for everything else

// The description of the machine around the GPU, with what is the GPU's measured.
Machine measured_gpu(int index, bool quick, const std::string& date, const Machine& host,
                     FoundLibrary& attention) {
  Config config;
  config.plan.device = fmt::format("cuda:{}", index);
  const Device device(config);
  Machine out;
  out.name = "this-machine";
  out.about = fmt::format("{} in a machine of {} cores and {}", device.model(), host.cores.value,
                          human_bytes(static_cast<std::int64_t>(host.host_memory.value)));
  out.device = "cuda", out.model = device.model();
  out.packs = false;
  const std::string from = "sluice doctor, " + date;
  out.device_memory = {static_cast<double>(device.memory()), Origin::measured,
                       "what the driver gives"};
  out.host_memory = host.host_memory, out.cores = host.cores;
  out.host_reserved = {system_share * host.host_memory.value, Origin::assumed,
                       "a tenth, for the process and the system"};
  out.disk_memory = host.disk_memory;
  out.disk_in = host.disk_in, out.disk_out = host.disk_out, out.disk_both = host.disk_both;
  const std::unique_ptr<Backend> backend = device.take();
  measure_gpu(*backend,
              {.quick = quick, .from = from, .taken = [&] { return device.bytes_taken(); }}, out);
  attention = loaded_library("libcudnn.so.9", "cudnnGetVersion");
  return out;
}

std::string gpu_line(std::size_t index, const GpuFacts& gpu) {
  return fmt::format("{:<20}{}, compute capability {}.{}, {} SMs, {} MHz, {}\n",
                     fmt::format("gpu {}", index), gpu.name, gpu.major, gpu.minor, gpu.sms,
                     gpu.clock, human_bytes(gpu.memory));
}

std::string state_line(const GpuState& now) {
  if (!now.known) return fmt::format("{:<20}{}\n", "", "libnvidia-ml.so.1 says nothing of it");
  return fmt::format(
      "{:<20}PCIe {} x{} (at most {} x{}), {} NVLinks; {:.0f} of {:.0f} W, {} C, {} MHz now; {} in "
      "use\n",
      "", now.generation, now.width, now.most_generation, now.most_width, now.nvlinks, now.power,
      now.limit, now.temperature, now.clock, human_bytes(now.used));
}

std::string rates_text(const Machine& m) {
  std::string out = "gpu, TFLOP/s, random data\n";
  for (const GemmRate& one : m.gemm)
    out += fmt::format("  {:<28}{:9.1f}  {}\n", fmt::format("{} x {} x {}", one.m, one.k, one.n),
                       one.flops.value / 1e12, one.type);
  for (std::size_t i = 0; i + 1 < m.attention.size(); i += 2)
    out +=
        fmt::format("  {:<28}{:9.1f}{:9.1f}  forward, backward; the causal half\n",
                    fmt::format("attention {} x {}", m.attention[i].sequence, m.attention[i].head),
                    m.attention[i].flops.value / 1e12, m.attention[i + 1].flops.value / 1e12);
  out += fmt::format(
      "{:<20}copy {:.3f} TB/s, read and written; an op begins {:.1f} us after another\n",
      "gpu memory", m.memory_rate.value / 1e12, 1e6 * m.launch.value);
  out += fmt::format("{:<20}{} beside a plan's own\n", "",
                     human_bytes(static_cast<std::int64_t>(m.device_reserved.value)));
  out += fmt::format(
      "{:<20}in {:.1f}, out {:.1f}, both ways {:.1f}; a product loses {:.1f}% beside {:.1f}\n",
      "gpu link, GB/s", m.host_in.value / 1e9, m.host_out.value / 1e9, m.host_both.value / 1e9,
      100 * m.slowing_part.value, m.slowing_rate.value / 1e9);
  return out;
}

}  // namespace

GpuDiagnosis diagnose_gpus(int index, bool quick, const std::string& date, const Machine& host) {
  GpuDiagnosis out;
  GpuExamined& e = out.examined;
  e.facts = cuda_facts();
  e.build = cuda_build();
  if (e.facts.driver == 0) return out;
  out.release = driver_release();
  for (const NeededLibrary& one : needed_libraries()) e.libraries.push_back(find_library(one));
  for (const GpuFacts& gpu : e.facts.gpus) e.states.push_back(gpu_state(gpu.bus));
  try {
    require_gpu(e.facts, e.build, index);
    for (std::size_t i = 0; i < e.libraries.size(); ++i)
      require_library(needed_libraries()[i], e.libraries[i]);
  } catch (const Error&) {  // the findings say so
    return out;
  }
  if (e.build.kernels) out.measured = measured_gpu(index, quick, date, host, out.attention);
  return out;
}

std::string gpu_text(const GpuDiagnosis& gpus) {
  const GpuExamined& e = gpus.examined;
  if (e.facts.driver == 0) return {};
  std::string out =
      fmt::format("{:<20}{} for CUDA {}\n", "driver", gpus.release.empty() ? "one" : gpus.release,
                  cuda_version_text(e.facts.driver));
  std::vector<FoundLibrary> libraries = e.libraries;
  if (!gpus.attention.path.empty()) libraries.push_back(gpus.attention);
  for (const FoundLibrary& one : libraries)
    out += fmt::format("{:<20}{:<50} {}\n", "library", fmt::format("{} {}", one.file, one.version),
                       one.path.empty() ? "not found" : one.path);
  for (std::size_t i = 0; i < e.facts.gpus.size(); ++i)
    out += gpu_line(i, e.facts.gpus[i]) + state_line(e.states[i]);
  return out + (gpus.measured ? rates_text(*gpus.measured) : "");
}

nlohmann::json gpu_json(const GpuDiagnosis& gpus) {
  const GpuExamined& e = gpus.examined;
  nlohmann::json all = nlohmann::json::array(), libraries = nlohmann::json::array();
  for (std::size_t i = 0; i < e.facts.gpus.size(); ++i) {
    const GpuFacts& gpu = e.facts.gpus[i];
    const GpuState& now = e.states[i];
    all.push_back({{"name", gpu.name},
                   {"capability", fmt::format("{}.{}", gpu.major, gpu.minor)},
                   {"sms", gpu.sms},
                   {"clock", gpu.clock},
                   {"memory", gpu.memory},
                   {"in_use", now.used},
                   {"power_limit", now.limit},
                   {"pcie", {{"generation", now.generation}, {"width", now.width}}},
                   {"nvlinks", now.nvlinks}});
  }
  for (const FoundLibrary& one : e.libraries)
    libraries.push_back({{"file", one.file}, {"path", one.path}, {"version", one.version}});
  return {{"driver", gpus.release},
          {"cuda", e.facts.driver},
          {"libraries", libraries},
          {"gpus", all},
          {"machine", gpus.measured ? nlohmann::json(to_toml(*gpus.measured)) : nlohmann::json()}};
}

}  // namespace sluice
