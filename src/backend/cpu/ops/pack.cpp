// Pack: a weight in the tiles that gemm() streams. Each number is read and written once; limit:
// 8 bytes per weight over the memory bandwidth.
#include "backend/cpu/gemm.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {

void run(CpuBackend& cpu, const Frame& frame, const Pack& op, Tiles tiles) {
  pack_b(cpu.pool(), op.k, op.n, frame[op.w].data<float>(), op.transposed ? op.k : op.n,
         op.transposed, frame[op.packed].data<float>(), tiles.first, tiles.last);
}

void run(CpuBackend& cpu, const Frame& frame, const Pack& op) { run(cpu, frame, op, Tiles{}); }

}  // namespace sluice
