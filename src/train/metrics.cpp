#include "train/metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/hash.h"
#include "planner/flops.h"

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

// Bytes: the most that were resident so far.
std::int64_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

// At a terminal the bar tells of the steps; lines of more than one a second tell nobody anything.
constexpr auto line_pause = std::chrono::seconds(1);

const char* what_stood_out(int skipped) {
  if (skipped == Spikes::by_loss) return "loss";
  return skipped == Spikes::by_norm ? "grad_norm" : "loss and grad_norm";
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

double utilization_flops(const ModelConfig& model, std::int64_t sequence) {
  return flops_six_n(model, sequence) + 12.0 * static_cast<double>(model.layers) *
                                            static_cast<double>(model.width) *
                                            static_cast<double>(sequence);
}

MetricsLog::MetricsLog(const std::string& path, const MetricsOptions& options)
    : file_(path), options_(options), console_(STDERR_FILENO, options.bar && !options.json) {}

void MetricsLog::write(std::string_view row) {
  file_.append(row);
  if (options_.json) put(stdout, row);
}

bool MetricsLog::shows_step(const StepResult& r) {
  const auto now = std::chrono::steady_clock::now();
  if (console_.has_bar() && r.finite && r.skipped == 0 && r.step != options_.steps &&
      now - line_at_ < line_pause)
    return false;
  line_at_ = now;
  return true;
}

void MetricsLog::step(const StepResult& r, const Pace& pace) {
  if (--warming_ < 0) timed_ += 1, seconds_per_token_ += 1 / pace.tokens_per_second;
  const double nothing = std::nan("");
  const double mfu = options_.peak_flops > 0
                         ? pace.tokens_per_second * options_.flops_per_token / options_.peak_flops
                         : nothing;
  const std::int64_t memory = options_.memory ? options_.memory() : peak_memory();
  std::array<char, 48> skipped{}, note{};
  if (r.skipped != 0) {
    const char* what = what_stood_out(r.skipped);
    fmt::format_to_n(skipped.data(), skipped.size() - 1, R"(,"skipped":"{}")", what);
    fmt::format_to_n(note.data(), note.size() - 1, " | not applied: a spike of {}", what);
  }
  write(print(
      buffer_,
      R"({{"step":{},"loss":{},"grad_norm":{},"lr":{},"tokens":{},"tokens_per_second":{:.1f},"mfu":{},"memory":{}{}}})",
      r.step, Number{r.loss}, Number{r.grad_norm}, Number{r.lr}, pace.tokens,
      pace.tokens_per_second, Number{mfu}, memory, skipped.data()));
  if (EventsFile* events = options_.events)
    events->add(r.step, {{"train/loss", r.loss},
                         {"train/grad_norm", r.grad_norm},
                         {"train/learning_rate", r.lr},
                         {"speed/tokens_per_second", pace.tokens_per_second},
                         {"speed/mfu", mfu}});
  console_.set({r.step, options_.steps, r.loss, pace.tokens_per_second, mfu, pace.seconds_left});
  if (!shows_step(r)) return console_.redraw(false);
  std::array<char, 32> share{}, clock;
  if (std::isfinite(mfu))
    fmt::format_to_n(share.data(), share.size() - 1, " | {:.1f}% MFU", 100 * mfu);
  console_.line(print(
      buffer_,
      "step {}/{} {:.1f}% | loss {:.4f} | grad norm {:.3f} | lr {:.2e} | {:.0f} tok/s{} | "
      "{:.2f} GiB | eta {}{}",
      r.step, options_.steps,
      100.0 * static_cast<double>(r.step) / static_cast<double>(options_.steps), r.loss,
      r.grad_norm, r.lr, pace.tokens_per_second, share.data(),
      static_cast<double>(memory) / (1 << 30), clock_text(clock, pace.seconds_left), note.data()));
}

void MetricsLog::validation(std::int64_t step, const Evaluation& e, std::uint64_t digest) {
  const double bits = e.bits_per_byte.value_or(std::nan(""));
  write(print(buffer_,
              R"({{"step":{},"val_loss":{},"val_tokens":{},"bits_per_byte":{},"digest":"{}"}})",
              step, Number{e.loss}, e.tokens, Number{bits}, hex64(digest)));
  if (EventsFile* events = options_.events)
    events->add(step, {{"validation/loss", e.loss}, {"validation/bits_per_byte", bits}});
  if (e.bits_per_byte)
    console_.line(print(buffer_,
                        "step {} | validation loss {:.4f} | {:.4f} bits per byte | digest {}", step,
                        e.loss, bits, hex64(digest)));
  else
    console_.line(print(buffer_, "step {} | validation loss {:.4f} | digest {}", step, e.loss,
                        hex64(digest)));
}

void MetricsLog::norms(std::int64_t step, const LayerNorms& norms) {
  const auto numbers = [](const std::vector<double>& values) {
    nlohmann::json out = nlohmann::json::array();
    for (const double value : values)
      out.push_back(std::isfinite(value) ? nlohmann::json(value) : nlohmann::json());
    return out;
  };
  const nlohmann::json row = {{"step", step},
                              {"weight_norms", numbers(norms.weights)},
                              {"grad_norms", numbers(norms.gradients)}};
  write(row.dump());
  if (EventsFile* events = options_.events)
    for (std::size_t layer = 0; layer < norms.weights.size(); ++layer) {
      const std::string name = layer_label(layer, norms.weights.size());
      events->add(step, {{"weight_norm/" + name, norms.weights[layer]},
                         {"grad_norm/" + name, norms.gradients[layer]}});
    }
  console_.line(print(buffer_, "step {} | norm of all weights {:.4g}", step, total(norms.weights)));
}

void MetricsLog::saved(std::int64_t step, std::uint64_t digest, bool best) {
  write(print(buffer_, R"({{"step":{},"saved":true{},"digest":"{}"}})", step,
              best ? R"(,"best":true)" : "", hex64(digest)));
  console_.line(print(buffer_, "step {} | saved{} | digest {}", step,
                      best ? ", the best so far" : "", hex64(digest)));
}

void MetricsLog::say(std::string_view line) { console_.line(line); }

void MetricsLog::refresh() { console_.redraw(true); }

}  // namespace sluice
