#include "backend/cuda/present.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>

namespace sluice {
namespace {

// A library by its functions. It stays loaded: who computes later needs it again.
class Functions {
 public:
  explicit Functions(const char* file) : handle_(::dlopen(file, RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ != nullptr) return;
    const char* const said = ::dlerror();
    why_ = said == nullptr ? "it cannot be loaded" : said;
  }
  bool loaded() const { return handle_ != nullptr; }
  const std::string& why() const { return why_; }
  // What the function returns; -1 when the library has none of that name.
  template <class... Args>
  int call(const char* name, Args... args) const {
    if (handle_ == nullptr) return -1;
    const auto function = reinterpret_cast<int (*)(Args...)>(::dlsym(handle_, name));
    return function == nullptr ? -1 : function(args...);
  }

 private:
  void* handle_;
  std::string why_;
};

constexpr int no_device = 100;  // CUDA_ERROR_NO_DEVICE

// Numbers of CUdevice_attribute.
enum Attribute : int {
  a_clock = 13,
  a_sms = 16,
  a_memory_clock = 36,
  a_l2 = 38,
  a_major = 75,
  a_minor = 76
};

std::string error_text(const Functions& driver, int code) {
  const char* text = nullptr;
  if (driver.call("cuGetErrorString", code, &text) != 0 || text == nullptr)
    return fmt::format("error {} of the driver", code);
  return text;
}

GpuFacts facts_of(const Functions& driver, int index) {
  GpuFacts out;
  int device = index;
  (void)driver.call("cuDeviceGet", &device, index);
  std::array<char, 256> text{};
  if (driver.call("cuDeviceGetName", text.data(), static_cast<int>(text.size() - 1), device) == 0)
    out.name = text.data();
  text = {};
  if (driver.call("cuDeviceGetPCIBusId", text.data(), static_cast<int>(text.size() - 1), device) ==
      0)
    out.bus = text.data();
  const auto attribute = [&](Attribute which) {
    int value = 0;
    return driver.call("cuDeviceGetAttribute", &value, static_cast<int>(which), device) == 0 ? value
                                                                                             : 0;
  };
  out.major = attribute(a_major), out.minor = attribute(a_minor);
  out.sms = attribute(a_sms);
  out.clock = attribute(a_clock) / 1000, out.memory_clock = attribute(a_memory_clock) / 1000;
  out.l2 = attribute(a_l2);
  std::size_t bytes = 0;
  if (driver.call("cuDeviceTotalMem_v2", &bytes, device) == 0)
    out.memory = static_cast<std::int64_t>(bytes);
  return out;
}

// The management library, between its start and its end.
class Management {
 public:
  Management() : functions_("libnvidia-ml.so.1"), good_(functions_.call("nvmlInit_v2") == 0) {}
  ~Management() {
    if (good_) (void)functions_.call("nvmlShutdown");
  }
  Management(const Management&) = delete;
  Management& operator=(const Management&) = delete;

  bool good() const { return good_; }
  template <class... Args>
  bool ask(const char* name, Args... args) const {
    return good_ && functions_.call(name, args...) == 0;
  }
  // A number of a device; 0: it is not said.
  template <class... Args>
  int number(const char* name, void* device, Args... args) const {
    unsigned value = 0;
    return ask(name, device, args..., &value) ? static_cast<int>(value) : 0;
  }

 private:
  Functions functions_;
  bool good_;
};

struct MemoryOfAll {  // nvmlMemory_v2_t
  unsigned version = static_cast<unsigned>(sizeof(MemoryOfAll)) | 2u << 24;
  unsigned long long total = 0, reserved = 0, free = 0, used = 0;
};

}  // namespace

std::string cuda_version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

CudaFacts cuda_facts() {
  CudaFacts out;
  const Functions driver("libcuda.so.1");
  if (!driver.loaded()) {
    out.why = driver.why();
    return out;
  }
  if (driver.call("cuDriverGetVersion", &out.driver) != 0) out.driver = 0;
  if (const int code = driver.call("cuInit", 0u); code != 0) {
    out.why = error_text(driver, code);
    return out;
  }
  int count = 0;
  if (const int code = driver.call("cuDeviceGetCount", &count); code != 0) count = 0;
  if (count == 0) out.why = error_text(driver, no_device);
  for (int index = 0; index < count; ++index) out.gpus.push_back(facts_of(driver, index));
  return out;
}

GpuState gpu_state(const std::string& bus) {
  GpuState out;
  const Management nvml;
  void* device = nullptr;
  if (!nvml.ask("nvmlDeviceGetHandleByPciBusId_v2", bus.c_str(), &device)) return out;
  out.known = true;
  MemoryOfAll memory;
  if (nvml.ask("nvmlDeviceGetMemoryInfo_v2", device, &memory)) {
    out.free = static_cast<std::int64_t>(memory.free);
    out.used = static_cast<std::int64_t>(memory.used);
  }
  const auto watts = [&](const char* name) { return 1e-3 * nvml.number(name, device); };
  out.power = watts("nvmlDeviceGetPowerUsage");
  out.limit = watts("nvmlDeviceGetEnforcedPowerLimit");
  out.usual = watts("nvmlDeviceGetPowerManagementDefaultLimit");
  constexpr unsigned of_sms = 1, of_memory = 2;
  out.clock = nvml.number("nvmlDeviceGetClockInfo", device, of_sms);
  out.memory_clock = nvml.number("nvmlDeviceGetClockInfo", device, of_memory);
  out.generation = nvml.number("nvmlDeviceGetCurrPcieLinkGeneration", device);
  out.width = nvml.number("nvmlDeviceGetCurrPcieLinkWidth", device);
  out.most_generation = nvml.number("nvmlDeviceGetMaxPcieLinkGeneration", device);
  out.most_width = nvml.number("nvmlDeviceGetMaxPcieLinkWidth", device);
  for (unsigned link = 0; link < 18; ++link)
    out.nvlinks += nvml.number("nvmlDeviceGetNvLinkState", device, link);
  out.temperature = nvml.number("nvmlDeviceGetTemperature", device, 0u);
  unsigned programs = 0;  // with no room for their names the answer is their number
  (void)nvml.ask("nvmlDeviceGetComputeRunningProcesses_v3", device, &programs,
                 static_cast<void*>(nullptr));
  out.programs = static_cast<int>(programs);
  unsigned long long lost = 0;
  constexpr unsigned uncorrected = 1, since_start = 0;
  if (nvml.ask("nvmlDeviceGetTotalEccErrors", device, uncorrected, since_start, &lost))
    out.lost = static_cast<std::int64_t>(lost);
  return out;
}

std::string driver_release() {
  const Management nvml;
  std::array<char, 96> text{};
  const bool said =
      nvml.ask("nvmlSystemGetDriverVersion", text.data(), static_cast<unsigned>(text.size() - 1));
  return said ? text.data() : "";
}

}  // namespace sluice
