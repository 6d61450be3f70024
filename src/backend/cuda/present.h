// What a machine has of NVIDIA's, asked of the driver itself, which is loaded for that. The same in
// a program that was built without CUDA; takes no memory of a GPU and starts nothing on it.
//
// Asked anew at each call; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

struct GpuFacts {
  std::string name;                 // "NVIDIA H200"
  std::string bus;                  // "0000:3B:00.0"
  int major = 0, minor = 0;         // compute capability
  int sms = 0;                      // streaming multiprocessors
  int clock = 0, memory_clock = 0;  // MHz, the most
  std::int64_t memory = 0, l2 = 0;  // bytes
};

struct CudaFacts {
  int driver = 0;   // the newest CUDA that it knows: 13000 is 13.0; 0: there is no driver
  std::string why;  // there are no GPUs: the driver's reason, or the loader's
  std::vector<GpuFacts> gpus;
};
CudaFacts cuda_facts();

// "13.0"
std::string cuda_version_text(int version);

// A GPU as NVIDIA's management library sees it now; zeros for what it does not say.
struct GpuState {
  bool known = false;
  std::int64_t free = 0, used = 0;         // bytes, of all programs
  double power = 0, limit = 0, usual = 0;  // watts: now, the most allowed, the most by default
  int clock = 0, memory_clock = 0;         // MHz, now
  int generation = 0, width = 0;           // of the PCIe link now
  int most_generation = 0, most_width = 0;
  int nvlinks = 0;  // that are up
  int temperature = 0;
  int programs = 0;       // that compute on it
  std::int64_t lost = 0;  // errors of memory that could not be corrected, since it was started
};
GpuState gpu_state(const std::string& bus);
std::string driver_release();  // "580.95.05"; empty: not said

}  // namespace sluice
