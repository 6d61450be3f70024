#include "core/error.h"

#include <algorithm>
#include <numeric>

namespace sluice {

Error::Error(Exit code, Report report, const char* file, int line)
    : std::runtime_error(report.what),
      code_(code),
      report_(std::move(report)),
      source_(fmt::format("{}:{}", file, line)) {}

Error::Error(std::string what, const char* file, int line)
    : Error(Exit::internal, Report{std::move(what), {}, {}, {}, {}}, file, line) {}

std::string Error::text(bool debug) const {
  std::string out = fmt::format("sluice: error: {}\n", report_.what);
  if (!report_.where.empty()) out += fmt::format("  where: {}\n", report_.where);
  if (!report_.expected.empty()) out += fmt::format("  expected: {}\n", report_.expected);
  if (!report_.found.empty()) out += fmt::format("  found: {}\n", report_.found);
  for (const std::string& line : report_.tries) out += fmt::format("  try: {}\n", line);
  if (debug) {
    out += fmt::format("  thrown at: {}\n", source_);
    for (const std::string& step : chain_) out += fmt::format("  while: {}\n", step);
  }
  return out;
}

namespace {
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row.back();
}
}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& names) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& name : names) {
    const std::size_t distance = edit_distance(word, name);
    if (distance < best_distance) best = name, best_distance = distance;
  }
  return best;
}

}  // namespace sluice
