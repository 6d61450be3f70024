// How the kernels of one pass over their operands are cut: tiles of fixed size, so that results do
// not depend on the number of threads. The overloads of run() here run only some of an op's tiles:
// what tests of tensors too large to be filled need. Not for the executor.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cpu/cpu.h"

namespace sluice {

constexpr std::int64_t element_tile = 32768;  // elements of an elementwise op
constexpr std::int64_t block_tile = 256;      // blocks of state, 128 elements or less each
constexpr std::int64_t norm_chunk = 65536;    // elements of one partial sum of a squared norm
constexpr std::int64_t embed_tile = 32;       // tokens of an embedding
constexpr std::int64_t rotary_tile = 16;      // tokens of a rotation
constexpr std::int64_t token_chunk = 64;      // tokens of one partial sum over tokens

// Rows of a tile of an op that works row by row.
constexpr std::int64_t row_tile(std::int64_t columns) {
  return columns >= element_tile ? 1 : element_tile / std::max<std::int64_t>(columns, 1);
}

// The tiles [first, last), as far as there are any.
struct Tiles {
  std::int64_t first = 0;
  std::int64_t last = INT64_MAX;
};

// body(begin, end) for those `tiles` of `size` that [0, count) is cut into.
template <class Body>
void for_tiles(Pool& pool, std::int64_t count, std::int64_t size, Tiles tiles, Body body) {
  const std::int64_t last = std::min(tiles.last, (count + size - 1) / size);
  pool.run(std::max<std::int64_t>(last - tiles.first, 0), [&](std::int64_t task, int) {
    const std::int64_t begin = (tiles.first + task) * size;
    body(begin, std::min(count, begin + size));
  });
}

// The workspace as `count` numbers; too small a one is our own mistake, caught before it is
// overrun.
template <class T>
T* workspace(const Frame& frame, std::int64_t count) {
  const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
  require(bytes <= static_cast<std::int64_t>(frame.workspace.size()), [&] {
    return Error(fmt::format("workspace of {} bytes, {} needed", frame.workspace.size(), bytes));
  });
  return reinterpret_cast<T*>(frame.workspace.data());
}

// The table of kernels of one instruction set (of its vector_isa). Each file of kernels defines
// three.
template <class Kernels>
const Kernels& kernels_of(Isa isa, const Kernels& portable, const Kernels& avx2,
                          const Kernels& avx512) {
  switch (isa) {
    case Isa::portable:
      return portable;
    case Isa::avx2:
      return avx2;
    case Isa::avx512:
    case Isa::avx512_bf16:
    case Isa::amx:
      return avx512;
  }
  throw Error("corrupt Isa");
}

void run(CpuBackend& cpu, const Frame& frame, const Add& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const Scale& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const Cast& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const AddInto& op, Tiles tiles);
// A tile of these five is one row of y, of dx, of dW, of h, of dh. dbias is made whole with the
// first one.
void run(CpuBackend& cpu, const Frame& frame, const Linear& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const LinearGradInput& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const LinearGradWeight& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const LinearGelu& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const LinearGeluGrad& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const Gelu& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const GeluGrad& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const LayerNorm& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const ResidualNorm& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const LayerNormGradInput& op, Tiles tiles);
// Of these two the partial sums outside `tiles` are taken from the workspace as they are.
void run(CpuBackend& cpu, const Frame& frame, const LayerNormGradWeight& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const SquaredNorm& op, Tiles tiles);
// A tile of AdamW compact and of int8 gradients is `block_tile` blocks.
void run(CpuBackend& cpu, const Frame& frame, const AdamW& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const RoundGradient& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const RestoreGradient& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const Ema& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const Embed& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const Rotary& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const Dropout& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const Pack& op, Tiles tiles);
// Tiles of one row of the batch are neighbours: one per head and 64 queries, or per key head.
void run(CpuBackend& cpu, const Frame& frame, const Attention& op, Tiles tiles);
void run(CpuBackend& cpu, const Frame& frame, const AttentionGrad& op, Tiles tiles);
// A tile is one chunk of tokens. The sums (stats, dw, dbias) are those of `tiles`.
void run(CpuBackend& cpu, const Frame& frame, const HeadLoss& op, Tiles tiles);

}  // namespace sluice
