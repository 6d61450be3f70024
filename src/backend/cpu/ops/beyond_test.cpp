// Tensors of more than 2^31 elements: reserved, never filled. An op runs on its tiles at the start,
// across element 2^31 and at the end, and is held against the same op on small tensors with the
// same numbers in them. Only what is touched becomes resident.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cmath>
#include <vector>

#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, S = Axis::scalar;
constexpr std::int64_t border = std::int64_t{1} << 31;

// Address space with nothing behind it until it is written.
class Reserved {
 public:
  explicit Reserved(std::int64_t bytes) : bytes_(static_cast<std::size_t>(bytes)) {
    data_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(data_ != MAP_FAILED, [] { return Error("cannot reserve address space"); });
    (void)::madvise(data_, bytes_, MADV_NOHUGEPAGE);  // residency as fine as it can be
  }
  ~Reserved() { ::munmap(data_, bytes_); }
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;
  void* data() const { return data_; }

 private:
  std::size_t bytes_;
  void* data_;
};

// The number at element i of operand `id`: any function that repeats nowhere near a power of two.
float number_at(Id id, std::int64_t i) {
  return 0.25f + static_cast<float>((i * 7 + id * 13) % 1009) / 1009.0f;
}

// One operand of the op under test: per element of the large tensor, per row of it, or of a fixed
// size (the same in both worlds).
enum class Per { element, row, whole };
struct Operand {
  Per per;
  bool written = false;
  DType dtype = DType::f32;
  std::int64_t count = 0;  // of Per::whole
};

struct Case {
  std::string label;
  Op op;
  std::vector<Operand> operands;  // by id
  std::int64_t columns;           // of a row
  std::int64_t tile;              // elements, whole rows
};

Shape shape_of(const Operand& operand, std::int64_t rows, std::int64_t columns) {
  if (operand.per == Per::whole) return {{D, operand.count}};
  if (operand.per == Per::row) return {{B, 1}, {T, rows}};
  return {{B, 1}, {T, rows}, {D, columns}};
}

// Memory of all operands of a case at some number of rows, and the frame over it.
struct World {
  std::vector<std::unique_ptr<Reserved>> memory;
  std::vector<Tensor> tensors;
  std::unique_ptr<Reserved> workspace;
  std::int64_t workspace_size;

  World(const Case& one, std::int64_t rows) {
    std::vector<ValueType> types;
    for (const Operand& operand : one.operands) {
      const Shape shape = shape_of(operand, rows, one.columns);
      types.push_back({operand.dtype, shape});
      memory.push_back(std::make_unique<Reserved>(shape.count() * size_of(operand.dtype)));
      tensors.emplace_back(memory.back()->data(), operand.dtype, shape);
    }
    check(one.op, types);
    workspace_size = std::max<std::int64_t>(workspace_bytes(one.op, types, {}), 1);
    workspace = std::make_unique<Reserved>(workspace_size);
  }
  Frame frame() const {
    return {.values = tensors,
            .workspace = {static_cast<std::byte*>(workspace->data()),
                          static_cast<std::size_t>(workspace_size)}};
  }
  // Numbers for the rows [first, last) as if they were the rows from `as` of the large tensor.
  void fill(const Case& one, std::int64_t first, std::int64_t last, std::int64_t as) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const Operand& operand = one.operands[i];
      const auto id = static_cast<Id>(i);
      const std::int64_t width = operand.per == Per::element ? one.columns : 1;
      const std::int64_t begin = operand.per == Per::whole ? 0 : first * width;
      const std::int64_t end = operand.per == Per::whole ? operand.count : last * width;
      const std::int64_t shift = operand.per == Per::whole ? 0 : (as - first) * width;
      for (std::int64_t k = begin; k < end; ++k) {
        if (operand.dtype == DType::f64) tensors[i].data<double>()[k] = static_cast<double>(k + 1);
        if (operand.dtype == DType::f32) tensors[i].data<float>()[k] = number_at(id, k + shift);
      }
    }
  }
};

void run_tiles(CpuBackend& cpu, const World& world, const Case& one, Tiles tiles) {
  std::visit(
      [&](const auto& op) {
        if constexpr (requires { run(cpu, world.frame(), op, tiles); }) {
          run(cpu, world.frame(), op, tiles);
        } else {
          throw Error(fmt::format("{} is not cut into tiles", op.name));
        }
      },
      one.op);
}

// Rows of the large tensor; its last tile is an odd one.
std::int64_t large_rows(const Case& one) {
  return border / one.columns + 3 * one.tile / one.columns + 1;
}

// The tiles of the large tensor that matter.
std::vector<std::int64_t> places(const Case& one) {
  const std::int64_t tiles = (large_rows(one) * one.columns + one.tile - 1) / one.tile;
  return {0, border / one.tile - 1, border / one.tile, tiles - 1};
}

// One tile of the large tensor, and a small world of nothing else: its rows, its numbers.
struct Twin {
  std::int64_t first, last;  // rows of the large tensor
  World small;

  // The op runs in both.
  Twin(CpuBackend& cpu, const Case& one, World& large, std::int64_t tile)
      : first(tile * one.tile / one.columns),
        last(std::min(large_rows(one), first + one.tile / one.columns)),
        small(one, last - first) {
    large.fill(one, first, last, first);
    small.fill(one, 0, last - first, first);
    run_tiles(cpu, large, one, {tile, tile + 1});
    run_tiles(cpu, small, one, {});
  }
};

bool same(const Tensor& large, std::int64_t at, const Tensor& small, std::int64_t count) {
  const std::int64_t size = size_of(large.dtype());
  return std::memcmp(static_cast<const std::byte*>(large.raw()) + at * size, small.raw(),
                     static_cast<std::size_t>(count * size)) == 0;
}

void check_beyond(CpuBackend& cpu, const Case& one) {
  SCOPED_TRACE(one.label);
  World large(one, large_rows(one));
  for (const std::int64_t tile : places(one)) {
    const Twin twin(cpu, one, large, tile);
    const auto& [first, last, small] = twin;
    for (std::size_t i = 0; i < one.operands.size(); ++i) {
      const Operand& operand = one.operands[i];
      if (!operand.written || operand.per == Per::whole) continue;
      const std::int64_t width = operand.per == Per::element ? one.columns : 1;
      const std::int64_t count = (last - first) * width;
      EXPECT_TRUE(same(large.tensors[i], first * width, small.tensors[i], count))
          << "operand " << i << ", tile " << tile;
      // The comparison reads what it should: one row further it fails.
      EXPECT_FALSE(same(large.tensors[i], (first + 1) * width, small.tensors[i], width));
    }
  }
}

std::int64_t resident_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

std::vector<Case> cases() {
  constexpr Operand in{Per::element}, out{Per::element, true};
  constexpr Operand per_row{Per::row}, row_out{Per::row, true};
  constexpr std::int64_t n = 640;  // does not divide 2^31: tiles lie across it
  const Operand whole{Per::whole, false, DType::f32, n};
  const Operand half{Per::element, true, DType::bf16};
  const Operand pending{Per::whole, false, DType::f64, Pending::slots};
  constexpr std::int64_t row_tiles = row_tile(n) * n;
  AdamW adamw{.w = 0, .g = 1, .m = 2, .v = 3, .pending = 4, .part = {}};
  return {
      {"add", Add{.a = 0, .b = 1, .y = 2, .scale_b = 0.3f}, {in, in, out}, 64, element_tile},
      {"scale", Scale{.x = 0, .y = 1, .factor = 0.3f}, {in, out}, 64, element_tile},
      {"cast", Cast{.x = 0, .y = 1}, {in, half}, 64, element_tile},
      {"add_into", AddInto{.x = 0, .y = 1}, {in, out}, 64, element_tile},
      {"gelu", Gelu{.x = 0, .y = 1}, {in, out}, 64, element_tile},
      {"gelu_grad", GeluGrad{.x = 0, .dy = 1, .dx = 2}, {in, in, out}, 64, element_tile},
      {"adamw", adamw, {out, in, out, out, pending}, 64, element_tile},
      {"layer_norm",
       LayerNorm{.x = 0, .gain = 1, .bias = 2, .y = 3, .mean = 4, .rstd = 5},
       {in, whole, whole, out, row_out, row_out},
       n,
       row_tiles},
      {"residual_norm",
       ResidualNorm{.a = 0, .b = 1, .sum = 2, .gain = 3, .bias = 4, .y = 5, .mean = 6, .rstd = 7},
       {in, in, out, whole, whole, out, row_out, row_out},
       n,
       row_tiles},
      {"layer_norm_grad_input",
       LayerNormGradInput{.x = 0, .gain = 1, .mean = 2, .rstd = 3, .dy = 4, .dx = 5},
       {in, whole, per_row, per_row, in, out},
       n,
       row_tiles},
  };
}

TEST(ElementwiseBeyondAll, TilesPastTwoToThe31) {
  for (const Isa isa : available_isas()) {
    CpuBackend cpu({.threads = 2, .isa = isa});
    for (const Case& one : cases()) check_beyond(cpu, one);
  }
  EXPECT_LE(resident_bytes(), std::int64_t{2} << 30);
}

// The two ops that sum over the tensor: with one chunk of numbers near an edge, everything else
// zero, the sum is that chunk's. Chunks that were not run are zero in the untouched workspace.
TEST(SumsBeyondAll, ChunksPastTwoToThe31) {
  const Operand norms{Per::whole, true, DType::f64, 3};
  const Operand whole{Per::whole, true, DType::f32, 640};
  const std::vector<Case> sums = {
      {"squared_norm",
       SquaredNorm{.x = 0, .norms = 1, .index = 1},
       {{Per::element}, norms},
       64,
       norm_chunk},
      {"layer_norm_grad_weight",
       LayerNormGradWeight{.x = 0, .mean = 1, .rstd = 2, .dy = 3, .dgain = 4, .dbias = 5},
       {{Per::element}, {Per::row}, {Per::row}, {Per::element}, whole, whole},
       640,
       token_chunk * 640}};
  for (const Isa isa : available_isas()) {
    CpuBackend cpu({.threads = 2, .isa = isa});
    for (const Case& one : sums) {
      SCOPED_TRACE(one.label);
      for (const std::int64_t tile : places(one)) {
        World large(one, large_rows(one));
        Twin twin(cpu, one, large, tile);
        World& small = twin.small;
        for (std::size_t i = 0; i < one.operands.size(); ++i) {
          if (!one.operands[i].written) continue;
          EXPECT_TRUE(same(large.tensors[i], 0, small.tensors[i], one.operands[i].count)) << tile;
        }
        small.fill(one, 0, 1, 12345);  // the control: one row of other numbers
        run_tiles(cpu, small, one, {});
        const std::size_t written = one.operands.size() - 1;
        EXPECT_FALSE(
            same(large.tensors[written], 0, small.tensors[written], one.operands[written].count));
      }
    }
  }
  EXPECT_LE(resident_bytes(), std::int64_t{2} << 30);
}

}  // namespace
}  // namespace sluice
