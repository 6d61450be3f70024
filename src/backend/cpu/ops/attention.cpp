// Launchers of attention and its gradient. Training: a task is 64 queries of one head (gradient:
// one key head of one row of the batch). Cached: k and v join the cache, then the same tiles, or
// one task per key head when a single token is decoded.
//
// q_BTNH  k_BTKH  v_BTKH  y_BTNH  lse_BNT  caches_BMKH (M = Tmax)
#include <cstring>

#include "backend/cpu/ops/attention_kernel.h"
#include "backend/cpu/ops/launch.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

const AttentionKernel& kernel_of(Isa isa) {
  return kernels_of(isa, portable_attention, avx2_attention, avx512_attention);
}

struct Sizes {
  std::int64_t batch, time, heads, key_heads, size;
};

Sizes sizes_of(const Tensor& y, const Tensor& k) {
  const Shape& q = y.shape();
  const Shape& keys = k.shape();
  return {q[0].size, q[1].size, q[2].size, keys[keys.rank() - 2].size, q[3].size};
}

// A [B T N H] value or one part of [B T P N H]: its first number and the step between tokens.
struct Rows {
  float* data;
  std::int64_t stride;
};

Rows rows_of(const Frame& frame, Slice slice) {
  const Tensor& whole = frame[slice.id];
  const Shape& shape = whole.shape();
  const std::int64_t part = shape[shape.rank() - 2].size * shape.last();
  return {whole.data<float>() + slice.part * part, slice.parts * part};
}

float* scratch_for(CpuBackend& cpu, int worker, std::int64_t size) {
  const std::span<std::byte> scratch = cpu.scratch(worker);
  const std::int64_t need = attention_scratch_floats(size) * 4;
  require(need <= static_cast<std::int64_t>(scratch.size()), [&] {
    return Error(fmt::format("attention over heads of {} needs {} bytes of scratch and has {}",
                             size, need, scratch.size()));
  });
  return reinterpret_cast<float*>(scratch.data());
}

// Refuses a step that would run past the cache: lengths are data.
void expect_room(const std::int32_t* lengths, std::int64_t batch, std::int64_t time,
                 std::int64_t room) {
  for (std::int64_t b = 0; b < batch; ++b) {
    require(0 <= lengths[b] && lengths[b] + time <= room, [&] {
      return Error(Exit::input,
                   {.what = fmt::format("row {} outgrows its cache of {} positions", b, room),
                    .where = "attention",
                    .expected = fmt::format("0 <= length <= {}", room - time),
                    .found = fmt::format("length {} and {} new tokens", lengths[b], time),
                    .tries = {"a shorter prompt or fewer tokens"}});
    });
  }
}

// Writes the new rows of one row of the batch into a cache; a token's heads are neighbours.
void extend_cache(Rows from, float* cache_MKH, std::int64_t time, std::int64_t width) {
  for (std::int64_t t = 0; t < time; ++t) {
    std::memcpy(cache_MKH + t * width, from.data + t * from.stride,
                static_cast<std::size_t>(width) * sizeof(float));
  }
}

// Keys and values to look at: those of the step itself, or the caches.
struct Seen {
  Rows k, v;
  std::int64_t rows;              // per row of the batch
  const std::int32_t* positions;  // of each row's first query, or null: 0
};

Seen extend_caches(CpuBackend& cpu, const Frame& frame, const Attention& op, const Sizes& n) {
  const Tensor& k_cache = frame[op.k_cache];
  const std::int64_t room = k_cache.shape()[1].size;
  const std::int64_t width = n.key_heads * n.size;
  const auto* lengths = frame[op.lengths].data<std::int32_t>();
  const Seen seen{
      {k_cache.data<float>(), width}, {frame[op.v_cache].data<float>(), width}, room, lengths};
  expect_room(lengths, n.batch, n.time, room);
  const Rows k = rows_of(frame, op.k), v = rows_of(frame, op.v);
  cpu.pool().run(2 * n.batch, [&](std::int64_t task, int) {
    const std::int64_t b = task / 2;
    const Rows& from = task % 2 == 0 ? k : v;
    const Rows& cache = task % 2 == 0 ? seen.k : seen.v;
    extend_cache({from.data + b * n.time * from.stride, from.stride},
                 cache.data + (b * room + lengths[b]) * width, n.time, width);
  });
  return seen;
}

void decode(CpuBackend& cpu, const Frame& frame, const Attention& op, const Sizes& n,
            const Seen& seen) {
  const AttentionKernel& kernel = kernel_of(cpu.isa());
  const Rows q = rows_of(frame, op.q);
  float* const y_BTNH = frame[op.y].data<float>();
  float* const lse = frame.has(op.lse) ? frame[op.lse].data<float>() : nullptr;
  const std::int64_t group = n.heads / n.key_heads;
  cpu.pool().run(n.batch * n.key_heads, [&](std::int64_t task, int worker) {
    const std::int64_t b = task / n.key_heads, m = task % n.key_heads;
    const std::int64_t head = b * n.heads + m * group;
    kernel.decode({.q = q.data + b * q.stride + m * group * n.size,
                   .k = seen.k.data + b * seen.rows * seen.k.stride + m * n.size,
                   .v = seen.v.data + b * seen.rows * seen.v.stride + m * n.size,
                   .y = y_BTNH + head * n.size,
                   .lse = lse == nullptr ? nullptr : lse + head,
                   .starts = nullptr,
                   .q_stride = n.size,
                   .k_stride = seen.k.stride,
                   .v_stride = seen.v.stride,
                   .y_stride = n.size,
                   .queries = group,
                   .position = seen.positions[b],
                   .size = n.size,
                   .scale = op.scale},
                  scratch_for(cpu, worker, n.size));
  });
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Attention& op, Tiles tiles) {
  const Sizes n = sizes_of(frame[op.y], frame[op.k.id]);
  const bool cached = frame.has(op.lengths);
  const Seen seen = cached ? extend_caches(cpu, frame, op, n)
                           : Seen{rows_of(frame, op.k), rows_of(frame, op.v), n.time, nullptr};
  if (cached && n.time == 1) return decode(cpu, frame, op, n, seen);
  const AttentionKernel& kernel = kernel_of(cpu.isa());
  const Rows q = rows_of(frame, op.q);
  const Rows y{frame[op.y].data<float>(), n.heads * n.size};
  const auto* starts = frame.has(op.starts) ? frame[op.starts].data<std::int32_t>() : nullptr;
  float* const lse = frame.has(op.lse) ? frame[op.lse].data<float>() : nullptr;
  const std::int64_t blocks = (n.time + attention_tile - 1) / attention_tile;
  const std::int64_t group = n.heads / n.key_heads;
  // The last queries see the most keys: they start first, so that the threads end together.
  for_tasks(cpu.pool(), n.batch * n.heads * blocks, tiles, [&](std::int64_t task, int worker) {
    const std::int64_t i0 = (blocks - 1 - task % blocks) * attention_tile;
    const std::int64_t head = task / blocks % n.heads, b = task / blocks / n.heads;
    const std::int64_t token = b * n.time + i0, key = b * seen.rows;
    kernel.forward({.q = q.data + token * q.stride + head * n.size,
                    .k = seen.k.data + key * seen.k.stride + head / group * n.size,
                    .v = seen.v.data + key * seen.v.stride + head / group * n.size,
                    .y = y.data + token * y.stride + head * n.size,
                    .lse = lse == nullptr ? nullptr : lse + (b * n.heads + head) * n.time + i0,
                    .starts = starts == nullptr ? nullptr : starts + token,
                    .q_stride = q.stride,
                    .k_stride = seen.k.stride,
                    .v_stride = seen.v.stride,
                    .y_stride = y.stride,
                    .queries = std::min(attention_tile, n.time - i0),
                    .position = i0 + (seen.positions == nullptr ? 0 : seen.positions[b]),
                    .size = n.size,
                    .scale = op.scale},
                   scratch_for(cpu, worker, n.size));
  });
}

// One pass per key head: dk and dv add up where they lie, over queries in ascending order.
void run(CpuBackend& cpu, const Frame& frame, const AttentionGrad& op, Tiles tiles) {
  const Sizes n = sizes_of(frame[op.y], frame[op.k.id]);
  const AttentionKernel& kernel = kernel_of(cpu.isa());
  const Rows q = rows_of(frame, op.q), k = rows_of(frame, op.k), v = rows_of(frame, op.v);
  const Rows dq = rows_of(frame, op.dq), dk = rows_of(frame, op.dk), dv = rows_of(frame, op.dv);
  const float* y_BTNH = frame[op.y].data<float>();
  const float* dy_BTNH = frame[op.dy].data<float>();
  const float* lse_BNT = frame[op.lse].data<float>();
  const auto* starts = frame.has(op.starts) ? frame[op.starts].data<std::int32_t>() : nullptr;
  const std::int64_t group = n.heads / n.key_heads;
  const std::int64_t y_stride = n.heads * n.size;
  for_tasks(cpu.pool(), n.batch * n.key_heads, tiles, [&](std::int64_t task, int worker) {
    const std::int64_t b = task / n.key_heads, m = task % n.key_heads;
    const std::int64_t token = b * n.time, head = m * group;
    kernel.backward({.q = q.data + token * q.stride + head * n.size,
                     .k = k.data + token * k.stride + m * n.size,
                     .v = v.data + token * v.stride + m * n.size,
                     .y = y_BTNH + token * y_stride + head * n.size,
                     .dy = dy_BTNH + token * y_stride + head * n.size,
                     .lse = lse_BNT + (b * n.heads + head) * n.time,
                     .starts = starts == nullptr ? nullptr : starts + token,
                     .dq = dq.data + token * dq.stride + head * n.size,
                     .dk = dk.data + token * dk.stride + m * n.size,
                     .dv = dv.data + token * dv.stride + m * n.size,
                     .q_stride = q.stride,
                     .k_stride = k.stride,
                     .v_stride = v.stride,
                     .y_stride = y_stride,
                     .dq_stride = dq.stride,
                     .dk_stride = dk.stride,
                     .dv_stride = dv.stride,
                     .tokens = n.time,
                     .group = group,
                     .size = n.size,
                     .scale = op.scale},
                    scratch_for(cpu, worker, n.size));
  });
}

void run(CpuBackend& cpu, const Frame& frame, const Attention& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const AttentionGrad& op) {
  run(cpu, frame, op, Tiles{});
}

}  // namespace sluice
