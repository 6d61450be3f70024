#include "planner/memory_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace sluice {
namespace {

constexpr std::size_t most_changes = 3;

struct Row {
  const char* name;
  std::int64_t MemoryBytes::*bytes;
};
constexpr Row rows[] = {
    {"weights", &MemoryBytes::weights},     {"gradients", &MemoryBytes::gradients},
    {"optimizer", &MemoryBytes::optimizer}, {"derived", &MemoryBytes::derived},
    {"stash", &MemoryBytes::stash},         {"carry", &MemoryBytes::carry},
    {"frame", &MemoryBytes::frame},         {"globals", &MemoryBytes::globals},
    {"batch", &MemoryBytes::batch},         {"cache", &MemoryBytes::cache},
    {"host", &MemoryBytes::host},           {"process", &MemoryBytes::process},
    {"rest", &MemoryBytes::rest},           {"total", &MemoryBytes::total},
};

bool beside_a_gpu(const Row& row, const MemoryBytes& bytes) {
  return bytes.rest > 0 && (row.bytes == &MemoryBytes::host || row.bytes == &MemoryBytes::process);
}

}  // namespace

std::int64_t process_bytes(const ProcessShape& shape) {
  const std::int64_t block = align_up(shape.batch_bytes, blob_alignment);
  return program_bytes + shape.actions * action_bytes +
         shape.threads * (shape.worker_scratch + stack_bytes) + reader_bytes +
         2 * shape.micro_batches * block;
}

ProcessShape process_shape(const ProgramSet& set, std::int64_t threads,
                           std::int64_t worker_scratch) {
  ProcessShape shape{.threads = threads, .worker_scratch = worker_scratch};
  for (const Program& program : set.programs) {
    shape.actions += static_cast<std::int64_t>(program.actions.size());
    shape.micro_batches =
        std::max(shape.micro_batches, static_cast<std::int64_t>(program.micro_batches));
    shape.batch_bytes = std::max(shape.batch_bytes, program.batch.bytes);
  }
  return shape;
}

MemoryBytes memory_bytes(const ProgramSet& set, std::int64_t process) {
  const auto region = [&](Region r) { return set.memory.bytes(r); };
  return {.weights = region(Region::weights),
          .gradients = region(Region::gradients) + region(Region::packed),
          .optimizer = region(Region::optimizer),
          .derived = region(Region::derived),
          .globals = region(Region::globals),
          .batch = region(Region::batch),
          .cache = region(Region::cache),
          .stash = region(Region::stash),
          .carry = region(Region::carry),
          .frame = region(Region::frame),
          .host = set.memory.host_bytes(),
          .process = process,
          .total = set.memory.total() + set.memory.host_bytes() + process};
}

MemoryBytes memory_on_gpu(const ProgramSet& set, std::int64_t process, std::int64_t rest) {
  MemoryBytes out = memory_bytes(set, process);
  out.rest = rest;
  out.total = set.memory.total() + rest;
  return out;
}

std::int64_t at_rest_bytes(const ProgramSet& set) {
  const Residency& residency = *set.residency;
  std::int64_t bytes = 0;
  for (int layer = 0; layer < set.model->layer_count(); ++layer) {
    const Region gradients =
        residency.slot(layer, Kind::packed) >= 0 ? Region::packed : Region::gradients;
    for (const Region region : {Region::weights, gradients, Region::optimizer})
      bytes += residency.blob_bytes(set.model->kind_of(layer), region);
  }
  return bytes;
}

nlohmann::json to_json(const MemoryBytes& bytes) {
  nlohmann::json out;
  for (const Row& row : rows)
    if (row.bytes != &MemoryBytes::rest || bytes.rest > 0) out[row.name] = bytes.*row.bytes;
  return out;
}

std::string human_bytes(double bytes) {
  static constexpr const char* units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double number = bytes;
  std::size_t unit = 0;
  for (; number >= 1024 && unit + 1 < std::size(units); ++unit) number /= 1024;
  return unit == 0 ? fmt::format("{:.0f} bytes", bytes)
                   : fmt::format("{:.1f} {}", number, units[unit]);
}

std::string to_text(const MemoryBytes& bytes) {
  std::string out, beside;
  for (const Row& row : rows)
    if (bytes.*row.bytes > 0)
      (beside_a_gpu(row, bytes) ? beside : out) += fmt::format(
          "{:<10} {:>12}  {:>20}\n", row.name, human_bytes(bytes.*row.bytes), bytes.*row.bytes);
  return beside.empty() ? out : out + "and of the host's memory:\n" + beside;
}

std::string PlanChange::text() const {
  std::string out;
  for (const Setting& setting : settings) {
    if (!out.empty()) out += " and ";
    out += fmt::format("{} = {}", setting.key, setting.value);
  }
  out += note;
  if (changes_key) out += " (another numerics key: another run)";
  return out;
}

std::vector<PlanChange> candidate_changes(const PlanChoices& now) {
  using Settings = std::vector<PlanChange::Setting>;
  std::vector<Settings> free{{}};
  if (now.recompute == "none") free.push_back({{"plan.recompute", "\"selective\""}});
  if (now.recompute != "block") free.push_back({{"plan.recompute", "\"block\""}});
  if (now.samples) {
    free.push_back({{"run.sample_every", "0"}});
    Settings both = free[free.size() - 2];
    both.push_back({"run.sample_every", "0"});
    if (both.size() > 1) free.push_back(both);
  }
  std::vector<PlanChange> out;
  for (std::size_t i = 1; i < free.size(); ++i) out.push_back({free[i], false});
  const auto with_strongest = [&](const Settings& settings) {
    out.push_back({settings, true});
    Settings all = free.back();
    all.insert(all.end(), settings.begin(), settings.end());
    if (all.size() > settings.size()) out.push_back({all, true});
  };
  for (std::int64_t micro = now.micro_batch - 1; micro >= 1; --micro)
    if (now.micro_batch % micro == 0)
      with_strongest({{"plan.micro_batch", fmt::format("{}", micro)}});
  for (std::int64_t part = 2; now.sequence / part >= 64; part *= 2)
    with_strongest(
        {{"batch.sequence", fmt::format("{}", now.sequence / part)}, {"plan.micro_batch", "1"}});
  return out;
}

std::vector<PlanChange> changes_that_fit(
    const std::vector<PlanChange>& candidates, std::int64_t available,
    const std::function<std::int64_t(const PlanChange&)>& total_of) {
  std::vector<PlanChange> out;
  for (const PlanChange& change : candidates) {
    if (out.size() == most_changes) break;
    try {
      if (total_of(change) <= available) out.push_back(change);
    } catch (const Error&) {  // no plan at all, such as a sequence that does not divide the batch
    }
  }
  return out;
}

void require_fits(const MemoryBytes& bytes, std::int64_t available,
                  const std::function<std::vector<PlanChange>()>& changes, std::int64_t taken) {
  if (bytes.total <= available) return;
  Report report;
  report.what = fmt::format("the plan needs {} and {} are there", human_bytes(bytes.total),
                            human_bytes(available));
  if (taken > 0 && bytes.total <= available + taken) {
    report.what = fmt::format("other programs have {} of the GPU's memory", human_bytes(taken));
    report.tries.push_back("end them: nvidia-smi lists them");
  }
  report.where = "memory";
  report.expected = fmt::format("at most {} bytes", available);
  report.found = fmt::format(
      "{} bytes: weights, gradients, optimizer and derived weights {}, stash {}, frame {}",
      bytes.total, human_bytes(bytes.weights + bytes.gradients + bytes.optimizer + bytes.derived),
      human_bytes(bytes.stash), human_bytes(bytes.frame));
  for (const PlanChange& change : changes())
    if (report.tries.size() < most_changes) report.tries.push_back(change.text());
  if (report.tries.empty())
    report.tries.push_back("a smaller model: no micro-batch or recompute level makes this one fit");
  throw Error(Exit::memory, std::move(report));
}

}  // namespace sluice
