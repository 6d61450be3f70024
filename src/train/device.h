// What computes a run: this CPU, or one GPU. Looks at the machine once, and takes nothing yet.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend/cpu/cpu.h"
#include "planner/memory_report.h"
#include "train/config.h"
#include "train/fit.h"
#include "train/plan_file.h"

namespace sluice {

// plan.device = auto becomes what it stands for here: a GPU that can be used, or the CPU. Returns
// why a GPU that is there is not taken, in one line, or nothing.
std::string settle_device(Config& config);

// The file of what `sluice doctor` measured of a GPU: beside that of the CPU. Empty for none.
std::string gpu_file(const std::string& machine_file);

class Device {
 public:
  // Exit::usage, naming plan.device or run.isa, for what is not there, and for options that a GPU
  // cannot obey. `machine_file`: what `sluice doctor` measured; empty: nothing. REQUIRES: the
  // config is settled; auto is the CPU.
  explicit Device(const Config& config, const std::string& machine_file = {});

  bool is_gpu() const { return gpu_ >= 0; }
  const CpuBackend::Options& cpu() const { return cpu_; }  // what reads data, and may compute
  // What programs are made for: a GPU is one worker.
  int workers() const { return is_gpu() ? 1 : cpu_.threads; }
  // The two facts of the key: "cpu" and its instruction set, or "cuda" and the GPU's name.
  std::string backend() const { return is_gpu() ? "cuda" : "cpu"; }
  std::string model() const { return is_gpu() ? name_ : std::string(name_of(cpu_.isa)); }
  std::string text() const;  // "4 threads, avx512" or "NVIDIA H200 (cuda:0)"
  // Bytes that a run may take of where the plan's memory lies, and how they are counted.
  std::int64_t available() const;
  std::int64_t taken() const { return memory_ - free_; }  // of a GPU, by other programs
  std::int64_t memory() const { return memory_; }         // of a GPU, all of it; 0: a CPU
  Counted counted() const;
  // Dense multiply-adds per second as the maker says, counted twice; 0: not known, or a CPU.
  double peak_flops(bool bf16) const;
  // As `sluice doctor` measured this GPU; none: it did not, or this is a CPU.
  const std::optional<Machine>& described() const { return described_; }

  std::unique_ptr<Backend> take() const;
  // Bytes of the GPU's memory that were taken since the device was looked at. REQUIRES: a GPU,
  // after take().
  std::int64_t bytes_taken() const;

 private:
  CpuBackend::Options cpu_;
  int gpu_;
  std::string name_;
  std::int64_t memory_ = 0, free_ = 0, rest_ = 0;
  std::optional<Machine> described_;
};

// What a plan is made for: of the machine at hand, the device.
PlanMachine plan_machine(const Device& device, const ThisMachine& here);

}  // namespace sluice
