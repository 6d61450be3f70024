#include <algorithm>
#include <charconv>

#include "train/config.h"

namespace sluice {
namespace {

constexpr std::int64_t most = std::int64_t{1} << 52;

// "1_474_560", spaces around it allowed; 0 when it is no number from 1 to 2^52.
std::int64_t parse_tokens(std::string_view text) {
  std::string digits;
  for (const char c : text.substr(0, text.find_last_not_of(' ') + 1))
    if (c != '_' && !(c == ' ' && digits.empty())) digits += c;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  const bool whole = error == std::errc{} && end == digits.data() + digits.size();
  return whole && value > 0 && value <= most ? value : 0;
}

RunLength::Boundary parse_boundary(const Config& config, std::string_view text) {
  const std::size_t colon = std::min(text.find(':'), text.size());
  const RunLength::Boundary out{parse_tokens(text.substr(0, colon)),
                                parse_tokens(text.substr(std::min(colon + 1, text.size())))};
  require(out.tokens > 0 && out.tokens_per_step > 0, [&] {
    return Error(Exit::usage, {"batch.ramp cannot be read",
                               config.place("batch.ramp"),
                               "\"DONE:TOKENS, …\": after DONE tokens, steps have TOKENS",
                               fmt::format("\"{}\"", text),
                               {}});
  });
  return out;
}

void check_boundary(const Config& config, const RunLength::Boundary& boundary,
                    std::int64_t before) {
  require(boundary.tokens > before, [&] {
    return Error(Exit::usage, {"the boundaries of the batch ramp do not ascend",
                               config.place("batch.ramp"),
                               fmt::format("more than {} tokens", before),
                               fmt::format("{}", boundary.tokens),
                               {}});
  });
  const std::int64_t sequence = config.batch.sequence, tokens = boundary.tokens_per_step;
  require(tokens % sequence == 0, [&] {
    const std::int64_t count = std::max<std::int64_t>(1, (tokens + sequence / 2) / sequence);
    return Error(Exit::usage, {fmt::format("a step of {} tokens in the batch ramp is no whole "
                                           "number of sequences",
                                           tokens),
                               config.place("batch.ramp"),
                               fmt::format("a multiple of {}", sequence),
                               fmt::format("{}", tokens),
                               {fmt::format("{}:{}", boundary.tokens, count * sequence)}});
  });
}

}  // namespace

std::vector<RunLength::Boundary> ramp_of(const Config& config) {
  std::vector<RunLength::Boundary> out;
  std::string_view rest = config.batch.ramp;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    const RunLength::Boundary next = parse_boundary(config, rest.substr(0, end));
    check_boundary(config, next, out.empty() ? 0 : out.back().tokens);
    out.push_back(next);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

}  // namespace sluice
