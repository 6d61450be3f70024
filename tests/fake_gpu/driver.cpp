// A driver, a management library and a library of products for GPUs which are not there, for tests
// of what is said before one is used: the few functions that backend/cuda asks then. What they
// answer stands in the environment:
//   FAKE_CUDA_VERSION (13000)  FAKE_CUDA_GPUS (1)  FAKE_CUDA_CAPABILITY (90)
//   FAKE_CUDA_MEMORY (149250113536)  FAKE_CUDA_FREE (all of it)   bytes
//   FAKE_CUBLAS_VERSION (130100)
#include <cstdlib>
#include <cstring>

namespace {

long long number(const char* name, long long otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}
long long memory() { return number("FAKE_CUDA_MEMORY", 149250113536); }

int said(char* to, int room, const char* text) {
  std::strncpy(to, text, static_cast<std::size_t>(room));
  return 0;
}

struct Memory {
  unsigned version;
  unsigned long long total, reserved, free, used;
};

}  // namespace

extern "C" {

int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) {
  *version = static_cast<int>(number("FAKE_CUDA_VERSION", 13000));
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = static_cast<int>(number("FAKE_CUDA_GPUS", 1));
  return 0;
}
int cuGetErrorString(int, const char** text) {
  *text = "no CUDA-capable device is detected";
  return 0;
}
int cuDeviceGet(int* device, int index) {
  *device = index;
  return 0;
}
int cuDeviceGetName(char* name, int room, int) { return said(name, room, "NVIDIA Test GPU"); }
int cuDeviceGetPCIBusId(char* bus, int room, int) { return said(bus, room, "0000:01:00.0"); }
int cuDeviceGetAttribute(int* value, int which, int) {
  const long long capability = number("FAKE_CUDA_CAPABILITY", 90);
  *value = which == 75   ? static_cast<int>(capability / 10)
           : which == 76 ? static_cast<int>(capability % 10)
           : which == 16 ? 132
           : which == 13 ? 1980000
                         : 0;
  return 0;
}
int cuDeviceTotalMem_v2(std::size_t* bytes, int) {
  *bytes = static_cast<std::size_t>(memory());
  return 0;
}

std::size_t cublasLtGetVersion() {
  return static_cast<std::size_t>(number("FAKE_CUBLAS_VERSION", 130100));
}

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlSystemGetDriverVersion(char* text, unsigned room) {
  return said(text, static_cast<int>(room), "580.1");
}
int nvmlDeviceGetHandleByPciBusId_v2(const char*, void** device) {
  *device = device;
  return 0;
}
int nvmlDeviceGetMemoryInfo_v2(void*, Memory* out) {
  out->total = static_cast<unsigned long long>(memory());
  out->free = static_cast<unsigned long long>(number("FAKE_CUDA_FREE", memory()));
  out->used = out->total - out->free;
  return 0;
}
}
