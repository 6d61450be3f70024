// What computes a run: this CPU, or one GPU. Looks at the machine once, and takes nothing yet.
#pragma once

#include <memory>
#include <string>

#include "backend/cpu/cpu.h"
#include "planner/memory_report.h"
#include "train/config.h"

namespace sluice {

class Device {
 public:
  // Exit::usage, naming plan.device or run.isa, for what is not there, and for options that a GPU
  // cannot obey.
  explicit Device(const Config& config);

  bool is_gpu() const { return gpu_ >= 0; }
  const CpuBackend::Options& cpu() const { return cpu_; }  // what reads data, and may compute
  // What programs are made for: a GPU is one worker.
  int workers() const { return is_gpu() ? 1 : cpu_.threads; }
  // The two facts of the key: "cpu" and its instruction set, or "cuda" and the GPU's name.
  std::string backend() const { return is_gpu() ? "cuda" : "cpu"; }
  std::string model() const { return is_gpu() ? name_ : std::string(name_of(cpu_.isa)); }
  std::string text() const;  // "4 threads, avx512" or "NVIDIA H200"
  // Bytes that a run may take of where the plan's memory lies, and what it wants of them.
  std::int64_t available() const;
  std::int64_t memory() const { return memory_; }  // of a GPU, all of it; 0: a CPU
  MemoryBytes wanted(const MemoryBytes& planned) const;
  // Dense multiply-adds per second as the maker says, counted twice; 0: not known, or a CPU.
  double peak_flops(bool bf16) const;

  std::unique_ptr<Backend> take() const;

 private:
  CpuBackend::Options cpu_;
  int gpu_;
  std::string name_;
  std::int64_t memory_ = 0, free_ = 0;
};

}  // namespace sluice
