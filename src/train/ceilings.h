// How fast a device is at what a step is made of, asked through its backend: ops on random numbers
// back to back, copies within its memory and over its link to the host. Any backend; one that
// returns early is waited for at the end of each stretch.
//
// Takes memory of the backend, which has it until it ends. One thread.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"

namespace sluice {

// An op without a graph, and the types of its values.
struct LooseOp {
  Op op;
  std::vector<ValueType> types;
};
// y = x w, x [m k], w [k n]; its operands are bf16 or float32.
LooseOp product_op(DType type, std::int64_t m, std::int64_t k, std::int64_t n);
// Causal attention over whole rows.
struct AttentionSizes {
  std::int64_t batch = 1, heads = 1, sequence = 1, head = 64;
};
LooseOp attention_op(DType type, const AttentionSizes& sizes, bool backward,
                     AttentionKernels kernels = AttentionKernels::own);

class Ceilings {
 public:
  // `bytes` of the device for what ops read, and as many for what they write. `threads`: of a CPU.
  Ceilings(Backend& backend, std::int64_t bytes, int threads = 1);

  // Whether there is room for the op's operands.
  bool fits(const LooseOp& op) const;
  // Where a library runs products: the algorithms of these are measured, and taken from here on. A
  // product of another call before is not remembered. REQUIRES: all fit.
  void tune(const std::vector<LooseOp>& ops);
  // Seconds of all ops of the list, one after the other: the mean over as many rounds as fill about
  // `seconds` after a first one. Operands come from ever other places, so that no cache has them.
  // REQUIRES: all fit.
  double run(const std::vector<LooseOp>& ops, double seconds);
  // FLOPs per second as the op counts them.
  double rate(const LooseOp& op, double seconds);
  // Bytes per second of a copy within the device's memory, read and written counted.
  double copy(double seconds);
  // Seconds from an op's begin to the next one's where there is nothing to do.
  double launch();

 private:
  struct Area {
    std::byte* data = nullptr;
    std::int64_t next = 0;
  };
  std::byte* place(Area& area, std::int64_t bytes);
  Frame frame_of(const LooseOp& op);
  void fill();

  Backend& backend_;
  std::int64_t bytes_;
  int threads_;
  Area read_, written_;
  std::byte* zeros_ = nullptr;  // for what are no numbers
  std::byte* workspace_ = nullptr;
  std::int64_t workspace_room_;
  std::vector<Tensor> values_;
};

// Bytes per second between pinned host memory and the device: each way alone, and the sum of both
// at once.
struct LinkRates {
  double in = 0, out = 0, both = 0;
};
LinkRates measure_link(Backend& backend, std::int64_t bytes, double seconds);

}  // namespace sluice
