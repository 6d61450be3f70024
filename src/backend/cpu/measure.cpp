#include "backend/cpu/measure.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_bf16.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

template <class Body>
double timed(Body body) {
  const Clock::time_point begin = Clock::now();
  body();
  return seconds_since(begin);
}

// In [-1, 1): a hash of the index (the finalizer of splitmix64), since values need only not repeat.
float scrambled(std::uint64_t index) {
  index = (index + 1) * 0x9e3779b97f4a7c15;
  index = (index ^ (index >> 30)) * 0xbf58476d1ce4e5b9;
  index = (index ^ (index >> 27)) * 0x94d049bb133111eb;
  return static_cast<float>(static_cast<std::int32_t>(index >> 32)) * 0x1p-31f;
}

template <class T>
void fill(Pool& pool, std::byte* data, std::int64_t count) {
  constexpr std::int64_t piece = 1 << 16;
  pool.run((count + piece - 1) / piece, [&](std::int64_t task, int) {
    T* const values = reinterpret_cast<T*>(data);
    for (std::int64_t i = task * piece; i < std::min(count, (task + 1) * piece); ++i)
      values[i] = T(scrambled(static_cast<std::uint64_t>(i)));
  });
}

void multiply_float32(CpuBackend& cpu, const MeasuredProduct& p, const std::byte* a,
                      const std::byte* b, std::byte* c, std::span<std::byte> workspace) {
  const bool gradient = p.direction == Direction::weight_gradient;
  const Gemm product{.m = p.m,
                     .n = p.n,
                     .k = p.k,
                     .a = reinterpret_cast<const float*>(a),
                     .lda = gradient ? p.m : p.k,
                     .a_stored = gradient ? Stored::transposed : Stored::rows,
                     .b = reinterpret_cast<const float*>(b),
                     .ldb = p.n,
                     .b_stored = gradient ? Stored::rows : Stored::packed,
                     .c = reinterpret_cast<float*>(c),
                     .ldc = p.n};
  gemm(cpu.pool(), cpu.isa(), product, workspace);
}

// As in a step: activations and their gradients are rounded to bf16, weights' gradients are not.
void multiply_bf16(CpuBackend& cpu, const MeasuredProduct& p, const std::byte* a,
                   const std::byte* b, std::byte* c, std::span<std::byte> workspace) {
  const bool gradient = p.direction == Direction::weight_gradient;
  GemmBf16 product{.m = p.m,
                   .n = p.n,
                   .k = p.k,
                   .a = reinterpret_cast<const bf16*>(a),
                   .lda = gradient ? p.m : p.k,
                   .a_stored = gradient ? Stored::transposed : Stored::rows,
                   .b = reinterpret_cast<const bf16*>(b),
                   .ldb = p.n,
                   .b_stored = gradient ? Stored::rows : Stored::packed,
                   .ldc = p.n};
  if (gradient)
    product.c = reinterpret_cast<float*>(c);
  else
    product.c_bf16 = reinterpret_cast<bf16*>(c);
  gemm_bf16(cpu.pool(), cpu.isa(), product, workspace);
}

MeasuredProduct product_of(const StepProduct& map, Direction direction, std::int64_t tokens) {
  switch (direction) {
    case Direction::forward:
      return {map, direction, tokens, map.in, map.out};
    case Direction::input_gradient:
      return {map, direction, tokens, map.out, map.in};
    case Direction::weight_gradient:
      return {map, direction, map.in, tokens, map.out};
  }
  throw Error("corrupt Direction");
}

double flop(const MeasuredProduct& p) {
  return 2.0 * static_cast<double>(p.m) * static_cast<double>(p.k) * static_cast<double>(p.n);
}

// The head's products are as large as all others together: they are made of a quarter of the tokens
// and count four times.
std::vector<MeasuredProduct> products_of(std::int64_t tokens) {
  std::vector<MeasuredProduct> out;
  for (StepProduct map : step_products()) {
    const std::int64_t parts = map.count == 1 ? 4 : 1;
    map.count *= parts;
    for (const Direction direction :
         {Direction::forward, Direction::input_gradient, Direction::weight_gradient})
      out.push_back(product_of(map, direction, tokens / parts));
  }
  return out;
}

double flop(const std::vector<MeasuredProduct>& products) {
  double sum = 0;
  for (const MeasuredProduct& product : products) sum += flop(product);
  return sum;
}

// Numbers of each of the three matrices. B is as large packed as plain: its sizes are multiples of
// a panel's.
struct Sizes {
  std::int64_t a = 0, b = 0, c = 0;
  std::int64_t total() const { return a + b + c; }
  void cover(const MeasuredProduct& p) {
    a = std::max(a, p.m * p.k), b = std::max(b, p.k * p.n), c = std::max(c, p.m * p.n);
  }
};

std::vector<MeasuredProduct> fitting(std::vector<MeasuredProduct> products, std::int64_t numbers) {
  std::erase_if(products, [&](const MeasuredProduct& product) {
    Sizes sizes;
    sizes.cover(product);
    return sizes.total() > numbers / 2;  // the largest of each matrix may be of different products
  });
  require(!products.empty(), [&] {
    return Error(Exit::memory, {"there is too little memory to measure products", {}, {}, {}, {}});
  });
  return products;
}

constexpr int memory_repeats = 5;

// Eight sums, so that no addition waits for the one before it.
std::uint64_t sum_of(const std::uint64_t* data, std::int64_t count) {
  std::uint64_t sums[8] = {};
  for (std::int64_t i = 0; i + 8 <= count; i += 8)
    for (int j = 0; j < 8; ++j) sums[j] += data[i + j];
  std::uint64_t sum = 0;
  for (const std::uint64_t one : sums) sum += one;
  return sum;
}

// Bytes per second of body(offset, bytes) over pieces of [0, bytes).
template <class Body>
double pass_rate(Pool& pool, std::int64_t bytes, double moved, double seconds, Body body) {
  constexpr std::int64_t piece = 1 << 20;
  const Clock::time_point begin = Clock::now();
  std::vector<double> times;
  do {
    times.push_back(timed([&] {
      pool.run(bytes / piece, [&](std::int64_t task, int) { body(task * piece, piece); });
    }));
  } while (static_cast<int>(times.size()) < memory_repeats && seconds_since(begin) < 1.5 * seconds);
  const std::int64_t whole = bytes / piece * piece;
  return moved * static_cast<double>(whole) / median(times);
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

std::string_view name_of(Direction direction) {
  switch (direction) {
    case Direction::forward:
      return "forward";
    case Direction::input_gradient:
      return "input gradient";
    case Direction::weight_gradient:
      return "weight gradient";
  }
  return "unknown";
}

std::span<const StepProduct> step_products() {
  static constexpr StepProduct products[] = {{"proj", 768, 768, 10},
                                             {"qkv", 768, 2304, 10},
                                             {"fc", 768, 3072, 10},
                                             {"fc2", 3072, 768, 10},
                                             {"head", 768, 50304, 1}};
  return products;
}

std::span<const ProductType> product_types() {
  static constexpr ProductType types[] = {
      {"float32", sizeof(float), fill<float>, multiply_float32, gemm_workspace_bytes},
      {"bf16", sizeof(bf16), fill<bf16>, multiply_bf16, gemm_bf16_workspace_bytes}};
  return types;
}

std::vector<MeasuredProduct> measure_products(CpuBackend& cpu, const ProductType& type,
                                              const ProductOptions& options) {
  constexpr std::int64_t least_tokens = 64, c_bytes = sizeof(float);
  const std::int64_t numbers = options.memory / c_bytes;
  Sizes sizes;
  for (const MeasuredProduct& p : fitting(products_of(options.tokens), numbers)) sizes.cover(p);
  CpuBackend memory({.threads = 1, .isa = Isa::portable});  // gives it back at the end
  std::byte* const a = memory.take(sizes.a * type.bytes);
  std::byte* const b = memory.take(sizes.b * type.bytes);
  std::byte* const c = memory.take(sizes.c * c_bytes);
  const std::int64_t scratch = type.workspace_bytes(cpu.pool().threads());
  const std::span<std::byte> workspace{memory.take(scratch), static_cast<std::size_t>(scratch)};
  const auto once = [&](const MeasuredProduct& product) {
    return timed([&] { type.multiply(cpu, product, a, b, c, workspace); });
  };
  const Clock::time_point begin = Clock::now();
  type.fill(cpu.pool(), a, sizes.a);
  type.fill(cpu.pool(), b, sizes.b);
  std::memset(c, 0, static_cast<std::size_t>(sizes.c * c_bytes));  // its pages are there

  // How many tokens the seconds suffice for, as a small product goes.
  const MeasuredProduct probe = product_of(step_products()[0], Direction::forward, least_tokens);
  once(probe);
  const double rate = flop(probe) / once(probe);
  const double left = std::max(options.seconds - seconds_since(begin), options.seconds / 4);
  std::int64_t tokens = options.tokens;
  const auto needed = [&] {
    return options.repeats * flop(fitting(products_of(tokens), numbers)) / rate;
  };
  while (tokens > least_tokens && needed() > left) tokens /= 2;

  std::vector<MeasuredProduct> products = fitting(products_of(tokens), numbers);
  for (MeasuredProduct& product : products) {
    std::vector<double> times;
    while (static_cast<int>(times.size()) < options.repeats &&
           (times.empty() || seconds_since(begin) < 1.5 * options.seconds))
      times.push_back(once(product));
    product.seconds = median(times);
    product.repeats = static_cast<int>(times.size());
  }
  return products;
}

MemoryRates measure_memory(CpuBackend& cpu, std::int64_t bytes, double seconds) {
  CpuBackend memory({.threads = 1, .isa = Isa::portable});
  std::byte* const from = memory.take(bytes);
  std::byte* const to = memory.take(bytes);
  fill<float>(cpu.pool(), from, bytes / static_cast<std::int64_t>(sizeof(float)));
  std::memset(to, 0, static_cast<std::size_t>(bytes));
  const auto read = [&](std::int64_t offset, std::int64_t size) {
    const std::uint64_t sum =
        sum_of(reinterpret_cast<const std::uint64_t*>(from + offset), size / 8);
    asm volatile("" ::"r"(sum));  // or nothing would be read
  };
  const auto copy = [&](std::int64_t offset, std::int64_t size) {
    std::memcpy(to + offset, from + offset, static_cast<std::size_t>(size));
    asm volatile("" ::: "memory");
  };
  Pool one(1);
  return {.read_one = pass_rate(one, bytes, 1, seconds / 4, read),
          .read_all = pass_rate(cpu.pool(), bytes, 1, seconds / 4, read),
          .copy_one = pass_rate(one, bytes, 2, seconds / 4, copy),
          .copy_all = pass_rate(cpu.pool(), bytes, 2, seconds / 4, copy)};
}

}  // namespace sluice
