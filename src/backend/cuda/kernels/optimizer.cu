// The end of a step. Bytes per number, in one pass: AdamW float32 28 (reads w, g, m, v, writes w,
// m, v), exact 28, compact 12.1; SquaredNorm 4; rounding 8; Ema 12, 10 from bf16. Limit: the memory
// bandwidth. The arithmetic is that of the CPU's AVX-512 kernels (cpu/ops/optimizer_blocks.h), with
// the same multiply-adds, so that the same state and gradient give the same bits: this file is
// compiled without contraction.
#include "backend/cuda/kernels/optimizer.h"

#include "backend/cuda/kernels/formats.cuh"
#include "ops/optimizer/spikes.h"

namespace sluice::gpu {
namespace {

// Slots of ops/optimizer/optimizer.h.
constexpr int pending_lr = 0, pending_step = 1, pending_scale = 2, pending_apply = 3;
constexpr std::int64_t norm_chunk = 65536;
constexpr int threads = 256;

unsigned grid_of(std::int64_t n, int each) {
  return static_cast<unsigned>((n + static_cast<std::int64_t>(threads) * each - 1) /
                               (static_cast<std::int64_t>(threads) * each));
}

__global__ void squares_kernel(const float* x, std::int64_t n, double* parts) {
  __shared__ double room[33];
  const std::int64_t begin = blockIdx.x * norm_chunk;
  const std::int64_t end = min(n, begin + norm_chunk);
  double sum = 0;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  sum = block_sum(sum, room);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void sum_kernel(const double* parts, std::int64_t count, double* to) {
  __shared__ double room[33];
  double sum = 0;
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

template <bool exact>
__global__ void __launch_bounds__(threads)
    adamw_kernel(AdamWState t, AdamWParts p, std::int64_t n) {
  __shared__ Numbers numbers[3];
  if (t.pending[pending_apply] == 0) return;
  make_numbers(p, t.pending, numbers);
  float* const m = static_cast<float*>(t.m);
  float* const v = static_cast<float*>(t.v);
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * lot;
  if (i >= n) return;
  const int count = static_cast<int>(n - i < lot ? n - i : lot);
  const Lot g = load_lot(t.g + i, count);
  Lot mean = load_lot(m + i, count), square = load_lot(v + i, count), w = {};
  auto* const hi = static_cast<std::uint16_t*>(t.w) + i;
  if constexpr (exact) {
#pragma unroll
    for (int j = 0; j < lot; ++j)
      if (j < count) w.x[j] = join_master(hi[j], t.low[i + j]);
  } else {
    w = load_lot(static_cast<const float*>(t.w) + i, count);
  }
#pragma unroll
  for (int j = 0; j < lot; ++j) {
    const Numbers& a = numbers[part_of(p, i + j)];
    const float gradient = a.scale * g.x[j];
    mean.x[j] = mean_of(a, gradient, mean.x[j]);
    square.x[j] = square_of(a, gradient, square.x[j]);
    w.x[j] = weight_of(a, w.x[j], mean.x[j], square.x[j]);
  }
  store_lot(m + i, mean, count);
  store_lot(v + i, square, count);
  if constexpr (exact) {
#pragma unroll
    for (int j = 0; j < lot; ++j)
      if (j < count) split_master(w.x[j], hi[j], t.low[i + j]);
  } else {
    store_lot(static_cast<float*>(t.w) + i, w, count);
  }
}

// The lane's four numbers of the warp's block.
struct Four {
  std::int64_t block, first;  // of the lane
  int count;                  // 0 to 4
  __device__ explicit Four(const Drawn& d) {
    block = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) / 32;
    const std::int64_t column = block % d.blocks * block_size + threadIdx.x % 32 * 4;
    first = block / d.blocks * d.row + column;
    const std::int64_t rest = d.row - column;
    count = static_cast<int>(rest < 0 ? 0 : rest > 4 ? 4 : rest);
  }
  __device__ bool there(const Drawn& d) const { return block < d.rows * d.blocks; }
};

__device__ void draw(const Drawn& d, std::uint64_t stream, std::int64_t first,
                     unsigned (&draws)[4]) {
  const auto from = static_cast<std::uint64_t>(first);
  uint4 four = philox(d.seed, stream, from / 4);
  for (unsigned i = 0; i < 4; ++i) {
    if (i > 0 && (from + i) % 4 == 0) four = philox(d.seed, stream, (from + i) / 4);
    draws[i] = one_of(four, static_cast<unsigned>((from + i) % 4));
  }
}

__global__ void __launch_bounds__(threads) compact_kernel(AdamWState t, AdamWParts p, Drawn d) {
  __shared__ Numbers numbers[3];
  if (t.pending[pending_apply] == 0) return;
  make_numbers(p, t.pending, numbers);
  const Four at(d);
  if (!at.there(d)) return;
  auto* const w = static_cast<std::uint16_t*>(t.w) + at.first;
  auto* const m_codes = static_cast<std::uint8_t*>(t.m) + at.first;
  auto* const v_codes = static_cast<std::uint8_t*>(t.v) + at.first;
  const float m_scale = t.m_scale[at.block], v_scale = t.v_scale[at.block];
  float weight[4] = {}, m[4] = {}, v[4] = {};
  for (int i = 0; i < at.count; ++i) {
    const Numbers& a = numbers[part_of(p, at.first + i)];
    const float gradient = a.scale * t.g[at.first + i];
    float kept_v, read_v;
    decode_v(v_codes[i], v_scale, kept_v, read_v);
    m[i] = mean_of(a, gradient, decode_e4m3(m_codes[i]) * m_scale);
    v[i] = square_of(a, gradient, kept_v);
    const float wide = __uint_as_float(static_cast<unsigned>(w[i]) << 16);
    weight[i] = weight_of(a, wide, m[i], square_of(a, gradient, read_v));
  }
  const auto step = static_cast<std::int64_t>(t.pending[pending_step]);
  unsigned draws[4];
  draw(d, stream_at(d.stream, d.layer, step), at.first, draws);
  std::uint8_t new_m[4], new_v[4];
  const float new_m_scale = encode_m(m, new_m), new_v_scale = encode_v(v, draws, new_v);
  for (int i = 0; i < at.count; ++i) {
    w[i] = round_at_random(weight[i], draws[i]);
    m_codes[i] = new_m[i];
    v_codes[i] = new_v[i];
  }
  if (threadIdx.x % 32 == 0) t.m_scale[at.block] = new_m_scale, t.v_scale[at.block] = new_v_scale;
}

__global__ void __launch_bounds__(threads)
    int8_kernel(float* g, Drawn d, const double* control, std::uint8_t* codes, float* scales) {
  const Four at(d);
  if (!at.there(d)) return;
  float x[4] = {};
  for (int i = 0; i < at.count; ++i) x[i] = g[at.first + i];
  const auto step = static_cast<std::int64_t>(control[control_step]);
  unsigned draws[4];
  draw(d, stream_at(d.stream, d.layer, step), at.first, draws);
  std::int8_t rounded[4];
  const float scale = round_to_int8(x, draws, rounded);
  for (int i = 0; i < at.count; ++i) g[at.first + i] = x[i];
  if (codes == nullptr) return;
  for (int i = 0; i < at.count; ++i) codes[at.first + i] = static_cast<std::uint8_t>(rounded[i]);
  if (threadIdx.x % 32 == 0) scales[at.block] = scale;
}

__global__ void __launch_bounds__(threads)
    restore_kernel(const std::uint8_t* codes, const float* scales, float* g, Drawn d) {
  const Four at(d);
  if (!at.there(d)) return;
  for (int i = 0; i < at.count; ++i)
    g[at.first + i] =
        static_cast<float>(static_cast<std::int8_t>(codes[at.first + i])) * scales[at.block];
}

// To nearest, ties to even; a NaN stays the one it was, made quiet.
__device__ inline float as_bf16(float x) {
  const unsigned u = __float_as_uint(x);
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  const unsigned rounded = u + 0x7fffu + ((u >> 16) & 1u);
  return __uint_as_float(nan ? (u & 0xffff0000u) | 0x400000u : rounded & 0xffff0000u);
}

template <bool coded>
__global__ void ema_kernel(const void* w, const std::int16_t* low, float* average,
                           const double* pending, float decay, float rest, std::int64_t n) {
  if (pending[pending_apply] == 0) return;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= n) return;
  float now;
  if constexpr (coded)
    now = join_master(static_cast<const std::uint16_t*>(w)[i],
                      low == nullptr ? std::int16_t{0} : low[i]);
  else
    now = static_cast<const float*>(w)[i];
  average[i] = fmaf(decay, average[i], rest * now);
}

}  // namespace

void squared_norm(cudaStream_t s, const float* x, std::int64_t n, double* parts, double* norm) {
  const std::int64_t chunks = (n + norm_chunk - 1) / norm_chunk;
  squares_kernel<<<static_cast<unsigned>(chunks), 1024, 0, s>>>(x, n, parts);
  sum_kernel<<<1, 256, 0, s>>>(parts, chunks, norm);
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
  int8_kernel<<<grid_of(d.rows * d.blocks * 32, 1), threads, 0, s>>>(g, d, control, codes, scales);
}

void restore_int8(cudaStream_t s, const std::uint8_t* codes, const float* scales, float* g,
                  std::int64_t rows, std::int64_t row, std::int64_t blocks) {
  const Drawn d{rows, row, blocks, 0, 0, 0};
  restore_kernel<<<grid_of(rows * blocks * 32, 1), threads, 0, s>>>(codes, scales, g, d);
}

void adamw(cudaStream_t s, const AdamWState& t, const AdamWParts& p, std::int64_t n) {
  if (t.low != nullptr)
    adamw_kernel<true><<<grid_of(n, lot), threads, 0, s>>>(t, p, n);
  else
    adamw_kernel<false><<<grid_of(n, lot), threads, 0, s>>>(t, p, n);
}

void adamw_compact(cudaStream_t s, const AdamWState& t, const AdamWParts& p, const Drawn& d) {
  compact_kernel<<<grid_of(d.rows * d.blocks * 32, 1), threads, 0, s>>>(t, p, d);
}

void ema(cudaStream_t s, const void* w, bool coded, const std::int16_t* low, float* average,
         const double* pending, float decay, std::int64_t n) {
  const auto rest = static_cast<float>(1 - static_cast<double>(decay));
  const auto run = coded ? ema_kernel<true> : ema_kernel<false>;
  run<<<grid_of(n, 1), threads, 0, s>>>(w, low, average, pending, decay, rest, n);
}

}  // namespace sluice::gpu
