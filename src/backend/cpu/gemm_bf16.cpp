#include "backend/cpu/gemm_bf16.h"

#include <algorithm>
#include <cassert>
#include <memory>

#include "backend/cpu/gemm_bf16_pack.h"
#include "core/error.h"

namespace sluice {
namespace {

// Tiles of C: one task each, done in bands of rows. In the second level of cache stays A's block of
// a band; B's panels pass by once per band, packed by the caller or, once per tile and block, by
// the task. Wide tiles, since A is packed once for each. Bits do not depend on these.
struct Shape {
  std::int64_t rows;
  std::int64_t columns;
};
constexpr std::int64_t band_rows = 128;
constexpr std::int64_t max_columns = 768;
constexpr std::int64_t few_rows = 16;  // bound by reading B: many tasks, nothing to share

std::int64_t parts_of(std::int64_t count, std::int64_t most) { return (count + most - 1) / most; }

// Several bands only where B is packed by the task and no scratch must hold C. Halved until each
// thread has four tiles or so.
Shape shape_of(const GemmBf16& g, std::int64_t rows, int threads) {
  if (rows <= few_rows) return {few_rows, 64};
  const bool bands = g.b_stored != Stored::packed && g.c != nullptr;
  Shape shape = {bands ? 8 * band_rows : band_rows, max_columns};
  for (bool wide = true; shape.columns > 96; wide = !wide) {
    if (parts_of(rows, shape.rows) * parts_of(g.n, shape.columns) >= 4 * threads) break;
    (wide ? shape.columns : shape.rows) /= 2;
  }
  return shape;
}

// Words of a worker's scratch; a float counts as one. What transpose() writes too much lies
// between, and panels are a line of cache apart, so that not all of them fall into one set of it.
constexpr std::int64_t slack = 64;
constexpr std::int64_t wide_k = 256;  // the longest block of those that widen
constexpr std::int64_t a_words = band_rows * max_bf16_block_k / 2 + slack;
constexpr std::int64_t b_words = max_columns * (max_bf16_block_k / 2 + 1) + slack;
constexpr std::int64_t a_floats = band_rows * wide_k;
constexpr std::int64_t b_floats = max_tile_panels * panel_columns * wide_k;
constexpr std::int64_t c_gap = 16;
constexpr std::int64_t c_floats = band_rows * (max_columns + c_gap);
constexpr std::int64_t scratch_bytes = (a_words + b_words + a_floats + b_floats + c_floats) * 4;
static_assert(scratch_bytes % 64 == 0);

struct Scratch {
  Half* a;       // panels of words, or AMX's tiles
  Half* b;       // panels of words
  float* a_f32;  // both widened
  float* b_f32;
  float* c;
};
Scratch scratch_at(std::byte* at) {
  const auto words = [&at](std::int64_t count) {
    std::byte* const here = at;
    at += count * 4;
    return here;
  };
  Scratch s{};
  s.a = reinterpret_cast<Half*>(words(a_words));
  s.b = reinterpret_cast<Half*>(words(b_words));
  s.a_f32 = reinterpret_cast<float*>(words(a_floats));
  s.b_f32 = reinterpret_cast<float*>(words(b_floats));
  s.c = reinterpret_cast<float*>(words(c_floats));
  return s;
}

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
  std::int64_t words() const { return (count + 1) / 2; }
};

// One tile of C on its way through all of K.
class TileRun {
 public:
  TileRun(const Bf16Kernel& kernel, const GemmBf16& g, std::int64_t row, std::int64_t rows,
          std::int64_t first_panel, std::int64_t panels, Scratch scratch)
      : kernel_(kernel),
        g_(g),
        first_row_(row),
        first_panel_(first_panel),
        rounding_at_once_(g.c_bf16 != nullptr && g.k <= kernel.block_k),
        bands_(rows, band_rows),
        heights_(bands_.largest(), kernel.rows),
        strips_(panels, kernel.panels[heights_.largest()]),
        scratch_(scratch) {
    const std::int64_t column = first_panel * panel_columns;
    const std::int64_t kept = rounding_at_once_ ? std::int64_t{max_tile_panels} : panels;
    band_ = {.row = row,
             .rows = rows,
             .column = column,
             .columns = std::min(panels * panel_columns, g.n - column),
             .data = scratch.c,
             .ld = g.c == nullptr ? kept * panel_columns + c_gap : g.ldc,
             .worker = 0};
  }

  void run(int worker) {
    if (kernel_.begin != nullptr) kernel_.begin();
    Block k = {0, 0};
    do {
      k.count = std::min(kernel_.block_k, g_.k - k.begin);
      if (g_.b_stored != Stored::packed) pack_b(k);
      for (std::int64_t band = 0; band < bands_.parts(); ++band) run_band(k, band);
      k.begin += k.count;
    } while (k.begin < g_.k);
    if (kernel_.end != nullptr) kernel_.end();
    band_.worker = worker;
    if (g_.finish) (*g_.finish)(band_);
  }

 private:
  void run_band(Block k, std::int64_t band) {
    band_.row = first_row_ + bands_.begin(band);
    band_.rows = bands_.size(band);
    if (g_.c != nullptr) band_.data = g_.c + band_.row * g_.ldc + band_.column;
    heights_ = Split(band_.rows, kernel_.rows);
    pack_a(k);
    for (std::int64_t strip = 0; strip < strips_.parts(); ++strip) run_strip(k, strip);
  }

  // Where a group of A begins, in words.
  std::int64_t group_at(Block k, std::int64_t part) const {
    if (kernel_.group == 0) return heights_.begin(part) * k.words();
    return part * kernel_.rows * ((k.count + 31) / 32 * 16);
  }

  void pack_a(Block k) {
    if (g_.a_stored == Stored::rows) {
      pack_rows_of_a(k);
    } else if (kernel_.group == 0) {
      pack_columns_of_a(k);
    } else {
      pack_columns_as_tiles(k);
    }
    if (kernel_.widen == nullptr) return;
    for (std::int64_t part = 0; part < heights_.parts(); ++part) {
      kernel_.widen(scratch_.a + 2 * group_at(k, part), k.words(),
                    static_cast<int>(heights_.size(part)), scratch_.a_f32 + 2 * group_at(k, part));
    }
  }

  void pack_rows_of_a(Block k) {
    for (std::int64_t part = 0; part < heights_.parts(); ++part) {
      const Half* const src =
          halves_of(g_.a) + (band_.row + heights_.begin(part)) * g_.lda + k.begin;
      Half* const dst = scratch_.a + 2 * group_at(k, part);
      const int rows = static_cast<int>(heights_.size(part));
      if (kernel_.tiles_of_rows != nullptr) {
        kernel_.tiles_of_rows(src, g_.lda, k.count, rows, dst);
      } else {
        kernel_.transpose(src, g_.lda, k.count, rows, rows, dst);
      }
    }
  }

  // The higher groups come first. All of them at once, so that lines of A are read in order.
  void pack_columns_of_a(Block k) {
    const Half* const src = halves_of(g_.a) + k.begin * g_.lda + band_.row;
    const std::int64_t high = heights_.higher();
    const std::int64_t low = heights_.begin(high);
    const std::int64_t height = heights_.largest();
    if (high > 0) {
      kernel_.interleave(src, g_.lda, k.count, low, static_cast<int>(height), height * k.words(),
                         scratch_.a);
    }
    if (high == heights_.parts()) return;
    const std::int64_t less = heights_.size(high);
    kernel_.interleave(src + low, g_.lda, k.count, band_.rows - low, static_cast<int>(less),
                       less * k.words(), scratch_.a + 2 * low * k.words());
  }

  void pack_columns_as_tiles(Block k) {
    const std::int64_t padded = (k.count + 31) / 32 * 16;
    for (std::int64_t part = 0; part < heights_.parts(); ++part) {
      const std::int64_t rows = heights_.size(part);
      Half* const dst = scratch_.a + 2 * group_at(k, part);
      kernel_.interleave(halves_of(g_.a) + k.begin * g_.lda + band_.row + heights_.begin(part),
                         g_.lda, k.count, rows, kernel_.group, padded * kernel_.group, dst);
      kernel_.tiles_of_panels(dst, k.count, static_cast<int>(rows));
    }
  }

  std::int64_t scratch_stride(Block k) const { return (k.words() + 1) * panel_columns; }

  void pack_b(Block k) {
    const bool transposed = g_.b_stored == Stored::transposed;
    const std::int64_t column = band_.column;
    const Half* const src =
        halves_of(g_.b) + (transposed ? column * g_.ldb + k.begin : k.begin * g_.ldb + column);
    pack_panels_bf16(kernel_, src, g_.ldb, k.count, band_.columns, transposed, scratch_stride(k),
                     scratch_.b);
  }

  // The panels of one strip, widened now if need be.
  struct Panels {
    const float* data;
    std::int64_t stride;
  };
  Panels panels_of_b(Block k, std::int64_t panel, std::int64_t panels) const {
    const bool packed = g_.b_stored == Stored::packed;
    const std::int64_t stride = packed ? (g_.k + 1) / 2 * panel_columns : scratch_stride(k);
    const Half* const words =
        packed
            ? halves_of(g_.b) + 2 * ((first_panel_ + panel) * stride + k.begin / 2 * panel_columns)
            : scratch_.b + 2 * panel * stride;
    if (kernel_.widen == nullptr) return {reinterpret_cast<const float*>(words), stride};
    const std::int64_t floats = 2 * k.words() * panel_columns;
    for (std::int64_t p = 0; p < panels; ++p) {
      kernel_.widen(words + 2 * p * stride, k.words(), panel_columns, scratch_.b_f32 + p * floats);
    }
    return {scratch_.b_f32, floats};
  }

  void run_strip(Block k, std::int64_t strip) {
    const std::int64_t offset = strips_.begin(strip) * panel_columns;
    const std::int64_t wide = strips_.size(strip);
    const std::int64_t column = band_.column + offset;
    const bool rounds = g_.c_bf16 != nullptr && k.begin + k.count == g_.k;
    const Panels b = panels_of_b(k, strips_.begin(strip), wide);
    const bool from_c = k.begin > 0 || g_.accumulate;
    const bool widened = kernel_.widen != nullptr;
    GemmTile tile = {.k = widened ? k.count : k.words(),
                     .a = nullptr,
                     .b = b.data,
                     .panel_stride = b.stride,
                     .start = nullptr,
                     .start_ld = from_c ? band_.ld : 0,
                     .c = nullptr,
                     .ldc = band_.ld,
                     .alpha = g_.alpha,
                     .columns = static_cast<int>(std::min(wide * panel_columns, g_.n - column))};
    for (std::int64_t part = 0; part < heights_.parts(); ++part) {
      tile.a = widened ? scratch_.a_f32 + 2 * group_at(k, part)
                       : reinterpret_cast<const float*>(scratch_.a + 2 * group_at(k, part));
      // Rounded at once, each register tile uses the same floats, which stay in the first level.
      tile.c =
          rounding_at_once_ ? band_.data : band_.data + heights_.begin(part) * band_.ld + offset;
      tile.start = from_c ? tile.c : g_.bias == nullptr ? nullptr : g_.bias + column;
      if (g_.c != nullptr) prefetch_c(tile, part);
      kernel_.tile(tile, static_cast<int>(heights_.size(part)), static_cast<int>(wide));
      if (rounds) round(tile, part, column);
    }
  }

  // Asks for the lines of C that a register tile will read and write at its end: each row lies in a
  // page of its own, where no hardware prefetcher follows.
  void prefetch_c(const GemmTile& tile, std::int64_t part) const {
    for (std::int64_t i = 0; i < heights_.size(part); ++i) {
      for (std::int64_t j = 0; j < tile.columns; j += 16) {
        __builtin_prefetch(tile.c + i * tile.ldc + j, 1, 3);
      }
    }
  }

  // Right after each register tile: the stores drain while the next one computes.
  void round(const GemmTile& tile, std::int64_t part, std::int64_t column) const {
    Half* const to = halves_of(g_.c_bf16) + (band_.row + heights_.begin(part)) * g_.ldc + column;
    for (std::int64_t i = 0; i < heights_.size(part); ++i) {
      kernel_.round(tile.c + i * tile.ldc, tile.columns, to + i * g_.ldc);
    }
  }

  const Bf16Kernel& kernel_;
  const GemmBf16& g_;
  std::int64_t first_row_;
  std::int64_t first_panel_;
  bool rounding_at_once_;  // one block: C needs no place in float32
  Split bands_;  // of 64 rows or more if several, so that the tallest tiles of all are alike
  Split heights_;
  Split strips_;
  Scratch scratch_;
  FinishedTile band_;
};

}  // namespace

std::int64_t gemm_bf16_workspace_bytes(int threads) { return threads * scratch_bytes + 63; }

void gemm_bf16(Pool& pool, Isa isa, const GemmBf16& g, std::span<std::byte> workspace) {
  assert(available(isa) && g.a_stored != Stored::packed);
  assert((g.c != nullptr) + (g.c_bf16 != nullptr) + g.finish.has_value() <= 1);
  assert(!g.accumulate || (g.c_bf16 == nullptr && !g.finish && g.bias == nullptr));
  const std::int64_t needed = gemm_bf16_workspace_bytes(pool.threads());
  require(static_cast<std::int64_t>(workspace.size()) >= needed, [&] {
    return Error(fmt::format("a matrix product got {} bytes of workspace and needs {}",
                             workspace.size(), needed));
  });
  const std::int64_t rows = std::min(g.last_row, g.m) - g.first_row;
  if (rows <= 0 || g.n <= 0) return;
  void* base = workspace.data();
  std::size_t space = workspace.size();
  std::byte* const scratch = static_cast<std::byte*>(std::align(64, space - 63, base, space));
  const Bf16Kernel& kernel = gemm_bf16_kernel(isa);
  const Shape shape = shape_of(g, rows, pool.threads());
  const Split down(rows, shape.rows);
  const Split across(parts_of(g.n, panel_columns), shape.columns / panel_columns);
  // Neighbouring tasks share columns of B, which is the larger operand where it matters (the head).
  pool.run(down.parts() * across.parts(), [&](std::int64_t task, int worker) {
    const std::int64_t i = task % down.parts();
    const std::int64_t j = task / down.parts();
    TileRun(kernel, g, g.first_row + down.begin(i), down.size(i), across.begin(j), across.size(j),
            scratch_at(scratch + worker * scratch_bytes))
        .run(worker);
  });
}

void round_to_bf16(Isa isa, const float* from, std::int64_t from_ld, std::int64_t rows,
                   std::int64_t columns, bf16* to, std::int64_t ld) {
  const Bf16Kernel& kernel = gemm_bf16_kernel(isa);
  for (std::int64_t i = 0; i < rows; ++i) {
    kernel.round(from + i * from_ld, columns, halves_of(to + i * ld));
  }
}

}  // namespace sluice
