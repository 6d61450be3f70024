// The CPU kernels, one overload per op; the launcher of each lies in a file named after its op.
// Shapes were checked when the graph was built; launchers check only what is data (indices).
#pragma once

#include "backend/cpu/cpu.h"

namespace sluice {

void run(CpuBackend& cpu, const Frame& frame, const Embed& op);
void run(CpuBackend& cpu, const Frame& frame, const EmbedGrad& op);
void run(CpuBackend& cpu, const Frame& frame, const Add& op);
void run(CpuBackend& cpu, const Frame& frame, const Scale& op);
void run(CpuBackend& cpu, const Frame& frame, const Cast& op);
void run(CpuBackend& cpu, const Frame& frame, const AddInto& op);
void run(CpuBackend& cpu, const Frame& frame, const LayerNorm& op);
void run(CpuBackend& cpu, const Frame& frame, const ResidualNorm& op);
void run(CpuBackend& cpu, const Frame& frame, const LayerNormGradInput& op);
void run(CpuBackend& cpu, const Frame& frame, const LayerNormGradWeight& op);
void run(CpuBackend& cpu, const Frame& frame, const Linear& op);
void run(CpuBackend& cpu, const Frame& frame, const LinearGradInput& op);
void run(CpuBackend& cpu, const Frame& frame, const LinearGradWeight& op);
void run(CpuBackend& cpu, const Frame& frame, const LinearGelu& op);
void run(CpuBackend& cpu, const Frame& frame, const LinearGeluGrad& op);
void run(CpuBackend& cpu, const Frame& frame, const Gelu& op);
void run(CpuBackend& cpu, const Frame& frame, const GeluGrad& op);
void run(CpuBackend& cpu, const Frame& frame, const Rotary& op);
void run(CpuBackend& cpu, const Frame& frame, const Attention& op);
void run(CpuBackend& cpu, const Frame& frame, const AttentionGrad& op);
void run(CpuBackend& cpu, const Frame& frame, const Dropout& op);
void run(CpuBackend& cpu, const Frame& frame, const HeadLoss& op);
void run(CpuBackend& cpu, const Frame& frame, const RoundGradient& op);
void run(CpuBackend& cpu, const Frame& frame, const RestoreGradient& op);
void run(CpuBackend& cpu, const Frame& frame, const SquaredNorm& op);
void run(CpuBackend& cpu, const Frame& frame, const FinishStep& op);
void run(CpuBackend& cpu, const Frame& frame, const AdamW& op);
void run(CpuBackend& cpu, const Frame& frame, const Ema& op);
void run(CpuBackend& cpu, const Frame& frame, const Pack& op);

}  // namespace sluice
