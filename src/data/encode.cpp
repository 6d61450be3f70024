#include "data/encode.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

namespace sluice {
namespace {

constexpr std::size_t part_bytes = std::size_t{1} << 20;
constexpr std::size_t parts_per_thread = 8;

struct Part {
  std::string_view text;
  std::vector<std::int32_t> ids;
  std::exception_ptr failure;
};

void encode(const Tokenizer& tokenizer, Part& part) {
  part.ids.clear();
  try {
    tokenizer.encode(part.text, part.ids);
  } catch (...) {
    part.failure = std::current_exception();
  }
}

void encode_all(const Tokenizer& tokenizer, std::span<Part> parts, std::size_t threads) {
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i; (i = next.fetch_add(1)) < parts.size();) encode(tokenizer, parts[i]);
  };
  std::vector<std::jthread> others;
  for (std::size_t i = 1; i < std::min(threads, parts.size()); ++i) others.emplace_back(work);
  work();
}

}  // namespace

void encode_in_parts(const Tokenizer& tokenizer, std::string_view text, int threads,
                     const std::function<void(std::span<const std::int32_t>)>& take) {
  const auto workers = static_cast<std::size_t>(std::max(threads, 1));
  std::vector<Part> parts(workers == 1 ? 1 : workers * parts_per_thread);
  while (!text.empty()) {
    std::size_t used = 0;
    for (; used < parts.size() && !text.empty(); ++used) {
      parts[used].text = text.substr(0, tokenizer.safe_cut(text, part_bytes));
      text.remove_prefix(parts[used].text.size());
    }
    encode_all(tokenizer, std::span(parts).first(used), workers);
    for (std::size_t i = 0; i < used; ++i) {
      if (parts[i].failure) std::rethrow_exception(parts[i].failure);
      take(parts[i].ids);
    }
  }
}

}  // namespace sluice
