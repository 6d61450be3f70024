#include "backend/cpu/gemm.h"

#include <algorithm>
#include <cassert>
#include <memory>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/gemm_pack.h"
#include "core/error.h"

namespace sluice {
namespace {

// Tiles of C: one task each. A's block of 128 x 256 (128 KiB) stays in L2 while B's panels pass; a
// tile's width sets how often that packing pays (once per `columns` multiply-adds). Bits do not
// depend on these.
constexpr std::int64_t tile_rows = 128;
std::int64_t tile_columns(std::int64_t m, std::int64_t n) {
  if (m <= max_tile_rows) return 64;  // bound by reading B: many tasks, nothing to share
  return n >= 768 ? 384 : 256;
}

constexpr std::int64_t block_a_floats = tile_rows * gemm_block_k + 16;  // transpose() may overshoot
constexpr std::int64_t block_b_floats = max_tile_panels * panel_columns * gemm_block_k;
constexpr std::int64_t scratch_bytes = (block_a_floats + block_b_floats) * 4;
static_assert(scratch_bytes % 64 == 0);

struct Scratch {
  float* a;
  float* b;
};

// `count` things cut into the fewest parts of at most `most`, as even as possible.
class Split {
 public:
  Split(std::int64_t count, std::int64_t most)
      : parts_((count + most - 1) / most),
        base_(parts_ == 0 ? 0 : count / parts_),
        extra_(parts_ == 0 ? 0 : count % parts_) {}
  std::int64_t parts() const { return parts_; }
  std::int64_t largest() const { return base_ + (extra_ > 0 ? 1 : 0); }
  std::int64_t higher() const { return extra_; }  // parts that are one larger: the first ones
  std::int64_t begin(std::int64_t part) const { return part * base_ + std::min(part, extra_); }
  std::int64_t size(std::int64_t part) const { return base_ + (part < extra_ ? 1 : 0); }

 private:
  std::int64_t parts_;
  std::int64_t base_;
  std::int64_t extra_;
};

// The values of k that one block sums over: [begin, begin + count).
struct Block {
  std::int64_t begin;
  std::int64_t count;
};

// Packs rows [row, row + rows) of A's block for tiles of the given heights: [k][height] one after
// the other.
void pack_a(const GemmKernel& kernel, const Gemm& g, Block k, std::int64_t row,
            const Split& heights, float* dst) {
  if (g.a_stored == Stored::rows) {
    for (std::int64_t part = 0; part < heights.parts(); ++part) {
      const std::int64_t first = heights.begin(part);
      kernel.transpose(g.a + (row + first) * g.lda + k.begin, g.lda,
                       static_cast<int>(heights.size(part)), k.count, dst + first * k.count);
    }
    return;
  }
  // The higher groups come first.
  const float* const src = g.a + k.begin * g.lda + row;
  const std::int64_t high = heights.higher();
  const std::int64_t low = heights.begin(high);
  const std::int64_t height = heights.largest();
  kernel.copy(src, g.lda, k.count, high, static_cast<int>(height), height * k.count, dst);
  if (high == heights.parts()) return;
  const std::int64_t less = heights.size(high);
  kernel.copy(src + low, g.lda, k.count, heights.parts() - high, static_cast<int>(less),
              less * k.count, dst + low * k.count);
}

// The panels of one strip: as packed by pack_b, or packed now into `scratch`.
struct Panels {
  const float* data;
  std::int64_t stride;
};
Panels panels_of_b(const GemmKernel& kernel, const Gemm& g, Block k, std::int64_t panel,
                   std::int64_t panels, float* scratch) {
  if (g.b_stored == Stored::packed) {
    const std::int64_t stride = g.k * panel_columns;
    return {g.b + panel * stride + k.begin * panel_columns, stride};
  }
  const bool transposed = g.b_stored == Stored::transposed;
  const std::int64_t column = panel * panel_columns;
  const std::int64_t columns = std::min(panels * panel_columns, g.n - column);
  const float* src = transposed ? g.b + column * g.ldb + k.begin : g.b + k.begin * g.ldb + column;
  pack_panels(kernel, src, g.ldb, k.count, columns, transposed, k.count * panel_columns, scratch);
  return {scratch, k.count * panel_columns};
}

// Asks for one of `parts` shares of the lines of B that the next strip will pack: each may lie in a
// page of its own, where no hardware prefetcher follows.
void prefetch_b(const Gemm& g, Block k, std::int64_t column, std::int64_t part,
                std::int64_t parts) {
  const float* const src = g.b + k.begin * g.ldb + column;
  const std::int64_t last = k.count * (part + 1) / parts;
  for (std::int64_t i = k.count * part / parts; i < last; ++i) {
    __builtin_prefetch(src + i * g.ldb, 0, 2);
    __builtin_prefetch(src + i * g.ldb + 16, 0, 2);
  }
}

// One tile of C, all of K.
void run_tile(const GemmKernel& kernel, const Gemm& g, std::int64_t row, std::int64_t rows,
              std::int64_t first_panel, std::int64_t panels, Scratch scratch) {
  const Split heights(rows, kernel.rows);
  const Split strips(panels, kernel.panels[heights.largest()]);
  Block k = {0, 0};
  do {
    k.count = std::min(gemm_block_k, g.k - k.begin);
    pack_a(kernel, g, k, row, heights, scratch.a);
    for (std::int64_t strip = 0; strip < strips.parts(); ++strip) {
      const std::int64_t panel = first_panel + strips.begin(strip);
      const std::int64_t wide = strips.size(strip);
      const std::int64_t column = panel * panel_columns;
      const Panels b = panels_of_b(kernel, g, k, panel, wide, scratch.b);
      GemmTile tile = {.k = k.count,
                       .a = nullptr,
                       .b = b.data,
                       .panel_stride = b.stride,
                       .start = nullptr,
                       .start_ld = 0,
                       .c = nullptr,
                       .ldc = g.ldc,
                       .alpha = g.alpha,
                       .columns = static_cast<int>(std::min(wide * panel_columns, g.n - column))};
      const bool prefetching = g.b_stored == Stored::rows && strip + 1 < strips.parts();
      const bool from_c = k.begin > 0 || g.accumulate;
      for (std::int64_t part = 0; part < heights.parts(); ++part) {
        const std::int64_t first = heights.begin(part);
        tile.a = scratch.a + first * k.count;
        tile.c = g.c + (row + first) * g.ldc + column;
        tile.start = from_c ? tile.c : g.bias == nullptr ? nullptr : g.bias + column;
        tile.start_ld = from_c ? g.ldc : 0;
        if (prefetching) prefetch_b(g, k, column + wide * panel_columns, part, heights.parts());
        kernel.tile[heights.size(part)][wide](tile);
      }
    }
    k.begin += k.count;
  } while (k.begin < g.k);
}

}  // namespace

std::int64_t packed_floats(std::int64_t k, std::int64_t n) {
  return (n + panel_columns - 1) / panel_columns * panel_columns * k;
}

void pack_b(Pool& pool, std::int64_t k, std::int64_t n, const float* src, std::int64_t ld,
            bool transposed, float* dst, std::int64_t first, std::int64_t last) {
  // A copy: the instruction set is free.
  const GemmKernel& kernel = gemm_kernel(best_isa());
  constexpr std::int64_t columns = 8 * panel_columns;
  const std::int64_t blocks = (k + gemm_block_k - 1) / gemm_block_k;
  const std::int64_t tiles = std::min(last, (n + columns - 1) / columns * blocks);
  pool.run(std::max<std::int64_t>(tiles - first, 0), [&](std::int64_t task, int) {
    const std::int64_t column = (first + task) / blocks * columns;
    const std::int64_t row = (first + task) % blocks * gemm_block_k;
    pack_panels(kernel, transposed ? src + column * ld + row : src + row * ld + column, ld,
                std::min(gemm_block_k, k - row), std::min(columns, n - column), transposed,
                k * panel_columns, dst + column * k + row * panel_columns);
  });
}

std::int64_t gemm_workspace_bytes(int threads) { return threads * scratch_bytes + 63; }

void gemm(Pool& pool, Isa isa, const Gemm& g, std::span<std::byte> workspace) {
  assert(available(isa) && g.a_stored != Stored::packed && !(g.accumulate && g.bias != nullptr));
  require(static_cast<std::int64_t>(workspace.size()) >= gemm_workspace_bytes(pool.threads()), [&] {
    return Error(fmt::format("a matrix product got {} bytes of workspace and needs {}",
                             workspace.size(), gemm_workspace_bytes(pool.threads())));
  });
  const std::int64_t rows = std::min(g.last_row, g.m) - g.first_row;
  if (rows <= 0 || g.n <= 0) return;
  void* base = workspace.data();
  std::size_t space = workspace.size();
  float* const scratch = static_cast<float*>(std::align(64, space - 63, base, space));
  const GemmKernel& kernel = gemm_kernel(isa);
  const Split down(rows, tile_rows);
  const Split across((g.n + panel_columns - 1) / panel_columns,
                     tile_columns(rows, g.n) / panel_columns);
  // Neighbouring tasks share columns of B, which is the larger operand where it matters (the head).
  pool.run(down.parts() * across.parts(), [&](std::int64_t task, int worker) {
    const std::int64_t i = task % down.parts();
    const std::int64_t j = task / down.parts();
    float* const mine = scratch + worker * (scratch_bytes / 4);
    run_tile(kernel, g, g.first_row + down.begin(i), down.size(i), across.begin(j), across.size(j),
             {.a = mine + block_b_floats, .b = mine});
  });
}

}  // namespace sluice
