#include "backend/cuda/gpu_findings.h"

namespace sluice {
namespace {

constexpr double gib = 1 << 30;
constexpr std::int64_t much_in_use = std::int64_t{1} << 30;
constexpr int hot = 85;  // degrees, at rest

Finding finding_of(const Error& e, const char* source) {
  const Report& report = e.report();
  return {report.what, source, report.tries.empty() ? "" : report.tries.front()};
}

void examine_use(const GpuExamined& e, std::vector<Finding>& out) {
  for (std::size_t i = 0; i < e.facts.gpus.size(); ++i) try {
      require_gpu(e.facts, e.build, static_cast<int>(i));
    } catch (const Error& error) {
      out.push_back(finding_of(error, "compute capability"));
    }
  if (!e.build.kernels)
    out.push_back({"this program was built without CUDA: it cannot use the GPU", "the build",
                   "make setup-cuda, then make build"});
  for (std::size_t i = 0; i < e.libraries.size(); ++i) try {
      require_library(needed_libraries()[i], e.libraries[i]);
    } catch (const Error& error) {
      out.push_back(finding_of(error, needed_libraries()[i].file));
    }
}

void examine_state(std::size_t index, const GpuState& now, std::vector<Finding>& out) {
  const auto add = [&](const std::string& what, const std::string& remedy) {
    out.push_back({fmt::format("GPU {}: {}", index, what), "libnvidia-ml.so.1", remedy});
  };
  if (now.lost > 0)
    add(fmt::format("{} errors of its memory could not be corrected", now.lost),
        "nvidia-smi -q -d ECC, and another GPU");
  if (now.used > much_in_use || now.programs > 0)
    add(fmt::format("other programs have {:.1f} GiB of its memory",
                    static_cast<double>(now.used) / gib),
        "end them: nvidia-smi lists them");
  if (now.width > 0 && now.width < now.most_width)
    add(fmt::format("its PCIe link has {} of {} lanes", now.width, now.most_width),
        "another slot, or another machine: copies from the host are slower");
  if (now.limit > 0 && now.limit < now.usual)
    add(fmt::format("its power is limited to {:.0f} of {:.0f} W", now.limit, now.usual),
        "whoever looks after the machine can raise it: nvidia-smi -pl");
  if (now.temperature >= hot)
    add(fmt::format("it has {} degrees", now.temperature), "more cooling: it will slow down");
}

}  // namespace

std::vector<Finding> gpu_findings(const GpuExamined& e) {
  std::vector<Finding> out;
  if (e.facts.driver == 0) return out;
  if (e.facts.gpus.empty() || e.facts.driver < e.build.version / 1000 * 1000) {
    try {
      require_gpu(e.facts, e.build, 0);
    } catch (const Error& error) {
      out.push_back(finding_of(error, "libcuda.so.1"));
    }
    return out;
  }
  examine_use(e, out);
  for (std::size_t i = 0; i < e.states.size(); ++i)
    if (e.states[i].known) examine_state(i, e.states[i], out);
  return out;
}

}  // namespace sluice
