// Kernels over n numbers, and over what a product left in float32. Each reads and writes every
// operand once: bytes per number in float32 (bf16: half) Add 12, Scale 8, Gelu 8, GeluGrad 12,
// Dropout 8, AddInto 12, Cast 6; round_bias 4 + 4 (bf16 2), bias_gelu 4 + 8 (4), gelu_slope 4 + 8
// (4). Limit of all: the memory bandwidth, of which on an H200 (4.3 TB/s, bench_gpu_kernels) in
// bf16 Add reached 100%, Gelu 95% (exact 85%), GeluGrad 96%, AddInto 98%, Cast 99%, Dropout 83%
// (ten rounds of Philox for four numbers).
#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/gelu.cuh"

namespace sluice::gpu {
namespace {

// Each thread has `each` lots, a block apart, all of them on their way before the first is used:
// a block that is whole asks nothing of its lots.
constexpr int each = 4, map_threads = 256;
constexpr std::int64_t of_block = std::int64_t{each} * map_threads * lot;
template <bool whole, class T>
__device__ inline void load_each(const T* from, std::int64_t n, std::int64_t first,
                                 Lot (&to)[each]) {
#pragma unroll
  for (int k = 0; k < each; ++k) {
    const std::int64_t i = first + k * map_threads * lot;
    if constexpr (whole)
      load_whole(from + i, to[k]);
    else
      to[k] = load_lot(from + i, static_cast<int>(max(0L, min(n - i, long{lot}))));
  }
}
template <bool whole, class T>
__device__ inline void store_each(T* to, std::int64_t n, std::int64_t first,
                                  const Lot (&from)[each]) {
#pragma unroll
  for (int k = 0; k < each; ++k) {
    const std::int64_t i = first + k * map_threads * lot;
    if constexpr (whole)
      store_whole(to + i, from[k]);
    else
      store_lot(to + i, from[k], static_cast<int>(max(0L, min(n - i, long{lot}))));
  }
}
template <class F>
__device__ inline void dealt(std::int64_t n, bool aligned, F f) {
  const std::int64_t begin = blockIdx.x * of_block, first = begin + threadIdx.x * lot;
  if (aligned && begin + of_block <= n)
    f.template operator()<true>(first);
  else
    f.template operator()<false>(first);
}
unsigned map_blocks(std::int64_t n) { return static_cast<unsigned>((n + of_block - 1) / of_block); }

template <class From, class To, class F>
__global__ void __launch_bounds__(map_threads)
    map_kernel(const From* x, To* y, std::int64_t n, F f) {
  dealt(n, aligned(x) && aligned(y), [&]<bool whole>(std::int64_t first) {
    Lot v[each];
    load_each<whole>(x, n, first, v);
#pragma unroll
    for (Lot& one : v)
#pragma unroll
      for (float& number : one.x) number = f(number);
    store_each<whole>(y, n, first, v);
  });
}
// y = f(x), number by number.
template <class From, class To, class F>
void map(cudaStream_t s, const From* x, To* y, std::int64_t n, F f) {
  if (n > 0) map_kernel<<<map_blocks(n), map_threads, 0, s>>>(x, y, n, f);
}

template <class T, class F>
__global__ void __launch_bounds__(map_threads)
    map2_kernel(const T* a, const T* b, T* y, std::int64_t n, F f) {
  dealt(n, aligned(a) && aligned(b) && aligned(y), [&]<bool whole>(std::int64_t first) {
    Lot v[each], w[each];
    load_each<whole>(a, n, first, v);
    load_each<whole>(b, n, first, w);
#pragma unroll
    for (int k = 0; k < each; ++k)
#pragma unroll
      for (int j = 0; j < lot; ++j) v[k].x[j] = f(v[k].x[j], w[k].x[j]);
    store_each<whole>(y, n, first, v);
  });
}
// y = f(a, b)
template <class T, class F>
void map2(cudaStream_t s, const T* a, const T* b, T* y, std::int64_t n, F f) {
  if (n > 0) map2_kernel<<<map_blocks(n), map_threads, 0, s>>>(a, b, y, n, f);
}

// (Device lambdas may not stand inside generic ones, so each kernel is a function of its types.)
template <class T>
void add_typed(cudaStream_t s, const T* a, const T* b, float scale, T* y, std::int64_t n) {
  map2(s, a, b, y, n, [=] __device__(float p, float q) { return fmaf(scale, q, p); });
}
template <class T>
void scale_typed(cudaStream_t s, const T* x, float factor, T* y, std::int64_t n) {
  map(s, x, y, n, [=] __device__(float v) { return factor * v; });
}
template <class From, class To>
void cast_typed(cudaStream_t s, const From* x, To* y, std::int64_t n) {
  map(s, x, y, n, [] __device__(float v) { return v; });
}

// One of the two is float64, number by number; bf16 is reached through float32.
template <class From, class To>
__global__ void double_kernel(const From* x, To* y, std::int64_t n) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  double number;
  if constexpr (sizeof(From) == sizeof(double))
    number = x[i];
  else
    number = load(x + i);
  if constexpr (sizeof(To) == sizeof(double))
    y[i] = number;
  else
    store(y + i, static_cast<float>(number));
}
template <class F>
void with_any_type(Type type, F f) {
  if (type == Type::f64) return f(static_cast<double*>(nullptr));
  with_type(type, f);
}
void cast_double(cudaStream_t s, Type from, const void* x, Type to, void* y, std::int64_t n) {
  const auto grid = static_cast<unsigned>((n + 255) / 256);
  with_any_type(from, [&]<class From>(From*) {
    with_any_type(to, [&]<class To>(To*) {
      double_kernel<<<grid, 256, 0, s>>>(static_cast<const From*>(x), static_cast<To*>(y), n);
    });
  });
}

template <bool exact, class T>
void gelu_typed(cudaStream_t s, const T* x, T* y, std::int64_t n) {
  if constexpr (sizeof(T) == sizeof(float))  // bound by its arithmetic: more threads, not more lots
    return for_lots(s, n, [=] __device__(std::int64_t i, int count) {
      Lot v = load_lot(x + i, count);
#pragma unroll
      for (int j = 0; j < lot; ++j) v.x[j] = gelu_of<exact, false>(v.x[j]);
      store_lot(y + i, v, count);
    });
  constexpr bool rough = sizeof(T) < sizeof(float);
  map(s, x, y, n, [] __device__(float v) { return gelu_of<exact, rough>(v); });
}
template <bool exact, class T>
void gelu_grad_typed(cudaStream_t s, const T* x, const T* dy, T* dx, std::int64_t n) {
  constexpr bool rough = sizeof(T) < sizeof(float);
  map2(s, x, dy, dx, n,
       [] __device__(float v, float d) { return d * gelu_slope_of<exact, rough>(v); });
}

template <bool whole>
__device__ inline void drop(const Mask& mask, std::uint64_t stream, std::uint64_t first, Lot& v) {
  const auto keep = [&](float x, unsigned bits) {
    return bits >= mask.threshold ? x * mask.scale : 0.0f;
  };
  if constexpr (whole) {  // first is a multiple of four
#pragma unroll
    for (int j = 0; j < lot; j += 4) {
      const uint4 four = philox(mask.seed, stream, first / 4 + static_cast<unsigned>(j / 4));
      v.x[j] = keep(v.x[j], four.x), v.x[j + 1] = keep(v.x[j + 1], four.y);
      v.x[j + 2] = keep(v.x[j + 2], four.z), v.x[j + 3] = keep(v.x[j + 3], four.w);
    }
  } else {
    for (int j = 0; j < lot; ++j)
      v.x[j] = keep(v.x[j], random_bits(mask.seed, stream, first + static_cast<unsigned>(j)));
  }
}

template <class T>
__global__ void __launch_bounds__(map_threads)
    dropout_kernel(Mask mask, std::int64_t row, const T* x, T* y, std::int64_t n) {
  const std::uint64_t stream = stream_now(mask);
  const std::uint64_t before =
      static_cast<std::uint64_t>(mask.control[control_first_row]) * static_cast<std::uint64_t>(row);
  dealt(n, aligned(x) && aligned(y), [&]<bool whole>(std::int64_t first) {
    Lot v[each];
    load_each<whole>(x, n, first, v);
#pragma unroll
    for (int k = 0; k < each; ++k) {
      const std::uint64_t at = before + static_cast<std::uint64_t>(first + k * map_threads * lot);
      if (before % 4 == 0)
        drop<true>(mask, stream, at, v[k]);
      else
        drop<false>(mask, stream, at, v[k]);
    }
    store_each<whole>(y, n, first, v);
  });
}
template <class T>
void dropout_typed(cudaStream_t s, const Mask& mask, std::int64_t row, const T* x, T* y,
                   std::int64_t n) {
  if (n > 0) dropout_kernel<<<map_blocks(n), map_threads, 0, s>>>(mask, row, x, y, n);
}

// A lot may cross the end of a row, so columns are counted number by number.
__device__ inline void add_bias(Lot& v, const float* bias, std::int64_t i, std::int64_t columns) {
  if (bias == nullptr) return;
  std::int64_t column = i % columns;
#pragma unroll
  for (int j = 0; j < lot; ++j) {
    v.x[j] += bias[column];
    if (++column == columns) column = 0;
  }
}

template <class T>
void round_bias_typed(cudaStream_t s, const float* x, const float* bias, T* y, std::int64_t n,
                      std::int64_t columns) {
  for_lots(s, n, [=] __device__(std::int64_t i, int count) {
    Lot v = load_lot(x + i, count);
    add_bias(v, bias, i, columns);
    store_lot(y + i, v, count);
  });
}

template <bool exact, class T>
void bias_gelu_typed(cudaStream_t s, const float* x, const float* bias, T* h, T* y, std::int64_t n,
                     std::int64_t columns) {
  constexpr bool rough = sizeof(T) < sizeof(float);
  for_lots(s, n, [=] __device__(std::int64_t i, int count) {
    Lot v = load_lot(x + i, count);
    add_bias(v, bias, i, columns);
    store_lot(h + i, v, count);
#pragma unroll
    for (int j = 0; j < lot; ++j) v.x[j] = gelu_of<exact, rough>(kept(h, v.x[j]));
    store_lot(y + i, v, count);
  });
}

template <bool exact, class T>
void gelu_slope_typed(cudaStream_t s, const float* x, const T* h, T* dh, std::int64_t n) {
  constexpr bool rough = sizeof(T) < sizeof(float);
  for_lots(s, n, [=] __device__(std::int64_t i, int count) {
    Lot v = load_lot(x + i, count);
    const Lot at = load_lot(h + i, count);
#pragma unroll
    for (int j = 0; j < lot; ++j) v.x[j] = kept(dh, v.x[j]) * gelu_slope_of<exact, rough>(at.x[j]);
    store_lot(dh + i, v, count);
  });
}

}  // namespace

void add(cudaStream_t s, Type type, const void* a, const void* b, float scale, void* y,
         std::int64_t n) {
  with_type(type, [&]<class T>(T*) {
    add_typed(s, static_cast<const T*>(a), static_cast<const T*>(b), scale, static_cast<T*>(y), n);
  });
}

void scale(cudaStream_t s, Type type, const void* x, float factor, void* y, std::int64_t n) {
  with_type(type, [&]<class T>(T*) {
    scale_typed(s, static_cast<const T*>(x), factor, static_cast<T*>(y), n);
  });
}

void cast(cudaStream_t s, Type from, const void* x, Type to, void* y, std::int64_t n) {
  if (from == Type::f64 || to == Type::f64) return cast_double(s, from, x, to, y, n);
  with_type(from, [&]<class From>(From*) {
    with_type(to, [&]<class To>(To*) {
      cast_typed(s, static_cast<const From*>(x), static_cast<To*>(y), n);
    });
  });
}

void add_into(cudaStream_t s, const float* x, float* y, std::int64_t n) {
  map2(s, y, x, y, n, [] __device__(float p, float q) { return p + q; });
}

void gelu(cudaStream_t s, Type type, bool exact, const void* x, void* y, std::int64_t n) {
  with_type(type, [&]<class T>(T*) {
    const auto run = exact ? gelu_typed<true, T> : gelu_typed<false, T>;
    run(s, static_cast<const T*>(x), static_cast<T*>(y), n);
  });
}

void gelu_grad(cudaStream_t s, Type type, bool exact, const void* x, const void* dy, void* dx,
               std::int64_t n) {
  with_type(type, [&]<class T>(T*) {
    const auto run = exact ? gelu_grad_typed<true, T> : gelu_grad_typed<false, T>;
    run(s, static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<T*>(dx), n);
  });
}

void dropout(cudaStream_t s, Type type, const Mask& mask, std::int64_t row, const void* x, void* y,
             std::int64_t n) {
  with_type(type, [&]<class T>(T*) {
    dropout_typed(s, mask, row, static_cast<const T*>(x), static_cast<T*>(y), n);
  });
}

void round_bias(cudaStream_t s, const float* x, const float* bias, Type type, void* y,
                std::int64_t rows, std::int64_t columns) {
  with_type(type, [&]<class T>(T*) {
    round_bias_typed(s, x, bias, static_cast<T*>(y), rows * columns, columns);
  });
}

void bias_gelu(cudaStream_t s, const float* x, const float* bias, Type type, bool exact, void* h,
               void* y, std::int64_t rows, std::int64_t columns) {
  with_type(type, [&]<class T>(T*) {
    const auto run = exact ? bias_gelu_typed<true, T> : bias_gelu_typed<false, T>;
    run(s, x, bias, static_cast<T*>(h), static_cast<T*>(y), rows * columns, columns);
  });
}

void gelu_slope(cudaStream_t s, const float* x, Type type, bool exact, const void* h, void* dh,
                std::int64_t n) {
  with_type(type, [&]<class T>(T*) {
    const auto run = exact ? gelu_slope_typed<true, T> : gelu_slope_typed<false, T>;
    run(s, x, static_cast<const T*>(h), static_cast<T*>(dh), n);
  });
}

}  // namespace sluice::gpu
