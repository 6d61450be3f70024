#include "backend/cpu/gemm_bf16.h"

#include <algorithm>
#include <cassert>
#include <memory>

#include "backend/cpu/gemm_bf16_pack.h"
#include "core/error.h"

namespace sluice {
namespace {

// Tiles of C: one task each. In the second level of cache stays A's block; B's panels pass by once
// per tile. Wide tiles, since A is packed once for each: all columns, unless scratch must hold B or
// C. Bits do not depend on these.
struct Shape {
  std::int64_t rows;
  std::int64_t columns;
};
constexpr std::int64_t band_rows = 128;
constexpr std::int64_t max_columns = 768;
constexpr std::int64_t columns_at_once = 3072;  // and B's panels of so many, in the last level
constexpr std::int64_t few_rows = 16;           // bound by reading B: many tasks, nothing to share

std::int64_t parts_of(std::int64_t count, std::int64_t most) { return (count + most - 1) / most; }

// One block: a part of C that is not float32 is rounded or finished while it lies in the first
// level of cache, and needs no more place than that.
bool ends_at_once(const GemmBf16& g, const Bf16Kernel& kernel) { return g.k <= kernel.block_k; }
bool rounds_at_once(const GemmBf16& g, const Bf16Kernel& kernel) {
  return g.c_bf16 != nullptr && ends_at_once(g, kernel);
}
bool finishes_at_once(const GemmBf16& g, const Bf16Kernel& kernel) {
  return g.finish.has_value() && ends_at_once(g, kernel);
}

// Halved until each thread has four tiles or so.
Shape shape_of(const Bf16Kernel& kernel, const GemmBf16& g, std::int64_t rows, int threads) {
  if (rows <= few_rows) return {few_rows, 64};
  const bool packed = g.b_stored == Stored::packed;
  const bool all_columns = packed && rounds_at_once(g, kernel);
  const bool many_columns = packed && finishes_at_once(g, kernel);
  Shape shape = {band_rows, all_columns    ? std::max(g.n, max_columns)
                            : many_columns ? columns_at_once
                                           : max_columns};
  for (bool wide = true; shape.columns > 96; wide = !wide) {
    if (parts_of(rows, shape.rows) * parts_of(g.n, shape.columns) >= 4 * threads) break;
    (wide ? shape.columns : shape.rows) /= 2;
  }
  return shape;
}

// Words of a worker's scratch; a float counts as one. What transpose() writes too much lies
// between, and panels are a line of cache apart, so that not all of them fall into one set of it.
constexpr std::int64_t slack = 64;
constexpr std::int64_t panel_gap = 16;
constexpr std::int64_t wide_k = 256;  // the longest block of those that widen
constexpr std::int64_t gaps_of_a = band_rows / 4 * panel_gap;  // no set has lower tiles
// AMX's groups of A have 32 rows, of k in steps of 16 words.
constexpr std::int64_t words_of_a(std::int64_t rows, std::int64_t words) {
  return (rows + 31) / 32 * 32 * ((words + 15) / 16 * 16) + gaps_of_a + slack;
}
constexpr std::int64_t a_words = words_of_a(band_rows, max_bf16_block_k / 2);
constexpr std::int64_t b_words = max_columns * (max_bf16_block_k / 2 + 1) + slack;
constexpr std::int64_t a_floats = band_rows * wide_k + 2 * gaps_of_a;
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

// The same, but lower parts at the end, so that threads, whose pace differs, end together: the last
// parts, one of the largest for each thread together, are halves and quarters of those before.
class Tapered {
 public:
  Tapered(std::int64_t count, std::int64_t most, int threads)
      : half_(most / 2), quarter_(most / 4), halves_(threads) {
    const bool long_enough = quarter_ > 0 && count >= 3 * threads * most;
    if (!long_enough) halves_ = 0;
    whole_ = Split(count - halves_ * (half_ + 2 * quarter_), most);
  }
  std::int64_t parts() const { return whole_.parts() + 3 * halves_; }
  std::int64_t begin(std::int64_t part) const {
    const std::int64_t of_tail = part - whole_.parts();
    if (of_tail <= 0) return whole_.begin(part);
    const std::int64_t halves = std::min(of_tail, halves_);
    return whole_.begin(whole_.parts()) + halves * half_ + (of_tail - halves) * quarter_;
  }
  std::int64_t size(std::int64_t part) const { return begin(part + 1) - begin(part); }

 private:
  std::int64_t half_;
  std::int64_t quarter_;
  std::int64_t halves_;  // and twice as many quarters
  Split whole_{0, 1};
};

// The values of k that one block sums over: [begin, begin + count).
struct Block {
  std::int64_t begin;
  std::int64_t count;
  constexpr std::int64_t words() const { return (count + 1) / 2; }
};

// Words between panels of B that the product packs.
constexpr std::int64_t panel_stride(Block k) { return (k.words() + 1) * panel_columns; }

// One tile of C, of 128 rows at most: packs its parts of A and B into the scratch and multiplies
// them.
class TileRun {
 public:
  TileRun(const Bf16Kernel& kernel, const GemmBf16& g, std::int64_t row, std::int64_t rows,
          std::int64_t first_panel, std::int64_t panels, Scratch scratch)
      : kernel_(kernel),
        g_(g),
        first_panel_(first_panel),
        rounding_at_once_(rounds_at_once(g, kernel)),
        finishing_at_once_(finishes_at_once(g, kernel)),
        heights_(rows, kernel.rows),
        strips_(panels, kernel.panels[heights_.largest()]),
        scratch_(scratch) {
    const std::int64_t column = first_panel * panel_columns;
    const std::int64_t kept = rounding_at_once_    ? std::int64_t{max_tile_panels}
                              : finishing_at_once_ ? strips_.largest()
                                                   : panels;
    tile_ = {.row = row,
             .rows = rows,
             .column = column,
             .columns = std::min(panels * panel_columns, g.n - column),
             .data = g.c == nullptr ? scratch.c : g.c + row * g.ldc + column,
             .ld = g.c != nullptr       ? g.ldc
                   : finishing_at_once_ ? kept * panel_columns
                                        : kept * panel_columns + c_gap,
             .worker = 0};
  }

  // Through all of K.
  void run(int worker) {
    tile_.worker = worker;
    Block k = {0, 0};
    do {
      k.count = std::min(kernel_.block_k, g_.k - k.begin);
      if (g_.b_stored != Stored::packed) pack_b(k);
      pack_a(k);
      multiply(k);
      k.begin += k.count;
    } while (k.begin < g_.k);
    if (g_.finish && !finishing_at_once_) (*g_.finish)(tile_);
  }

  void pack_a(Block k) {
    if (g_.a_stored == Stored::rows) {
      pack_rows_of_a(k);
    } else if (kernel_.group == 0) {
      pack_columns_of_a(k);
    } else {
      pack_columns_as_tiles(k);
    }
  }

  void pack_b(Block k) {
    const bool transposed = g_.b_stored == Stored::transposed;
    const std::int64_t column = tile_.column;
    const Half* const src =
        halves_of(g_.b) + (transposed ? column * g_.ldb + k.begin : k.begin * g_.ldb + column);
    pack_panels_bf16(kernel_, src, g_.ldb, k.count, tile_.columns, transposed, panel_stride(k),
                     scratch_.b);
  }

  // One block of K. REQUIRES that both operands are packed.
  void multiply(Block k) {
    if (kernel_.begin != nullptr) kernel_.begin();
    if (kernel_.widen != nullptr) widen_a(k);
    for (std::int64_t strip = 0; strip < strips_.parts(); ++strip) run_strip(k, strip);
    if (kernel_.end != nullptr) kernel_.end();
  }

 private:
  // Where a group of A begins, in words.
  std::int64_t group_at(Block k, std::int64_t part) const {
    if (kernel_.group == 0) return heights_.begin(part) * k.words() + part * panel_gap;
    return part * kernel_.rows * ((k.count + 31) / 32 * 16);
  }

  void widen_a(Block k) {
    for (std::int64_t part = 0; part < heights_.parts(); ++part) {
      kernel_.widen(scratch_.a + 2 * group_at(k, part), k.words(),
                    static_cast<int>(heights_.size(part)), scratch_.a_f32 + 2 * group_at(k, part));
    }
  }

  void pack_rows_of_a(Block k) {
    for (std::int64_t part = 0; part < heights_.parts(); ++part) {
      const Half* const src =
          halves_of(g_.a) + (tile_.row + heights_.begin(part)) * g_.lda + k.begin;
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
    const Half* const src = halves_of(g_.a) + k.begin * g_.lda + tile_.row;
    const std::int64_t high = heights_.higher();
    const std::int64_t low = heights_.begin(high);
    const std::int64_t height = heights_.largest();
    if (high > 0) {
      kernel_.interleave(src, g_.lda, k.count, low, static_cast<int>(height),
                         height * k.words() + panel_gap, scratch_.a);
    }
    if (high == heights_.parts()) return;
    const std::int64_t less = heights_.size(high);
    kernel_.interleave(src + low, g_.lda, k.count, tile_.rows - low, static_cast<int>(less),
                       less * k.words() + panel_gap, scratch_.a + 2 * group_at(k, high));
  }

  void pack_columns_as_tiles(Block k) {
    const std::int64_t padded = (k.count + 31) / 32 * 16;
    for (std::int64_t part = 0; part < heights_.parts(); ++part) {
      const std::int64_t rows = heights_.size(part);
      Half* const dst = scratch_.a + 2 * group_at(k, part);
      kernel_.interleave(halves_of(g_.a) + k.begin * g_.lda + tile_.row + heights_.begin(part),
                         g_.lda, k.count, rows, kernel_.group, padded * kernel_.group, dst);
      kernel_.tiles_of_panels(dst, k.count, static_cast<int>(rows));
    }
  }

  // The panels of one strip, widened now if need be.
  struct Panels {
    const float* data;
    std::int64_t stride;
  };
  Panels panels_of_b(Block k, std::int64_t panel, std::int64_t panels) const {
    const bool packed = g_.b_stored == Stored::packed;
    const std::int64_t stride = packed ? (g_.k + 1) / 2 * panel_columns : panel_stride(k);
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
    const std::int64_t column = tile_.column + offset;
    const bool rounds = g_.c_bf16 != nullptr && k.begin + k.count == g_.k;
    const Panels b = panels_of_b(k, strips_.begin(strip), wide);
    const bool from_c = k.begin > 0 || g_.accumulate;
    const bool widened = kernel_.widen != nullptr;
    GemmTile tile = {.k = widened ? k.count : k.words(),
                     .a = nullptr,
                     .b = b.data,
                     .panel_stride = b.stride,
                     .start = nullptr,
                     .start_ld = from_c ? tile_.ld : 0,
                     .c = nullptr,
                     .ldc = tile_.ld,
                     .alpha = g_.alpha,
                     .columns = static_cast<int>(std::min(wide * panel_columns, g_.n - column))};
    for (std::int64_t part = 0; part < heights_.parts(); ++part) {
      tile.a = widened ? scratch_.a_f32 + 2 * group_at(k, part)
                       : reinterpret_cast<const float*>(scratch_.a + 2 * group_at(k, part));
      // Rounded at once, each register tile uses the same floats, which stay in the first level.
      tile.c = tile_.data;
      if (!rounding_at_once_) tile.c += heights_.begin(part) * tile_.ld;
      if (!rounding_at_once_ && !finishing_at_once_) tile.c += offset;
      tile.start = from_c ? tile.c : g_.bias == nullptr ? nullptr : g_.bias + column;
      if (g_.c != nullptr) prefetch_c(tile, part);
      kernel_.tile(tile, static_cast<int>(heights_.size(part)), static_cast<int>(wide));
      if (rounds) round(tile, part, column);
    }
    if (finishing_at_once_) {
      (*g_.finish)({.row = tile_.row,
                    .rows = tile_.rows,
                    .column = column,
                    .columns = tile.columns,
                    .data = tile_.data,
                    .ld = tile_.ld,
                    .worker = tile_.worker});
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
    Half* const to = halves_of(g_.c_bf16) + (tile_.row + heights_.begin(part)) * g_.ldc + column;
    for (std::int64_t i = 0; i < heights_.size(part); ++i) {
      kernel_.round(tile.c + i * tile.ldc, tile.columns, to + i * g_.ldc);
    }
  }

  const Bf16Kernel& kernel_;
  const GemmBf16& g_;
  std::int64_t first_panel_;
  bool rounding_at_once_;
  bool finishing_at_once_;
  Split heights_;
  Split strips_;
  Scratch scratch_;
  FinishedTile tile_;
};

// A product that packs both operands and writes C in float32, block after block: all threads pack
// A; then each task packs a few panels of B, which stay in its second level of cache, and
// multiplies them by all of A, band after band. So a number is packed once. If a block of A does
// not fit into the workspace, C is made in pieces of rows.
class SharedRun {
 public:
  // REQUIRES a workspace aligned to 64 bytes.
  SharedRun(Pool& pool, const Bf16Kernel& kernel, const GemmBf16& g, std::int64_t rows,
            std::span<std::byte> workspace)
      : pool_(pool),
        kernel_(kernel),
        g_(g),
        rows_(rows),
        words_(Block{0, std::min(g.k, kernel.block_k)}.words()),
        own_(reinterpret_cast<float*>(workspace.data())),
        a_(reinterpret_cast<Half*>(own_ + pool.threads() * own_words)),
        room_(static_cast<std::int64_t>(workspace.size()) / 4 - pool.threads() * own_words) {}

  void run() {
    const Split pieces(parts_of(rows_, band_rows), room_ / words_of_a(band_rows, words_));  // bands
    for (std::int64_t i = 0; i < pieces.parts(); ++i) {
      first_row_ = pieces.begin(i) * band_rows;
      const std::int64_t end = first_row_ + pieces.size(i) * band_rows;
      bands_ = bands_of(std::min(end, rows_) - first_row_);
      first_row_ += g_.first_row;
      Block k = {0, 0};
      do {
        k.count = std::min(kernel_.block_k, g_.k - k.begin);
        pool_.run(bands_.parts(),
                  [&](std::int64_t band, int worker) { tile(band, 0, 0, worker).pack_a(k); });
        multiply(k);
        k.begin += k.count;
      } while (k.begin < g_.k);
    }
  }

 private:
  static constexpr std::int64_t most_panels = 8;
  static constexpr std::int64_t own_b_words = most_panels * panel_stride({0, max_bf16_block_k});
  static constexpr std::int64_t own_words = own_b_words + a_floats + b_floats;

  // As many for each thread, unless they become low: a third band would be packed alone.
  Split bands_of(std::int64_t rows) const {
    const std::int64_t bands = parts_of(rows, band_rows);
    const std::int64_t even = parts_of(bands, pool_.threads()) * pool_.threads();
    const Split lower(rows, parts_of(rows, even));
    const bool fits = lower.parts() * words_of_a(lower.largest(), words_) <= room_;
    return fits && lower.largest() > band_rows / 2 ? lower : Split(rows, band_rows);
  }

  void multiply(Block k) {
    const std::int64_t panels = parts_of(g_.n, panel_columns);
    const Tapered across(panels, width_of(panels), pool_.threads());
    // Few columns for many threads: the rows are cut too, and panels of B packed more than once.
    const std::int64_t wanted = parts_of(2 * pool_.threads(), across.parts());
    const Split down(bands_.parts(), parts_of(bands_.parts(), wanted));
    pool_.run(across.parts() * down.parts(), [&](std::int64_t task, int worker) {
      const std::int64_t i = task % down.parts();
      const std::int64_t j = task / down.parts();
      const std::int64_t first = down.begin(i);
      tile(first, across.begin(j), across.size(j), worker).pack_b(k);
      for (std::int64_t band = first; band < first + down.size(i); ++band) {
        tile(band, across.begin(j), across.size(j), worker).multiply(k);
      }
    });
  }

  // Panels of a task: as many as end soonest, if all threads run at one speed.
  std::int64_t width_of(std::int64_t panels) const {
    std::int64_t best = most_panels;
    const auto time = [&](std::int64_t width) {
      return parts_of(parts_of(panels, width), pool_.threads()) * width;
    };
    for (std::int64_t width = most_panels; width >= 4; width -= 2) {
      if (time(width) < time(best)) best = width;
    }
    return best;
  }

  TileRun tile(std::int64_t band, std::int64_t panel, std::int64_t panels, int worker) const {
    float* const own = own_ + worker * own_words;
    return TileRun(kernel_, g_, first_row_ + bands_.begin(band), bands_.size(band), panel, panels,
                   {.a = a_ + 2 * band * words_of_a(bands_.largest(), words_),
                    .b = reinterpret_cast<Half*>(own),
                    .a_f32 = own + own_b_words,
                    .b_f32 = own + own_b_words + a_floats,
                    .c = nullptr});
  }

  Pool& pool_;
  const Bf16Kernel& kernel_;
  const GemmBf16& g_;
  std::int64_t rows_;
  std::int64_t words_;  // of the longest block
  float* own_;          // the threads' own: panels of B, and both operands widened
  Half* a_;             // the bands of a piece
  std::int64_t room_;   // words there
  std::int64_t first_row_ = 0;
  Split bands_{0, 1};
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
  if (g.b_stored != Stored::packed && g.c != nullptr && rows > few_rows) {
    SharedRun(pool, kernel, g, rows, {scratch, space}).run();
    return;
  }
  const Shape shape = shape_of(kernel, g, rows, pool.threads());
  const Split across(parts_of(g.n, panel_columns), parts_of(shape.columns, panel_columns));
  const Split down(rows, shape.rows);
  const Tapered last(rows, shape.rows, pool.threads());  // of the last tiles across
  // Neighbouring tasks share columns of B, which is the larger operand where it matters (the head).
  const std::int64_t even = down.parts() * (across.parts() - 1);
  pool.run(even + last.parts(), [&](std::int64_t task, int worker) {
    const bool tapers = task >= even;
    const std::int64_t i = tapers ? task - even : task % down.parts();
    const std::int64_t j = tapers ? across.parts() - 1 : task / down.parts();
    const std::int64_t row = tapers ? last.begin(i) : down.begin(i);
    TileRun(kernel, g, g.first_row + row, tapers ? last.size(i) : down.size(i), across.begin(j),
            across.size(j), scratch_at(scratch + worker * scratch_bytes))
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
