#include "train/algorithms.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "core/file.h"
#include "executor/visit_ops.h"

namespace sluice {
namespace {

constexpr const char* file_name = "algorithms.json";

std::string shown(const AlgorithmTable& table) {
  const std::int64_t v = table.library;
  return fmt::format("{} with cuBLASLt {}.{}.{}", table.gpu, v / 10000, v / 100 % 100, v % 100);
}

// What machines keep between runs; a damaged file is said, and as if there were none.
std::optional<AlgorithmTable> cached(const std::string& file, std::vector<std::string>& messages) {
  std::error_code error;
  if (file.empty() || !std::filesystem::exists(file, error)) return {};
  try {
    return load_algorithms(file);
  } catch (const Error& e) {
    messages.push_back(fmt::format("{} ({}): products are tuned anew", e.report().what, file));
    return {};
  }
}

void keep_cached(const std::string& file, AlgorithmTable all, const AlgorithmTable& now,
                 std::vector<std::string>& messages) {
  if (file.empty()) return;
  if (!all.same_machine(now)) all = now;
  all.products.insert(now.products.begin(), now.products.end());
  try {
    save_algorithms(file, all);
  } catch (const Error& e) {
    messages.push_back(fmt::format("the table of algorithms was not kept for other runs: {} ({})",
                                   e.report().what, file));
  }
}

void require_same_machine(const AlgorithmTable& given, const std::string& file,
                          const AlgorithmTable& here) {
  require(given.same_machine(here), [&] {
    return Error(Exit::usage, {"the table of algorithms is for another GPU or another library",
                               file,
                               shown(here),
                               shown(given),
                               {"without --algorithms products are tuned here"}});
  });
}

// Products that two tables run by different algorithms.
int count_differences(const AlgorithmTable& a, const AlgorithmTable& b) {
  int count = 0;
  for (const auto& [shape, one] : a.products)
    if (const auto other = b.products.find(shape); other != b.products.end())
      count += one.own != other->second.own || !(one.algorithm == other->second.algorithm) ? 1 : 0;
  return count;
}

void require_what_it_began_with(const AlgorithmSources& sources) {
  if (sources.accepted) return;
  const int other = count_differences(*sources.run, *sources.given);
  require(other == 0, [&] {
    return Error(Exit::usage, {"options that change the numbers differ from the run's",
                               sources.given_file,
                               "the algorithms that the run began with",
                               fmt::format("another one for {} of its products", other),
                               {"--change algorithms", "without --algorithms the run keeps its own",
                                "--out DIR for a run of its own"}});
  });
}

}  // namespace

std::optional<AlgorithmTable> kept_algorithms(const std::filesystem::path& run) {
  const std::filesystem::path file = run / file_name;
  if (!std::filesystem::exists(file)) return {};
  return load_algorithms(file.string());
}

void keep_algorithms(const std::filesystem::path& run, const AlgorithmTable& table) {
  save_algorithms((run / file_name).string(), table);
}

std::vector<ProductShape> training_products(ProductTuner& tuner, const ProgramSet& programs) {
  std::set<ProductShape> out;
  for (const Program& program : programs.programs)
    if (program.name.starts_with("first") || program.name.starts_with("steady"))
      visit_ops(program, programs.workers, [&](const Op& op, const Frame& frame) {
        for (const ProductShape& one : tuner.products_of(op, frame)) out.insert(one);
      });
  return {out.begin(), out.end()};
}

SettledAlgorithms settle_algorithms(ProductTuner& tuner, const std::vector<ProductShape>& products,
                                    const AlgorithmSources& sources) {
  SettledAlgorithms out;
  const AlgorithmTable here = tuner.machine();
  const bool goes_on = sources.run && sources.run->same_machine(here);
  if (sources.given) require_same_machine(*sources.given, sources.given_file, here);
  if (goes_on && sources.given) require_what_it_began_with(sources);
  if (sources.run && !goes_on)
    out.messages.push_back(fmt::format(
        "the run's algorithms are for {}, and this is {}: products are tuned anew, and the run "
        "goes on under a new key",
        shown(*sources.run), shown(here)));
  const std::optional<AlgorithmTable> cache = cached(sources.cache_file, out.messages);

  // The first of these that knows a product says how it runs.
  std::vector<const AlgorithmTable*> known;
  if (goes_on && !(sources.given && sources.accepted)) known.push_back(&*sources.run);
  if (sources.given) known.push_back(&*sources.given);
  if (goes_on) known.push_back(&*sources.run);
  if (cache && cache->same_machine(here)) known.push_back(&*cache);

  out.table = here;
  int tuned = 0, changed = 0;
  double before = 0, after = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (const ProductShape& shape : products) {
    const auto knows = [&](const AlgorithmTable* t) { return t->products.contains(shape); };
    const auto found = std::find_if(known.begin(), known.end(), knows);
    if (found != known.end()) {
      out.table.products[shape] = (*found)->products.at(shape);
      continue;
    }
    const TunedProduct one =
        doing([&] { return "tuning " + shape.text(); }, [&] { return tuner.tune(shape); });
    out.table.products[shape] = one;
    ++tuned, changed += one.seconds < one.first_seconds ? 1 : 0;
    before += one.first_seconds, after += one.seconds;
  }
  tuner.use(out.table);
  if (tuned == 0) return out;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  out.messages.push_back(fmt::format(
      "tuned {} of {} products in {:.1f} s: {} run by another algorithm than cuBLASLt's first "
      "answer, all of them once in {:.3f} ms for {:.3f} ms",
      tuned, products.size(), took.count(), changed, 1e3 * after, 1e3 * before));
  keep_cached(sources.cache_file, cache.value_or(out.table), out.table, out.messages);
  return out;
}

}  // namespace sluice
