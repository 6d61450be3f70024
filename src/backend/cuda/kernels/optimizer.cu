// The end of a step. Bytes per number, in one pass: AdamW float32 28 (reads w, g, m, v, writes w,
// m, v), exact 28, compact 12.1; SquaredNorm 4; rounding 8; Ema 12, 10 from bf16. Limit: the memory
// bandwidth, of which on an H200 (4.3 TB/s, bench_gpu_kernels) a table of 50,304 x 768 reached:
// AdamW float32 87%, exact 91%; SquaredNorm 83%; rounding to bf16 88%; Ema 80%; where the
// arithmetic is the limit (Philox, roots and quotients as the CPU's), rounding to int8 61%, compact
// 30%. A tensor of 2.4 million numbers: 70%, 67% and 28%, of which launches are the rest. The
// arithmetic is that of the CPU's AVX-512 kernels (cpu/ops/optimizer_blocks.h), with the same
// multiply-adds, so that the same state and gradient give the same bits: this file is compiled
// without contraction.
#include "backend/cuda/kernels/optimizer.h"

#include <algorithm>

#include "backend/cuda/kernels/formats.cuh"
#include "ops/optimizer/spikes.h"

namespace sluice::gpu {
namespace {

// Slots of ops/optimizer/optimizer.h.
constexpr int pending_lr = 0, pending_step = 1, pending_scale = 2, pending_apply = 3;
constexpr std::int64_t norm_chunk = squared_norm_chunk;
constexpr int threads = 256;
// As many blocks as 132 multiprocessors hold at once, eight each; what a step's numbers cost is
// then small beside what a block does with them.
constexpr unsigned resident = 8 * 132;

unsigned grid_of(std::int64_t n, int each) {
  return static_cast<unsigned>((n + static_cast<std::int64_t>(threads) * each - 1) /
                               (static_cast<std::int64_t>(threads) * each));
}

// A chunk to a block, four numbers at a time, all of them on their way at once.
__global__ void __launch_bounds__(threads)
    squares_kernel(const float* x, std::int64_t n, double* parts) {
  __shared__ double room[33];
  constexpr int each = norm_chunk / (4 * threads);
  const std::int64_t begin = blockIdx.x * norm_chunk;
  double sum = 0;
  const auto add = [&](float one) { sum += static_cast<double>(one) * static_cast<double>(one); };
  if (begin + norm_chunk <= n && aligned(x)) {
    const auto* const from = reinterpret_cast<const float4*>(x + begin) + threadIdx.x;
    float4 v[each];
#pragma unroll
    for (int k = 0; k < each; ++k) v[k] = from[k * threads];
#pragma unroll
    for (const float4& one : v) add(one.x), add(one.y), add(one.z), add(one.w);
  } else {
    for (std::int64_t i = begin + threadIdx.x; i < min(n, begin + norm_chunk); i += threads)
      add(x[i]);
  }
  sum = block_sum(sum, room);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(1024)
    sum_kernel(const double* parts, std::int64_t count, double* to) {
  __shared__ double room[33];
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += parts[i];
  sum = block_sum(sum, room);
  if (threadIdx.x == 0) *to = sum;
}

// One thread: the table is short, and its sum has the order of the tensors.
__global__ void finish_kernel(FinishTables t) {
  double squares = 0, bad = -1;
  for (std::int64_t i = 0; i < t.tensors; ++i) {
    squares += t.norms[i];
    if (bad < 0 && !isfinite(t.norms[i])) bad = static_cast<double>(i);
  }
  const double weight = t.stats[1];
  const double loss = t.stats[0] / weight;
  const double norm = sqrt(squares) / weight;
  const bool finite = isfinite(loss) && isfinite(norm);
  const bool clips = t.clip > 0 && norm > t.clip;
  const bool judged = t.spikes != nullptr && finite;
  const int skipped =
      judged ? judge_spike(t.spikes, loss, norm, t.deviations, [](double x) { return sqrt(x); })
             : 0;
  const double lr = t.control[0], step = t.control[control_step];
  t.pending[pending_lr] = lr;
  t.pending[pending_step] = step;
  t.pending[pending_scale] = (clips ? t.clip / norm : 1.0) / weight;
  t.pending[pending_apply] = finite && skipped == 0 ? 1 : 0;
  double* const row = t.results + static_cast<std::int64_t>(step) % 2 * 7;
  row[0] = loss, row[1] = norm, row[2] = weight, row[3] = finite ? 1 : 0;
  row[4] = step, row[5] = bad, row[6] = skipped;
}

// What one step does to every number of a part, made in float64.
struct Numbers {
  float scale, beta1, rest1, beta2, rest2, correct1, correct2, lr, decay, eps;
};

__device__ double power(double base, std::int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1, base *= base)
    if (exponent & 1) result *= base;
  return result;
}

__device__ Numbers numbers_of(const AdamWParts& p, int part, const double* pending) {
  const auto step = static_cast<std::int64_t>(pending[pending_step]);
  const double beta1 = p.beta1, beta2 = p.beta2;
  return {static_cast<float>(pending[pending_scale]),
          p.beta1,
          static_cast<float>(1 - beta1),
          p.beta2,
          static_cast<float>(1 - beta2),
          static_cast<float>(1 / (1 - power(beta1, step))),
          static_cast<float>(1 / (1 - power(beta2, step))),
          static_cast<float>(pending[pending_lr] * p.lr[part]),
          p.decay[part],
          p.eps[part]};
}

__device__ void make_numbers(const AdamWParts& p, const double* pending, Numbers (&shared)[3]) {
  if (threadIdx.x < p.parts) shared[threadIdx.x] = numbers_of(p, threadIdx.x, pending);
  __syncthreads();
}

__device__ inline int part_of(const AdamWParts& p, std::int64_t element) {
  return p.parts == 1 ? 0 : static_cast<int>(element / p.inner % p.parts);
}

__device__ inline float flush(float x) { return fabsf(x) < FLT_MIN ? 0.0f : x; }
__device__ inline float mean_of(const Numbers& a, float gradient, float m) {
  return flush(fmaf(a.beta1, m, a.rest1 * gradient));
}
__device__ inline float square_of(const Numbers& a, float gradient, float v) {
  return flush(fmaf(a.beta2, v, a.rest2 * gradient * gradient));
}
__device__ inline float weight_of(const Numbers& a, float w, float mean, float square) {
  const float ratio = a.correct1 * mean / (sqrtf(a.correct2 * square) + a.eps);
  return fmaf(-a.lr, fmaf(a.decay, w, ratio), w);
}

// The numbers of four neighbours: their part's, or null when a part ends among them.
__device__ inline const Numbers* of_four(const AdamWParts& p, const Numbers* numbers,
                                         std::int64_t first) {
  if (p.parts == 1) return numbers;
  const std::int64_t line = first / p.inner;
  return first + 4 <= (line + 1) * p.inner ? numbers + line % p.parts : nullptr;
}

// Four neighbours of everything that an update touches.
template <bool exact>
struct Quad {
  float g[4], m[4], v[4], w[4];
  __device__ void load(const AdamWState& t, std::int64_t i) {
    const auto get = [i](const void* from, float(&to)[4]) {
      const float4 x = *reinterpret_cast<const float4*>(static_cast<const float*>(from) + i);
      to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
    };
    get(t.g, g), get(t.m, m), get(t.v, v);
    if constexpr (exact) {
      const ushort4 hi =
          *reinterpret_cast<const ushort4*>(static_cast<const std::uint16_t*>(t.w) + i);
      const short4 low = *reinterpret_cast<const short4*>(t.low + i);
      w[0] = join_master(hi.x, low.x), w[1] = join_master(hi.y, low.y);
      w[2] = join_master(hi.z, low.z), w[3] = join_master(hi.w, low.w);
    } else {
      get(t.w, w);
    }
  }
  __device__ void load_some(const AdamWState& t, std::int64_t i, int count) {
    for (int j = 0; j < count; ++j) {
      g[j] = t.g[i + j];
      m[j] = static_cast<const float*>(t.m)[i + j], v[j] = static_cast<const float*>(t.v)[i + j];
      if constexpr (exact)
        w[j] = join_master(static_cast<const std::uint16_t*>(t.w)[i + j], t.low[i + j]);
      else
        w[j] = static_cast<const float*>(t.w)[i + j];
    }
  }
  __device__ void step(int j, const Numbers& a) {
    const float gradient = a.scale * g[j];
    m[j] = mean_of(a, gradient, m[j]);
    v[j] = square_of(a, gradient, v[j]);
    w[j] = weight_of(a, w[j], m[j], v[j]);
  }
  __device__ void store(const AdamWState& t, std::int64_t i) const {
    const auto put = [i](void* to, const float(&x)[4]) {
      *reinterpret_cast<float4*>(static_cast<float*>(to) + i) = make_float4(x[0], x[1], x[2], x[3]);
    };
    put(t.m, m), put(t.v, v);
    if constexpr (exact) {
      ushort4 hi;
      short4 low;
      split_master(w[0], hi.x, low.x), split_master(w[1], hi.y, low.y);
      split_master(w[2], hi.z, low.z), split_master(w[3], hi.w, low.w);
      *reinterpret_cast<ushort4*>(static_cast<std::uint16_t*>(t.w) + i) = hi;
      *reinterpret_cast<short4*>(t.low + i) = low;
    } else {
      put(t.w, w);
    }
  }
  __device__ void store_some(const AdamWState& t, std::int64_t i, int count) const {
    for (int j = 0; j < count; ++j) {
      static_cast<float*>(t.m)[i + j] = m[j], static_cast<float*>(t.v)[i + j] = v[j];
      if constexpr (exact)
        split_master(w[j], static_cast<std::uint16_t*>(t.w)[i + j], t.low[i + j]);
      else
        static_cast<float*>(t.w)[i + j] = w[j];
    }
  }
};

// `quads`: fours that are whole and aligned; the rest is one thread's.
template <bool exact>
__global__ void __launch_bounds__(threads)
    adamw_kernel(AdamWState t, AdamWParts p, std::int64_t n, std::int64_t quads) {
  __shared__ Numbers numbers[3];
  if (t.pending[pending_apply] == 0) return;
  make_numbers(p, t.pending, numbers);
  constexpr int each = 2;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * threads * each;
  for (std::int64_t base = static_cast<std::int64_t>(blockIdx.x) * threads * each + threadIdx.x;
       base < quads; base += stride) {
    Quad<exact> quad[each];
#pragma unroll
    for (int k = 0; k < each; ++k)
      if (base + k * threads < quads) quad[k].load(t, (base + k * threads) * 4);
#pragma unroll
    for (int k = 0; k < each; ++k) {
      const std::int64_t i = (base + k * threads) * 4;
      if (base + k * threads >= quads) continue;
      const Numbers* const all = of_four(p, numbers, i);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        quad[k].step(j, all != nullptr ? *all : numbers[part_of(p, i + j)]);
      quad[k].store(t, i);
    }
  }
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  for (std::int64_t i = quads * 4; i < n; ++i) {
    Quad<exact> one;
    one.load_some(t, i, 1);
    one.step(0, numbers[part_of(p, i)]);
    one.store_some(t, i, 1);
  }
}

// The lane's four numbers of a block, which belongs to a warp.
struct Four {
  std::int64_t block, first;  // of the lane
  int count;                  // 0 to 4
  bool whole;                 // four that lie as one access wants them
  __device__ Four(const Drawn& d, std::int64_t of) : block(of) {
    const std::int64_t column = block % d.blocks * block_size + threadIdx.x % 32 * 4;
    first = block / d.blocks * d.row + column;
    const std::int64_t rest = d.row - column;
    count = static_cast<int>(rest < 0 ? 0 : rest > 4 ? 4 : rest);
    whole = count == 4 && d.row % 4 == 0;
  }
  // x[0 … 3] from, and to, `first` numbers on; zeros beyond the row.
  template <class Word, class T>
  __device__ void load(const T* from, T (&x)[4]) const {
    if (whole) {
      const Word all = *reinterpret_cast<const Word*>(from + first);
      x[0] = all.x, x[1] = all.y, x[2] = all.z, x[3] = all.w;
    } else {
      for (int i = 0; i < 4; ++i) x[i] = i < count ? from[first + i] : T{0};
    }
  }
  template <class Word, class T>
  __device__ void store(T* to, const T (&x)[4]) const {
    if (whole)
      *reinterpret_cast<Word*>(to + first) = Word{x[0], x[1], x[2], x[3]};
    else
      for (int i = 0; i < count; ++i) to[first + i] = x[i];
  }
};
// body(four) for every block of 128, a warp each; the grid is `resident` or less.
template <class Body>
__device__ void for_blocks(const Drawn& d, Body body) {
  const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * (threads / 32);
  for (std::int64_t block = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) / 32;
       block < d.rows * d.blocks; block += warps)
    body(Four(d, block));
}
unsigned blocks_for(const Drawn& d) {
  return std::min(resident, grid_of(d.rows * d.blocks * 32, 1));
}

__device__ void draw(const Drawn& d, std::uint64_t stream, std::int64_t first,
                     unsigned (&draws)[4]) {
  const auto from = static_cast<std::uint64_t>(first);
  uint4 four = philox(d.seed, stream, from / 4);
  for (unsigned i = 0; i < 4; ++i) {
    if (i > 0 && (from + i) % 4 == 0) four = philox(d.seed, stream, (from + i) / 4);
    draws[i] = one_of(four, static_cast<unsigned>((from + i) % 4));
  }
}

__device__ void update_compact(const AdamWState& t, const AdamWParts& p, const Drawn& d,
                               const Numbers* numbers, std::uint64_t stream, const Four& at) {
  auto* const weights = static_cast<std::uint16_t*>(t.w);
  auto* const m_all = static_cast<std::uint8_t*>(t.m);
  auto* const v_all = static_cast<std::uint8_t*>(t.v);
  std::uint16_t w[4];
  std::uint8_t m_codes[4], v_codes[4];
  float g[4], weight[4] = {}, m[4] = {}, v[4] = {};
  at.load<float4>(t.g, g);
  at.load<ushort4>(weights, w);
  at.load<uchar4>(m_all, m_codes);
  at.load<uchar4>(v_all, v_codes);
  const float m_scale = t.m_scale[at.block], v_scale = t.v_scale[at.block];
  const Numbers* const all = of_four(p, numbers, at.first);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i >= at.count) continue;
    const Numbers& a = all != nullptr ? *all : numbers[part_of(p, at.first + i)];
    const float gradient = a.scale * g[i];
    float kept_v, read_v;
    decode_v(v_codes[i], v_scale, kept_v, read_v);
    m[i] = mean_of(a, gradient, decode_e4m3(m_codes[i]) * m_scale);
    v[i] = square_of(a, gradient, kept_v);
    const float wide = __uint_as_float(static_cast<unsigned>(w[i]) << 16);
    weight[i] = weight_of(a, wide, m[i], square_of(a, gradient, read_v));
  }
  unsigned draws[4];
  draw(d, stream, at.first, draws);
  const float new_m_scale = encode_m(m, m_codes), new_v_scale = encode_v(v, draws, v_codes);
#pragma unroll
  for (int i = 0; i < 4; ++i) w[i] = round_at_random(weight[i], draws[i]);
  at.store<ushort4>(weights, w);
  at.store<uchar4>(m_all, m_codes);
  at.store<uchar4>(v_all, v_codes);
  if (threadIdx.x % 32 == 0) t.m_scale[at.block] = new_m_scale, t.v_scale[at.block] = new_v_scale;
}

__global__ void __launch_bounds__(threads) compact_kernel(AdamWState t, AdamWParts p, Drawn d) {
  __shared__ Numbers numbers[3];
  if (t.pending[pending_apply] == 0) return;
  make_numbers(p, t.pending, numbers);
  const auto step = static_cast<std::int64_t>(t.pending[pending_step]);
  const std::uint64_t stream = stream_at(d.stream, d.layer, step);
  for_blocks(d, [&](const Four& at) { update_compact(t, p, d, numbers, stream, at); });
}

__global__ void __launch_bounds__(threads)
    int8_kernel(float* g, Drawn d, const double* control, std::uint8_t* codes, float* scales) {
  const std::uint64_t stream =
      stream_at(d.stream, d.layer, static_cast<std::int64_t>(control[control_step]));
  for_blocks(d, [&](const Four& at) {
    float x[4];
    at.load<float4>(g, x);
    unsigned draws[4];
    draw(d, stream, at.first, draws);
    std::int8_t rounded[4];
    const float scale = round_to_int8(x, draws, rounded);
    at.store<float4>(g, x);
    if (codes == nullptr) return;
    at.store<char4>(reinterpret_cast<signed char*>(codes), rounded);
    if (threadIdx.x % 32 == 0) scales[at.block] = scale;
  });
}

__global__ void __launch_bounds__(threads)
    restore_kernel(const std::uint8_t* codes, const float* scales, float* g, Drawn d) {
  for_blocks(d, [&](const Four& at) {
    std::int8_t steps[4];
    at.load<char4>(reinterpret_cast<const signed char*>(codes), steps);
    const float scale = scales[at.block];
    float x[4];
    for (int i = 0; i < 4; ++i) x[i] = static_cast<float>(steps[i]) * scale;
    at.store<float4>(g, x);
  });
}

// To nearest, ties to even; a NaN stays the one it was, made quiet.
__device__ inline float as_bf16(float x) {
  const unsigned u = __float_as_uint(x);
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  const unsigned rounded = u + 0x7fffu + ((u >> 16) & 1u);
  return __uint_as_float(nan ? (u & 0xffff0000u) | 0x400000u : rounded & 0xffff0000u);
}

template <bool coded>
__global__ void __launch_bounds__(threads)
    ema_kernel(const void* w, const std::int16_t* low, float* average, const double* pending,
               float decay, float rest, std::int64_t n) {
  if (pending[pending_apply] == 0) return;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * threads;
#pragma unroll 4
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; i < n;
       i += stride) {
    float now;
    if constexpr (coded)
      now = join_master(static_cast<const std::uint16_t*>(w)[i],
                        low == nullptr ? std::int16_t{0} : low[i]);
    else
      now = static_cast<const float*>(w)[i];
    average[i] = fmaf(decay, average[i], rest * now);
  }
}

}  // namespace

void squared_norm(cudaStream_t s, const float* x, std::int64_t n, double* parts, double* norm) {
  const std::int64_t chunks = (n + norm_chunk - 1) / norm_chunk;
  squares_kernel<<<static_cast<unsigned>(chunks), threads, 0, s>>>(x, n, parts);
  sum_kernel<<<1, 1024, 0, s>>>(parts, chunks, norm);
}

void finish_step(cudaStream_t s, const FinishTables& t) { finish_kernel<<<1, 1, 0, s>>>(t); }

void round_bf16(cudaStream_t s, float* g, std::int64_t n) {
  for_lots(s, n, [=] __device__(std::int64_t i, int count) {
    Lot v = load_lot(g + i, count);
#pragma unroll
    for (int j = 0; j < lot; ++j) v.x[j] = as_bf16(v.x[j]);
    store_lot(g + i, v, count);
  });
}

void round_int8(cudaStream_t s, float* g, const Drawn& d, const double* control,
                std::uint8_t* codes, float* scales) {
  int8_kernel<<<blocks_for(d), threads, 0, s>>>(g, d, control, codes, scales);
}

void restore_int8(cudaStream_t s, const std::uint8_t* codes, const float* scales, float* g,
                  std::int64_t rows, std::int64_t row, std::int64_t blocks) {
  const Drawn d{rows, row, blocks, 0, 0, 0};
  restore_kernel<<<blocks_for(d), threads, 0, s>>>(codes, scales, g, d);
}

void adamw(cudaStream_t s, const AdamWState& t, const AdamWParts& p, std::int64_t n) {
  const auto whole = [](const void* x) { return reinterpret_cast<std::uintptr_t>(x) % 16 == 0; };
  const bool all = whole(t.w) && whole(t.low) && whole(t.g) && whole(t.m) && whole(t.v);
  const std::int64_t quads = all ? n / 4 : 0;
  const unsigned blocks = std::min(resident, std::max(1U, grid_of(quads, 2)));
  const auto run = t.low != nullptr ? adamw_kernel<true> : adamw_kernel<false>;
  run<<<blocks, threads, 0, s>>>(t, p, n, quads);
}

void adamw_compact(cudaStream_t s, const AdamWState& t, const AdamWParts& p, const Drawn& d) {
  compact_kernel<<<blocks_for(d), threads, 0, s>>>(t, p, d);
}

void ema(cudaStream_t s, const void* w, bool coded, const std::int16_t* low, float* average,
         const double* pending, float decay, std::int64_t n) {
  const auto rest = static_cast<float>(1 - static_cast<double>(decay));
  const auto run = coded ? ema_kernel<true> : ema_kernel<false>;
  run<<<std::min(resident, grid_of(n, 1)), threads, 0, s>>>(w, low, average, pending, decay, rest,
                                                            n);
}

}  // namespace sluice::gpu
