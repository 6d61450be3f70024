// How fast this machine is at what a training step does: products of matrices, passes over memory,
// files. Each figure is the median of several repeats on random numbers.
//
// Takes seconds and all threads of the backend's pool: only `sluice doctor` calls it. A measurement
// is given seconds to spend; it makes its work smaller, and at last repeats it less, to keep to
// them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/cpu/cpu.h"

namespace sluice {

// REQUIRES: not empty.
double median(std::vector<double> values);

enum class Direction { forward, input_gradient, weight_gradient };
std::string_view name_of(Direction direction);

// A linear map of a model and how often a step has it.
struct StepProduct {
  const char* name;
  std::int64_t in, out, count;
};
// Those of a model with 111 million parameters (10 layers of width 768), the largest last.
std::span<const StepProduct> step_products();

// C[m,n] = A[m,k] B[k,n] as the direction has it: with M tokens,
//   forward          m = M,  k = in,  n = out, B packed beforehand
//   input gradient   m = M,  k = out, n = in,  B packed beforehand
//   weight gradient  m = in, k = M,   n = out, A stored transposed, B packed on the way
struct MeasuredProduct {
  StepProduct of;
  Direction direction;
  std::int64_t m = 0, k = 0, n = 0;
  double seconds = 0;  // the median
  int repeats = 0;
};

// A type of numbers in which products are measured: one row here for each.
struct ProductType {
  const char* name;  // "float32"
  std::int64_t bytes;
  void (*fill)(Pool& pool, std::byte* data, std::int64_t count);  // random, in [-1, 1)
  // Of matrices that lie as above; C has numbers of 4 bytes or less.
  void (*multiply)(CpuBackend& cpu, const MeasuredProduct& product, const std::byte* a,
                   const std::byte* b, std::byte* c, std::span<std::byte> workspace);
  std::int64_t (*workspace_bytes)(int threads);
};
std::span<const ProductType> product_types();

struct ProductOptions {
  double seconds = 6;             // to spend, about
  std::int64_t tokens = 2048;     // at most; of the head's products a quarter
  int repeats = 5;                // of each product
  std::int64_t memory = 1 << 30;  // bytes; a product that needs more is left out
};
// Throws Exit::memory where not even the smallest fits.
std::vector<MeasuredProduct> measure_products(CpuBackend& cpu, const ProductType& type,
                                              const ProductOptions& options);

// Causal attention of float32 numbers: FLOPs per second, the causal half counted.
struct MeasuredAttention {
  std::int64_t head = 0, sequence = 0;
  double forward = 0, backward = 0;
};
std::vector<MeasuredAttention> measure_attention(CpuBackend& cpu, double seconds);

// Bytes per second. A copy counts what it reads and what it writes.
struct MemoryRates {
  double read_one = 0, read_all = 0, copy_one = 0, copy_all = 0;  // one thread, all of them
};
// Over two arrays of `bytes` each: more than the caches hold.
MemoryRates measure_memory(CpuBackend& cpu, std::int64_t bytes, double seconds);

struct DiskRates {
  double write = 0;        // bytes per second, fsync included
  double read = 0;         // after the kernel was told to drop the file from its cache
  std::int64_t bytes = 0;  // of the file
};
// A file of `bytes` in `folder`, without a name as soon as it is made: nothing is left, whatever
// happens. Error (disk) when the folder does not take it.
DiskRates measure_disk(const std::string& folder, std::int64_t bytes, double seconds);

}  // namespace sluice
