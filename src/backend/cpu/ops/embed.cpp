// Embed reads and writes M·D numbers; EmbedGrad reads M·D and updates M·D floats of the table (and
// clears V·D of it in the first micro-batch). Limit of both: those bytes over the memory bandwidth.
//
// ids_M  table_VD  y_MD  (M tokens, V rows, D columns)
#include <algorithm>
#include <cstring>

#include "backend/cpu/ops/elementwise_kernel.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/storage.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

constexpr std::int64_t row_block = 128;
constexpr std::int64_t column_strip = 64;

std::int64_t blocks(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

// Batch data is input: an id outside the table is refused, the first one by name.
void expect_inside(const std::int32_t* ids, std::int64_t count, std::int64_t rows) {
  for (std::int64_t i = 0; i < count; ++i) {
    require(0 <= ids[i] && ids[i] < rows, [&] {
      return Error(
          Exit::input,
          {.what = fmt::format("id {} is outside an embedding table of {} rows", ids[i], rows),
           .where = fmt::format("token {} of the batch", i),
           .expected = fmt::format("0 <= id < {}", rows),
           .found = fmt::format("{}", ids[i]),
           .tries = {"data written with this model's tokenizer"}});
    });
  }
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Embed& op, Tiles tiles) {
  const Tensor& table = frame[op.table];
  const std::int64_t count = frame[op.ids].count();
  const std::int64_t row_bytes = table.cols() * size_of(table.dtype());
  const std::int32_t* ids_M = frame[op.ids].data<std::int32_t>();
  const auto* table_VD = static_cast<const std::byte*>(table.raw());
  auto* y_MD = static_cast<std::byte*>(frame[op.y].raw());
  expect_inside(ids_M, count, table.rows());
  for_tiles(cpu.pool(), count, embed_tile, tiles, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::memcpy(y_MD + i * row_bytes, table_VD + ids_M[i] * row_bytes,
                  static_cast<std::size_t>(row_bytes));
    }
  });
}

void run(CpuBackend& cpu, const Frame& frame, const Embed& op) { run(cpu, frame, op, Tiles{}); }

// Tasks are strips of columns: each walks all tokens in order, so a row's sum has one order.
void run(CpuBackend& cpu, const Frame& frame, const EmbedGrad& op) {
  const Tensor& dtable = frame[op.dtable];
  const std::int64_t count = frame[op.ids].count();
  const std::int64_t rows = dtable.rows();
  const std::int64_t width = dtable.cols();
  const std::int32_t* ids_M = frame[op.ids].data<std::int32_t>();
  float* dtable_VD = dtable.data<float>();
  expect_inside(ids_M, count, rows);
  if (frame.first) {
    cpu.pool().run(blocks(rows, row_block), [&](std::int64_t task, int) {
      const std::int64_t begin = task * row_block;
      const std::int64_t size = std::min(row_block, rows - begin) * width;
      std::fill_n(dtable_VD + begin * width, size, 0.0f);
    });
  }
  with_storage(frame[op.dy].dtype(), [&]<class T>() {
    const T* dy_MD = frame[op.dy].data<T>();
    const auto add_to =
        kernels_of(cpu.isa(), portable_elementwise, avx2_elementwise, avx512_elementwise)
            .of<T>()
            .add_to;
    cpu.pool().run(blocks(width, column_strip), [&](std::int64_t task, int) {
      const std::int64_t begin = task * column_strip;
      const std::int64_t size = std::min(column_strip, width - begin);
      for (std::int64_t i = 0; i < count; ++i) {
        add_to(dy_MD + i * width + begin, dtable_VD + ids_M[i] * width + begin, size);
      }
    });
  });
}

}  // namespace sluice
