// Launchers of attention and its gradient. Training: a task is 64 queries of one head (gradient:
// one key head of one row of the batch, or, where those are too few for the threads, some of its
// keys and then some of its queries). Cached: k and v join the cache, then the same tiles; a single
// token is decoded in tasks of a stretch of the cache each.
//
// q_BTNH  k_BTKH  v_BTKH  y_BTNH  lse_BNT  caches_BMKH (M = Tmax)
#include <cstring>

#include "backend/cpu/ops/attention_kernel.h"
#include "backend/cpu/ops/launch.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

template <class T>
const AttentionKernel<T>& kernel_of(Isa isa) {
  if constexpr (std::is_same_v<T, float>) {
    return kernels_of(isa, portable_attention, avx2_attention, avx512_attention);
  } else {
    if (isa >= Isa::avx512_bf16) return avx512_bf16_attention_bf16;
    return kernels_of(isa, portable_attention_bf16, avx2_attention_bf16, avx512_attention_bf16);
  }
}

struct Sizes {
  std::int64_t batch, time, heads, key_heads, size;
  std::int64_t group() const { return heads / key_heads; }
};

Sizes sizes_of(const Tensor& y, const Tensor& k) {
  const Shape& q = y.shape();
  const Shape& keys = k.shape();
  return {q[0].size, q[1].size, q[2].size, keys[keys.rank() - 2].size, q[3].size};
}

// A tensor of floats, or of bf16 as their bits.
template <class T>
T* numbers_of(const Tensor& tensor) {
  if constexpr (std::is_same_v<T, Half>) {
    return reinterpret_cast<Half*>(tensor.data<bf16>());
  } else {
    return tensor.data<T>();
  }
}

// A [B T N H] value or one part of [B T P N H]: its first number and the step between tokens.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;
  T* row(std::int64_t token) const { return data + token * stride; }
};

template <class T>
Rows<T> rows_of(const Frame& frame, Slice slice) {
  const Tensor& whole = frame[slice.id];
  const Shape& shape = whole.shape();
  const std::int64_t part = shape[shape.rank() - 2].size * shape.last();
  return {numbers_of<T>(whole) + slice.part * part, slice.parts * part};
}

float* scratch_for(CpuBackend& cpu, int worker, std::int64_t floats) {
  const std::span<std::byte> scratch = cpu.scratch(worker);
  require(floats * 4 <= static_cast<std::int64_t>(scratch.size()), [&] {
    return Error(
        fmt::format("attention needs {} bytes of scratch and has {}", floats * 4, scratch.size()));
  });
  return reinterpret_cast<float*>(scratch.data());
}

// Of element 0 of the micro-batch's first row.
AttentionDropout dropout_of(const Frame& frame, const DropoutKey& key, Id control, const Sizes& n) {
  if (key.rate == 0) return {};
  const double* const now = frame[control].data<double>();
  const std::int64_t step = (n.time + 3) / 4 * 4;
  const auto row = static_cast<std::int64_t>(now[Control::first_row]);
  return {.seed = key.seed,
          .stream = dropout_stream(key.stream, frame.layer,
                                   static_cast<std::int64_t>(now[Control::step])),
          .first = static_cast<std::uint64_t>(row * n.heads * n.time * step),
          .step = step,
          .threshold = dropout_threshold(key.rate),
          .factor = static_cast<float>(1.0 / (1.0 - static_cast<double>(key.rate)))};
}

// The same, from query t of head `head`, heads counting over the rows of the micro-batch.
AttentionDropout moved(AttentionDropout dropout, std::int64_t query) {
  dropout.first += static_cast<std::uint64_t>(query * dropout.step);
  return dropout;
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
template <class T>
void extend_cache(Rows<T> from, T* cache_MKH, std::int64_t time, std::int64_t width) {
  for (std::int64_t t = 0; t < time; ++t) {
    std::memcpy(cache_MKH + t * width, from.row(t), static_cast<std::size_t>(width) * sizeof(T));
  }
}

// Keys and values to look at: those of the step itself, or the caches.
template <class T>
struct Seen {
  Rows<T> k, v;
  std::int64_t rows;              // per row of the batch
  const std::int32_t* positions;  // of each row's first query, or null: 0
};

template <class T>
Seen<T> caches_of(const Frame& frame, const Attention& op, const Sizes& n) {
  const std::int64_t room = frame[op.k_cache].shape()[1].size;
  const auto* lengths = frame[op.lengths].data<std::int32_t>();
  expect_room(lengths, n.batch, n.time, room);
  return {rows_of<T>(frame, {op.k_cache}), rows_of<T>(frame, {op.v_cache}), room, lengths};
}

template <class T>
void extend_caches(CpuBackend& cpu, const Frame& frame, const Attention& op, const Sizes& n,
                   const Seen<T>& seen) {
  const Rows<T> k = rows_of<T>(frame, op.k), v = rows_of<T>(frame, op.v);
  cpu.pool().run(2 * n.batch, [&](std::int64_t task, int) {
    const std::int64_t b = task / 2;
    const Rows<T>& from = task % 2 == 0 ? k : v;
    const Rows<T>& cache = task % 2 == 0 ? seen.k : seen.v;
    extend_cache(Rows<T>{from.row(b * n.time), from.stride},
                 cache.row(b * seen.rows + seen.positions[b]), n.time, cache.stride);
  });
}

// How a row's cache is cut when one token is decoded: by the cache's room alone, so that a row's
// bits depend neither on the threads nor on the other rows.
struct Stretches {
  std::int64_t keys;    // of a stretch, a multiple of 64
  std::int64_t most;    // stretches of a row
  std::int64_t floats;  // of a partial
  explicit Stretches(const Sizes& n, std::int64_t room)
      : floats(attention_partial_floats(n.heads, n.size)) {
    const std::int64_t parts = std::clamp<std::int64_t>(budget / floats, 1, 32);
    const std::int64_t share = (room + parts - 1) / parts;
    keys = (share + attention_tile - 1) / attention_tile * attention_tile;
    most = (room + keys - 1) / keys;
  }
  // Partials lie in the second half of the first worker's scratch.
  static constexpr std::int64_t budget = CpuBackend::scratch_bytes / 2 / 4;
};

// Stretch c of row b. The task that reads the new token's key and value also stores them.
template <class T>
void decode_stretch(CpuBackend& cpu, const Frame& frame, const Attention& op, const Sizes& n,
                    const Seen<T>& seen, const Stretches& cut, std::int64_t b, std::int64_t c,
                    float* partial, int worker) {
  const std::int64_t length = seen.positions[b], first = c * cut.keys, row = b * seen.rows;
  if (first > length) return;
  const std::int64_t keys = std::min(cut.keys, length + 1 - first);
  if (first + keys == length + 1) {
    for (const auto& [from, cache] : {std::pair{op.k, seen.k}, {op.v, seen.v}})
      extend_cache(Rows<T>{rows_of<T>(frame, from).row(b), 0}, cache.row(row + length), 1,
                   cache.stride);
  }
  const std::int64_t floats = attention_decode_floats(n.heads, n.size);
  require(floats <= Stretches::budget && cut.floats <= Stretches::budget, [&] {
    return Error(fmt::format("{} heads of {} are too many to decode", n.heads, n.size));
  });
  kernel_of<T>(cpu.isa()).decode({.q = rows_of<T>(frame, op.q).row(b),
                                  .k = seen.k.row(row + first),
                                  .v = seen.v.row(row + first),
                                  .partial = partial,
                                  .stride = seen.k.stride,
                                  .keys = keys,
                                  .heads = n.heads,
                                  .group = n.group(),
                                  .size = n.size,
                                  .scale = op.scale},
                                 scratch_for(cpu, worker, floats));
}

template <class T>
void decode(CpuBackend& cpu, const Frame& frame, const Attention& op, const Sizes& n,
            const Seen<T>& seen) {
  const Stretches cut(n, seen.rows);
  float* const partials = reinterpret_cast<float*>(cpu.scratch(0).data()) +
                          CpuBackend::scratch_bytes / 4 - Stretches::budget;
  T* const y = numbers_of<T>(frame[op.y]);
  float* const lse = frame.has(op.lse) ? frame[op.lse].data<float>() : nullptr;
  const std::int64_t step = cut.most * cut.floats;
  const std::int64_t at_once = std::max<std::int64_t>(Stretches::budget / step, 1);
  for (std::int64_t b0 = 0; b0 < n.batch; b0 += at_once) {
    const std::int64_t rows = std::min(at_once, n.batch - b0);
    std::int64_t used = 0;  // stretches of the longest of these rows
    for (std::int64_t b = b0; b < b0 + rows; ++b)
      used = std::max<std::int64_t>(used, seen.positions[b] / cut.keys + 1);
    cpu.pool().run(rows * used, [&](std::int64_t task, int worker) {
      const std::int64_t b = task / used, c = task % used;
      decode_stretch(cpu, frame, op, n, seen, cut, b0 + b, c, partials + b * step + c * cut.floats,
                     worker);
    });
    cpu.pool().run(rows, [&](std::int64_t b, int) {
      kernel_of<T>(cpu.isa()).join({.partial = partials + b * step,
                                    .parts = seen.positions[b0 + b] / cut.keys + 1,
                                    .heads = n.heads,
                                    .size = n.size,
                                    .y = y + (b0 + b) * n.heads * n.size,
                                    .lse = lse == nullptr ? nullptr : lse + (b0 + b) * n.heads});
    });
  }
}

template <class T>
void forward(CpuBackend& cpu, const Frame& frame, const Attention& op, const Sizes& n,
             const Seen<T>& seen, const AttentionDropout& dropout, Tiles tiles) {
  const Rows<T> q = rows_of<T>(frame, op.q), y = rows_of<T>(frame, {op.y});
  const auto* starts = frame.has(op.starts) ? frame[op.starts].data<std::int32_t>() : nullptr;
  float* const lse = frame.has(op.lse) ? frame[op.lse].data<float>() : nullptr;
  const std::int64_t blocks = (n.time + attention_tile - 1) / attention_tile;
  // The last queries see the most keys: they start first, so that the threads end together.
  for_tasks(cpu.pool(), n.batch * n.heads * blocks, tiles, [&](std::int64_t task, int worker) {
    const std::int64_t i0 = (blocks - 1 - task % blocks) * attention_tile;
    const std::int64_t head = task / blocks % n.heads, b = task / blocks / n.heads;
    const std::int64_t token = b * n.time + i0, key = b * seen.rows;
    const std::int64_t query = (b * n.heads + head) * n.time + i0;
    const std::int64_t key_at = head / n.group() * n.size;
    kernel_of<T>(cpu.isa()).forward(
        {.q = q.row(token) + head * n.size,
         .k = seen.k.row(key) + key_at,
         .v = seen.v.row(key) + key_at,
         .y = y.row(token) + head * n.size,
         .lse = lse == nullptr ? nullptr : lse + query,
         .starts = starts == nullptr ? nullptr : starts + token,
         .q_stride = q.stride,
         .k_stride = seen.k.stride,
         .v_stride = seen.v.stride,
         .y_stride = y.stride,
         .queries = std::min(attention_tile, n.time - i0),
         .position = i0 + (seen.positions == nullptr ? 0 : seen.positions[b]),
         .size = n.size,
         .scale = op.scale,
         .dropout = moved(dropout, query)},
        scratch_for(cpu, worker, attention_scratch_floats(n.size)));
  });
}

template <class T>
void run_as(CpuBackend& cpu, const Frame& frame, const Attention& op, Tiles tiles) {
  const Sizes n = sizes_of(frame[op.y], frame[op.k.id]);
  if (!frame.has(op.lengths)) {
    const Seen<T> seen{rows_of<T>(frame, op.k), rows_of<T>(frame, op.v), n.time, nullptr};
    forward(cpu, frame, op, n, seen, dropout_of(frame, op.dropout, op.control, n), tiles);
    return;
  }
  const auto seen = caches_of<T>(frame, op, n);
  if (n.time == 1) return decode(cpu, frame, op, n, seen);
  extend_caches(cpu, frame, op, n, seen);
  forward(cpu, frame, op, n, seen, {}, tiles);
}

// How the gradient of one key head is cut: not at all, or into parts of 256 keys, which make dk and
// dv, then parts of 64 queries, which make dq. The bits are the same. Parts remake the scores
// twice, seven products in place of five, so they only pay where threads would be idle.
struct GradParts {
  std::int64_t keys = 0, queries = 0;  // parts; 0: one task makes everything
  std::int64_t count() const { return keys == 0 ? 1 : keys + queries; }
};
constexpr std::int64_t keys_of_part = 256;

template <class T>
GradParts parts_of(const Sizes& n, std::int64_t heads, int threads) {
  // Sums of bf16 gradients are kept in scratch, as far as it reaches.
  const std::int64_t sums = std::is_same_v<T, float> ? 0 : n.time;
  const bool fits =
      attention_scratch_floats(n.size, sums) * 4 <= std::int64_t{CpuBackend::scratch_bytes};
  const std::int64_t rounds = (heads + threads - 1) / threads;
  const bool busy = 10 * heads >= 7 * rounds * threads || n.time <= keys_of_part;
  if (fits && busy) return {};
  return {(n.time + keys_of_part - 1) / keys_of_part,
          (n.time + attention_tile - 1) / attention_tile};
}

template <class T>
void select_part(const GradParts& parts, std::int64_t part, AttentionGradHead<T>* head) {
  const std::int64_t tokens = head->tokens;
  head->keys = part < parts.keys || parts.keys == 0;
  head->queries = part >= parts.keys;
  head->first_key = head->first_query = 0;
  head->last_key = head->last_query = tokens;
  if (parts.keys == 0) return;
  if (head->keys) {
    head->first_key = part * keys_of_part;
    head->last_key = std::min(tokens, head->first_key + keys_of_part);
  } else {
    // The last queries see the most keys: they start first.
    head->first_query = (parts.count() - 1 - part) * attention_tile;
    head->last_query = std::min(tokens, head->first_query + attention_tile);
  }
}

template <class T>
void run_as(CpuBackend& cpu, const Frame& frame, const AttentionGrad& op, Tiles tiles) {
  const Sizes n = sizes_of(frame[op.y], frame[op.k.id]);
  const Rows<T> q = rows_of<T>(frame, op.q), k = rows_of<T>(frame, op.k),
                v = rows_of<T>(frame, op.v), y = rows_of<T>(frame, {op.y}),
                dy = rows_of<T>(frame, {op.dy}), dq = rows_of<T>(frame, op.dq),
                dk = rows_of<T>(frame, op.dk), dv = rows_of<T>(frame, op.dv);
  const float* lse_BNT = frame[op.lse].data<float>();
  const auto* starts = frame.has(op.starts) ? frame[op.starts].data<std::int32_t>() : nullptr;
  const AttentionDropout dropout = dropout_of(frame, op.dropout, op.control, n);
  tiles.last = std::min(tiles.last, n.batch * n.key_heads);
  const GradParts parts = parts_of<T>(n, tiles.last - tiles.first, cpu.pool().threads());
  const std::int64_t sums = std::is_same_v<T, float> ? 0 : parts.keys == 0 ? n.time : keys_of_part;
  cpu.pool().run((tiles.last - tiles.first) * parts.count(), [&](std::int64_t task, int worker) {
    const std::int64_t tile = tiles.first + task / parts.count();
    const std::int64_t b = tile / n.key_heads, m = tile % n.key_heads;
    const std::int64_t token = b * n.time, head = m * n.group();
    const std::int64_t query = (b * n.heads + head) * n.time;
    AttentionGradHead<T> one{.q = q.row(token) + head * n.size,
                             .k = k.row(token) + m * n.size,
                             .v = v.row(token) + m * n.size,
                             .y = y.row(token) + head * n.size,
                             .dy = dy.row(token) + head * n.size,
                             .lse = lse_BNT + query,
                             .starts = starts == nullptr ? nullptr : starts + token,
                             .dq = dq.row(token) + head * n.size,
                             .dk = dk.row(token) + m * n.size,
                             .dv = dv.row(token) + m * n.size,
                             .q_stride = q.stride,
                             .k_stride = k.stride,
                             .v_stride = v.stride,
                             .y_stride = y.stride,
                             .dq_stride = dq.stride,
                             .dk_stride = dk.stride,
                             .dv_stride = dv.stride,
                             .tokens = n.time,
                             .group = n.group(),
                             .size = n.size,
                             .scale = op.scale,
                             .dropout = moved(dropout, query),
                             .keys = true,
                             .queries = true,
                             .first_key = 0,
                             .last_key = n.time,
                             .first_query = 0,
                             .last_query = n.time};
    select_part(parts, task % parts.count(), &one);
    kernel_of<T>(cpu.isa()).backward(
        one, scratch_for(cpu, worker, attention_scratch_floats(n.size, sums)));
  });
}

template <class AnyOp>
void run_typed(CpuBackend& cpu, const Frame& frame, const AnyOp& op, Tiles tiles) {
  if (frame[op.y].dtype() == DType::bf16) return run_as<Half>(cpu, frame, op, tiles);
  run_as<float>(cpu, frame, op, tiles);
}

}  // namespace

void run(CpuBackend& cpu, const Frame& frame, const Attention& op, Tiles tiles) {
  run_typed(cpu, frame, op, tiles);
}
void run(CpuBackend& cpu, const Frame& frame, const AttentionGrad& op, Tiles tiles) {
  run_typed(cpu, frame, op, tiles);
}
void run(CpuBackend& cpu, const Frame& frame, const Attention& op) { run(cpu, frame, op, Tiles{}); }
void run(CpuBackend& cpu, const Frame& frame, const AttentionGrad& op) {
  run(cpu, frame, op, Tiles{});
}

}  // namespace sluice
