// Pack: a weight in the tiles that gemm() or gemm_bf16() streams. Each number is read and written
// once; limit: 8 bytes per weight of float32, 4 of bf16, over the memory bandwidth.
#include "backend/cpu/ops/launch.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/storage.h"

namespace sluice {

void run(CpuBackend& cpu, const Frame& frame, const Pack& op, Tiles tiles) {
  const Tensor& w = frame[op.w];
  const Tensor& packed = frame[op.packed];
  const std::int64_t ld = op.transposed ? op.k : op.n;
  with_storage(w.dtype(), [&]<class T>() {
    const auto pack = [] {
      if constexpr (std::is_same_v<T, bf16>) {
        return pack_b_bf16;
      } else {
        return pack_b;
      }
    }();
    pack(cpu.pool(), op.k, op.n, w.data<T>(), ld, op.transposed, packed.data<T>(), tiles.first,
         tiles.last);
  });
}

void run(CpuBackend& cpu, const Frame& frame, const Pack& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
