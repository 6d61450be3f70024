#include "train/metrics.h"

#include <cmath>
#include <cstdio>

#include "core/hash.h"

namespace sluice {
namespace {

// JSON has no infinities: a number that is not finite is null.
struct Number {
  double value;
};

template <class... Args>
std::string_view print(std::array<char, 1024>& buffer, fmt::format_string<Args...> format,
                       Args&&... args) {
  const auto end =
      fmt::format_to_n(buffer.data(), buffer.size(), format, std::forward<Args>(args)...);
  return {buffer.data(), std::min(end.size, buffer.size())};
}

void put(std::FILE* file, std::string_view line) {
  std::fwrite(line.data(), 1, line.size(), file);
  std::fputc('\n', file);
  std::fflush(file);
}

}  // namespace
}  // namespace sluice

template <>
struct fmt::formatter<sluice::Number> : fmt::formatter<double> {
  template <class Context>
  auto format(const sluice::Number& number, Context& context) const {
    if (std::isfinite(number.value)) return fmt::format_to(context.out(), "{}", number.value);
    return fmt::format_to(context.out(), "null");
  }
};

namespace sluice {

MetricsLog::MetricsLog(const std::string& path, std::int64_t steps, bool json)
    : file_(path), steps_(steps), json_(json) {}

void MetricsLog::write(std::string_view row) {
  file_.append(row);
  if (json_) put(stdout, row);
}

void MetricsLog::step(const StepResult& r, const Pace& pace) {
  write(print(
      buffer_,
      R"({{"step":{},"loss":{},"grad_norm":{},"lr":{},"tokens":{},"tokens_per_second":{:.1f}}})",
      r.step, Number{r.loss}, Number{r.grad_norm}, Number{r.lr}, pace.tokens,
      pace.tokens_per_second));
  const auto left = static_cast<std::int64_t>(pace.seconds_left);
  put(stderr,
      print(buffer_,
            "step {}/{} {:.1f}% | loss {:.4f} | grad norm {:.3f} | lr {:.2e} | {:.0f} tok/s | "
            "eta {}:{:02}:{:02}",
            r.step, steps_, 100.0 * static_cast<double>(r.step) / static_cast<double>(steps_),
            r.loss, r.grad_norm, r.lr, pace.tokens_per_second, left / 3600, left / 60 % 60,
            left % 60));
}

void MetricsLog::validation(std::int64_t step, const Evaluation& e, std::uint64_t digest) {
  const double bits = e.bits_per_byte.value_or(std::nan(""));
  write(print(buffer_,
              R"({{"step":{},"val_loss":{},"val_tokens":{},"bits_per_byte":{},"digest":"{}"}})",
              step, Number{e.loss}, e.tokens, Number{bits}, hex64(digest)));
  if (e.bits_per_byte)
    put(stderr,
        print(buffer_, "step {} | validation loss {:.4f} | {:.4f} bits per byte | digest {}", step,
              e.loss, bits, hex64(digest)));
  else
    put(stderr, print(buffer_, "step {} | validation loss {:.4f} | digest {}", step, e.loss,
                      hex64(digest)));
}

void MetricsLog::saved(std::int64_t step, std::uint64_t digest) {
  write(print(buffer_, R"({{"step":{},"saved":true,"digest":"{}"}})", step, hex64(digest)));
  put(stderr, print(buffer_, "step {} | saved | digest {}", step, hex64(digest)));
}

void MetricsLog::say(std::string_view line) { put(stderr, line); }

}  // namespace sluice
