// Times the float32 products of GPT-2 124M at 1,024 tokens: each weight's forward, dx and dW.
//
//   bench_gemm [--isa=auto] [--threads=2] [--rounds=9]   prints JSON: medians per product
//   bench_gemm [--isa=auto] [--threads=2] --serve        answers each line "PRODUCT PASS REPEATS"
//   on
//       stdin with REPEATS times in seconds; gemm_peer.py asks this way, in turns with its peer
//   --cpu-time: the process's time, not the clock's: for one thread on a machine that others use
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "backend/cpu/gemm.h"
#include "core/error.h"

namespace sluice {
namespace {

constexpr std::int64_t tokens = 1024;

struct Product {
  std::string_view name;
  std::int64_t in;
  std::int64_t out;
  bool bias;
};
constexpr Product products[] = {{"qkv", 768, 2304, true},
                                {"proj", 768, 768, true},
                                {"fc", 768, 3072, true},
                                {"proj2", 3072, 768, true},
                                {"head", 768, 50257, false}};
constexpr std::string_view passes[] = {"forward", "dx", "dw"};

std::vector<float> numbers(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 16777216.0f - 0.5f;
  }
  return values;
}

class Bench {
 public:
  Bench(int threads, Isa isa, bool cpu_time)
      : cpu_time_(cpu_time),
        pool_(threads),
        isa_(isa),
        workspace_(static_cast<std::size_t>(gemm_workspace_bytes(threads))) {}

  // Seconds of each of `repeats` runs; a new product runs once before, not timed.
  std::vector<double> time(const Product& product, std::string_view pass, int repeats) {
    if (set_up(product, pass)) gemm(pool_, isa_, gemm_, workspace_);
    std::vector<double> seconds;
    for (int i = 0; i < repeats; ++i) {
      const double begin = now();
      gemm(pool_, isa_, gemm_, workspace_);
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
    const std::int64_t in = product.in;
    const std::int64_t out = product.out;
    if (pass == "dw") {  // dW[in, out] += xᵀ · dy
      a_ = numbers(tokens * in);
      b_ = numbers(tokens * out);
      gemm_ = {.m = in, .n = out, .k = tokens, .lda = in, .a_stored = Stored::transposed};
      if (product.name == "head") {  // the embedding lies as [vocabulary, width]
        std::swap(a_, b_);
        std::swap(gemm_.m, gemm_.n);
        gemm_.lda = out;
      }
      gemm_.ldb = gemm_.n;
      gemm_.b_stored = Stored::rows;
      gemm_.accumulate = true;
    } else {
      const bool forward = pass == "forward";
      gemm_ = {.m = tokens, .n = forward ? out : in, .k = forward ? in : out};
      gemm_.lda = gemm_.k;
      a_ = numbers(tokens * gemm_.k);
      b_.resize(static_cast<std::size_t>(packed_floats(gemm_.k, gemm_.n)));
      const std::vector<float> weight = numbers(in * out);
      const bool transposed = forward == (product.name == "head");
      pack_b(pool_, gemm_.k, gemm_.n, weight.data(), transposed ? gemm_.k : gemm_.n, transposed,
             b_.data());
      bias_ = numbers(gemm_.n);
      if (forward && product.bias) gemm_.bias = bias_.data();
    }
    c_.assign(static_cast<std::size_t>(gemm_.m * gemm_.n), 0.0f);
    gemm_.a = a_.data();
    gemm_.b = b_.data();
    gemm_.c = c_.data();
    gemm_.ldc = gemm_.n;
    return true;
  }

  bool cpu_time_;
  Pool pool_;
  Isa isa_;
  std::vector<std::byte> workspace_;
  std::string key_;
  std::vector<float> a_, b_, c_, bias_;
  Gemm gemm_;
};

void serve(Bench& bench) {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string name, pass;
    int repeats = 1;
    words >> name >> pass >> repeats;
    for (const Product& product : products) {
      if (product.name != name) continue;
      for (double seconds : bench.time(product, pass, repeats)) std::cout << seconds << ' ';
    }
    std::cout << std::endl;
  }
}

void print_rates(Bench& bench, Isa isa, int threads, int rounds) {
  fmt::print("{{\"isa\": \"{}\", \"threads\": {}, \"tokens\": {}, \"gflops\": {{", name_of(isa),
             threads, tokens);
  std::string_view comma = "";
  for (const Product& product : products) {
    for (std::string_view pass : passes) {
      std::vector<double> seconds = bench.time(product, pass, rounds);
      std::nth_element(seconds.begin(), seconds.begin() + rounds / 2, seconds.end());
      const double flops = 2.0 * tokens * static_cast<double>(product.in * product.out);
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
    return Error(Exit::usage, {.what = "not a number of threads or rounds",
                               .where = "command line",
                               .expected = "a positive number",
                               .found = std::string(text),
                               .tries = {}});
  });
  return number;
}

int run(int count, char** arguments) {
  Isa isa = best_isa();
  int threads = 2;
  int rounds = 9;
  bool serving = false;
  bool cpu_time = false;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = arguments[i];
    const std::string_view value = word.substr(std::min(word.size(), word.find('=') + 1));
    if (word.starts_with("--isa=")) {
      isa = parse_isa(value);
    } else if (word.starts_with("--threads=")) {
      threads = number_of(value);
    } else if (word.starts_with("--rounds=")) {
      rounds = number_of(value);
    } else if (word == "--serve") {
      serving = true;
    } else if (word == "--cpu-time") {
      cpu_time = true;
    } else {
      throw Error(Exit::usage, {.what = "unknown argument",
                                .where = "command line",
                                .expected = "--isa= --threads= --rounds= --cpu-time --serve",
                                .found = std::string(word),
                                .tries = {}});
    }
  }
  Bench bench(threads, isa, cpu_time);
  if (serving) {
    serve(bench);
  } else {
    print_rates(bench, isa, threads, rounds);
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
