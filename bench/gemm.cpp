// Times the products of a GPT-2: each weight's forward, dx and dW over `--tokens` tokens; "row" is
// the forward of one token, as in generation.
//
//   bench_gemm [--isa=auto] [--threads=2] [--rounds=9]   prints JSON: medians per product
//   bench_gemm [--isa=auto] [--threads=2] --serve        answers each line "PRODUCT PASS REPEATS"
//       on stdin with REPEATS times in seconds; the peers ask this way, in turns with themselves
//   --width=768 --vocab=50304 --tokens=1024: GPT-2 124M's, unless said
//   --bf16: bf16 operands, y and dx in bf16, dW added to float32
//   --cpu-time: the process's time, not the clock's: for one thread on a machine that others use
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_bf16.h"
#include "core/error.h"

namespace sluice {
namespace {

struct Product {
  std::string_view name;
  std::int64_t in;
  std::int64_t out;
  bool bias;
};

struct Shape {
  int width = 768;
  int vocab = 50304;
  int tokens = 1024;

  std::array<Product, 5> products() const {
    const std::int64_t w = width;
    return {{{"qkv", w, 3 * w, true},
             {"proj", w, w, true},
             {"fc", w, 4 * w, true},
             {"proj2", 4 * w, w, true},
             {"head", w, vocab, false}}};
  }
};
constexpr std::string_view passes[] = {"forward", "dx", "dw", "row"};

// Memory as the CPU backend takes it: in huge pages where the system gives them.
template <class T>
struct HugePages {
  using value_type = T;
  static constexpr std::size_t page = std::size_t{2} << 20;
  static std::size_t bytes(std::size_t count) {
    return (count * sizeof(T) + page - 1) / page * page;
  }
  T* allocate(std::size_t count) {
    void* const data = std::aligned_alloc(page, bytes(count));
    if (data == nullptr) throw std::bad_alloc();
    static_cast<void>(madvise(data, bytes(count), MADV_HUGEPAGE));
    return static_cast<T*>(data);
  }
  void deallocate(T* data, std::size_t) { std::free(data); }
  bool operator==(const HugePages&) const = default;
};
template <class T>
using Numbers = std::vector<T, HugePages<T>>;

template <class T>
Numbers<T> numbers(std::int64_t count) {
  Numbers<T> values(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (T& value : values) {
    state = state * 1664525u + 1013904223u;
    value = T(static_cast<float>(state >> 8) / 16777216.0f - 0.5f);
  }
  return values;
}

// What is called for operands of type T.
template <class T>
struct Call;
template <>
struct Call<float> {
  using Product = Gemm;
  static constexpr auto workspace_bytes = gemm_workspace_bytes;
  static constexpr auto run = gemm;
  static constexpr auto packed_count = packed_floats;
  static constexpr auto pack = pack_b;
};
template <>
struct Call<bf16> {
  using Product = GemmBf16;
  static constexpr auto workspace_bytes = gemm_bf16_workspace_bytes;
  static constexpr auto run = gemm_bf16;
  static constexpr auto packed_count = packed_bf16_count;
  static constexpr auto pack = pack_b_bf16;
};

class Timer {
 public:
  virtual ~Timer() = default;
  // Seconds of each of `repeats` runs; a new product runs once before, not timed.
  virtual std::vector<double> time(const Product& product, std::string_view pass, int repeats) = 0;
};

template <class T>
class Bench final : public Timer {
 public:
  Bench(int tokens, int threads, Isa isa, bool cpu_time)
      : tokens_(tokens),
        cpu_time_(cpu_time),
        pool_(threads),
        isa_(isa),
        workspace_(static_cast<std::size_t>(Call<T>::workspace_bytes(threads))) {}

  std::vector<double> time(const Product& product, std::string_view pass, int repeats) override {
    if (set_up(product, pass)) Call<T>::run(pool_, isa_, gemm_, workspace_);
    std::vector<double> seconds;
    for (int i = 0; i < repeats; ++i) {
      const double begin = now();
      Call<T>::run(pool_, isa_, gemm_, workspace_);
      seconds.push_back(now() - begin);
    }
    return seconds;
  }

 private:
  double now() const {
    if (cpu_time_) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  // False if this product is the one that is there.
  bool set_up(const Product& product, std::string_view pass) {
    const std::string key = fmt::format("{} {}", product.name, pass);
    if (key == key_) return false;
    key_ = key;
    if (pass == "dw") {
      set_up_weight_gradient(product);
    } else {
      set_up_with_weight(product, pass == "dx", pass == "row" ? 1 : tokens_);
    }
    gemm_.a = a_.data();
    gemm_.b = b_.data();
    gemm_.ldc = gemm_.n;
    const std::int64_t outputs = gemm_.m * gemm_.n;
    c_.assign(static_cast<std::size_t>(outputs), 0.0f);
    gemm_.c = c_.data();
    if constexpr (std::is_same_v<T, bf16>) {
      if (!gemm_.accumulate) {
        y_.assign(static_cast<std::size_t>(outputs), T(0.0f));
        gemm_.c = nullptr;
        gemm_.c_bf16 = y_.data();
      }
    }
    return true;
  }

  // dW[in, out] += xᵀ · dy
  void set_up_weight_gradient(const Product& product) {
    a_ = numbers<T>(tokens_ * product.in);
    b_ = numbers<T>(tokens_ * product.out);
    gemm_ = {};
    gemm_.m = product.in;
    gemm_.n = product.out;
    if (product.name == "head") {  // the embedding lies as [vocabulary, width]
      std::swap(a_, b_);
      std::swap(gemm_.m, gemm_.n);
    }
    gemm_.k = tokens_;
    gemm_.lda = gemm_.m;
    gemm_.ldb = gemm_.n;
    gemm_.a_stored = Stored::transposed;
    gemm_.b_stored = Stored::rows;
    gemm_.accumulate = true;
  }

  void set_up_with_weight(const Product& product, bool dx, std::int64_t rows) {
    gemm_ = {};
    gemm_.m = rows;
    gemm_.n = dx ? product.in : product.out;
    gemm_.k = dx ? product.out : product.in;
    gemm_.lda = gemm_.k;
    a_ = numbers<T>(rows * gemm_.k);
    b_.resize(static_cast<std::size_t>(Call<T>::packed_count(gemm_.k, gemm_.n)));
    const Numbers<T> weight = numbers<T>(product.in * product.out);
    const bool transposed = dx != (product.name == "head");
    Call<T>::pack(pool_, gemm_.k, gemm_.n, weight.data(), transposed ? gemm_.k : gemm_.n,
                  transposed, b_.data(), 0, INT64_MAX);
    bias_ = numbers<float>(gemm_.n);
    if (!dx && product.bias) gemm_.bias = bias_.data();
  }

  std::int64_t tokens_;
  bool cpu_time_;
  Pool pool_;
  Isa isa_;
  Numbers<std::byte> workspace_;
  std::string key_;
  Numbers<T> a_, b_, y_;
  Numbers<float> c_, bias_;
  typename Call<T>::Product gemm_;
};

void serve(Timer& bench, const Shape& shape) {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string name, pass;
    int repeats = 1;
    words >> name >> pass >> repeats;
    for (const Product& product : shape.products()) {
      if (product.name != name) continue;
      for (double seconds : bench.time(product, pass, repeats)) std::cout << seconds << ' ';
    }
    std::cout << std::endl;
  }
}

void print_rates(Timer& bench, const Shape& shape, Isa isa, int threads, int rounds) {
  fmt::print("{{\"isa\": \"{}\", \"threads\": {}, \"tokens\": {}, \"gflops\": {{", name_of(isa),
             threads, shape.tokens);
  std::string_view comma = "";
  for (const Product& product : shape.products()) {
    for (std::string_view pass : passes) {
      std::vector<double> seconds = bench.time(product, pass, rounds);
      std::nth_element(seconds.begin(), seconds.begin() + rounds / 2, seconds.end());
      const double flops =
          2.0 * static_cast<double>((pass == "row" ? 1 : shape.tokens) * product.in * product.out);
      fmt::print("{}\n  \"{} {}\": {:.1f}", comma, product.name, pass,
                 flops * 1e-9 / seconds[static_cast<std::size_t>(rounds / 2)]);
      comma = ",";
    }
  }
  fmt::print("\n}}}}\n");
}

int number_of(std::string_view text) {
  int number = 0;
  const auto end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  require(result.ec == std::errc() && result.ptr == end && number > 0, [&] {
    return Error(Exit::usage, {.what = "not a number",
                               .where = "command line",
                               .expected = "a positive number",
                               .found = std::string(text),
                               .tries = {}});
  });
  return number;
}

int run(int count, char** arguments) {
  Isa isa = best_isa();
  Shape shape;
  int threads = 2;
  int rounds = 9;
  bool serving = false;
  bool cpu_time = false;
  bool halves = false;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = arguments[i];
    const std::string_view value = word.substr(std::min(word.size(), word.find('=') + 1));
    if (word.starts_with("--isa=")) {
      isa = parse_isa(value);
    } else if (word.starts_with("--threads=")) {
      threads = number_of(value);
    } else if (word.starts_with("--rounds=")) {
      rounds = number_of(value);
    } else if (word.starts_with("--width=")) {
      shape.width = number_of(value);
    } else if (word.starts_with("--vocab=")) {
      shape.vocab = number_of(value);
    } else if (word.starts_with("--tokens=")) {
      shape.tokens = number_of(value);
    } else if (word == "--serve") {
      serving = true;
    } else if (word == "--bf16") {
      halves = true;
    } else if (word == "--cpu-time") {
      cpu_time = true;
    } else {
      throw Error(Exit::usage,
                  {.what = "unknown argument",
                   .where = "command line",
                   .expected = "--isa= --threads= --rounds= --width= --vocab= --tokens= "
                               "--bf16 --cpu-time --serve",
                   .found = std::string(word),
                   .tries = {}});
    }
  }
  std::unique_ptr<Timer> bench;
  if (halves) {
    bench = std::make_unique<Bench<bf16>>(shape.tokens, threads, isa, cpu_time);
  } else {
    bench = std::make_unique<Bench<float>>(shape.tokens, threads, isa, cpu_time);
  }
  if (serving) {
    serve(*bench, shape);
  } else {
    print_rates(*bench, shape, isa, threads, rounds);
  }
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int count, char** arguments) {
  try {
    return sluice::run(count, arguments);
  } catch (const sluice::Error& error) {
    std::cerr << error.text();
    return static_cast<int>(error.code());
  }
}
