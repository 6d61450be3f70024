// sluice doctor: what this machine is, how fast, what is wrong with it and what to do.
#include <sys/statvfs.h>

#include <algorithm>
#include <ctime>

#include "backend/cpu/findings.h"
#include "backend/cpu/measure.h"
#include "command.h"
#include "core/file.h"
#include "doctor_gpu.h"
#include "planner/description.h"
#include "planner/memory_report.h"
#include "train/device.h"
#include "train/measure_ops.h"

namespace sluice {
namespace {

struct Options {
  std::string disk, save;
  bool quick = false, no_gpu = false;
  int gpu = 0;
};

// One thing that the kernel says, and the file it says it in.
struct Fact {
  const char* name;
  nlohmann::json value;
  std::string text;
  std::string source;
};

struct Diagnosis {
  HostFacts host;
  Examined examined;
  MachineRates machine;
  std::int64_t disk_bytes = 0;  // of the file that was written
  std::string kept;             // the machine file; empty: not kept
  GpuDiagnosis gpus;
  std::string gpu_kept;  // likewise
  // Of the processor, or of the GPU that was measured.
  Machine processor() const { return description_of(machine, total_memory(host)); }
  Machine described() const { return gpus.measured ? *gpus.measured : processor(); }
  std::vector<Finding> wrong() const {
    std::vector<Finding> out = findings(host, examined);
    for (const Finding& one : gpu_findings(gpus.examined)) out.push_back(one);
    return out;
  }
};

// Seconds to spend on each measurement.
struct Spending {
  double float32, bf16, attention, memory, disk, ops, beside;
};
constexpr Spending thorough = {6.5, 4.0, 1.5, 1.5, 3.0, 4.0, 1.0},
                   quick = {1.0, 0.7, 0.3, 0.4, 0.5, 1.5, 0.3};

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm date{};
  ::gmtime_r(&now, &date);
  return fmt::format("{:04}-{:02}-{:02}", date.tm_year + 1900, date.tm_mon + 1, date.tm_mday);
}

std::int64_t free_bytes(const std::string& folder) {
  struct statvfs space {};
  if (::statvfs(folder.c_str(), &space) != 0) return 0;
  return static_cast<std::int64_t>(space.f_bavail) * static_cast<std::int64_t>(space.f_frsize);
}

// A disk that was asked for must take a file; the current folder need not.
void take_disk(const Options& options, const Spending& spending, Diagnosis& d) {
  d.examined.disk = options.disk.empty() ? "." : options.disk;
  d.examined.disk_free = free_bytes(d.examined.disk);
  try {
    const DiskRates rates =
        measure_disk(d.examined.disk, std::int64_t{options.quick ? 32 : 128} << 20, spending.disk);
    d.machine.disk_write = d.examined.disk_write = rates.write;
    d.machine.disk_read = rates.read;
    d.disk_bytes = rates.bytes;
  } catch (const Error& e) {
    if (!options.disk.empty()) throw;
    d.examined.disk_error = fmt::format("{}: {}", e.report().what, e.report().found);
  }
}

void take_products(CpuBackend& cpu, const Options& options, const Spending& spending,
                   Diagnosis& d) {
  for (const ProductType& type : product_types()) {
    ProductOptions how;
    how.seconds = std::string_view(type.name) == "float32" ? spending.float32 : spending.bf16;
    how.tokens = options.quick ? 512 : 2048;
    how.memory = std::min<std::int64_t>(d.examined.memory_left / 2, std::int64_t{1} << 30);
    for (const MeasuredProduct& p : measure_products(cpu, type, how))
      d.machine.products.push_back({p.of.name, std::string(name_of(p.direction)), type.name, p.m,
                                    p.k, p.n, p.of.count, p.seconds});
  }
}

Diagnosis diagnose(const Options& options) {
  const Spending& spending = options.quick ? quick : thorough;
  Diagnosis d;
  d.host = host_facts("");
  d.examined.best = best_isa();
  d.examined.threads = std::min(usable_threads(), Pool::max_threads);
  d.examined.memory_left = available_memory();
  take_disk(options, spending, d);
  d.machine.id = {d.host.cpu, std::string(name_of(d.examined.best)), d.examined.threads};
  d.machine.date = today();
  d.machine.quick = options.quick;
  CpuBackend cpu({.threads = d.examined.threads, .isa = d.examined.best});
  take_products(cpu, options, spending, d);
  for (const MeasuredAttention& one : measure_attention(cpu, spending.attention))
    d.machine.attention.push_back({one.head, one.sequence, one.forward, one.backward});
  const MeasuredOps ops = measure_ops(cpu, spending.ops, d.examined.memory_left / 2);
  d.machine.ops = ops.ops, d.machine.between_ops = ops.between_ops;
  d.machine.beside = measure_beside(cpu, spending.beside);
  const std::int64_t array = std::min<std::int64_t>(d.examined.memory_left / 8, 256 << 20);
  const MemoryRates memory = measure_memory(cpu, array, spending.memory);
  d.machine.read_one = memory.read_one, d.machine.read_all = memory.read_all;
  d.machine.copy_one = memory.copy_one, d.machine.copy_all = memory.copy_all;
  Machine around = d.processor();
  around.disk_memory = {static_cast<double>(d.examined.disk_free), Origin::measured, "free now"};
  if (!options.no_gpu) d.gpus = diagnose_gpus(options.gpu, options.quick, today(), around);
  return d;
}

std::string amx_text(const Diagnosis& d) {
  if (!d.host.has("amx_bf16")) return "no AMX";
  return d.examined.best == Isa::amx ? "AMX permitted" : "AMX not permitted";
}

std::vector<Fact> facts_of(const Diagnosis& d) {
  const HostFacts& host = d.host;
  std::vector<std::string> sets;
  for (const Isa isa : available_isas()) sets.emplace_back(name_of(isa));
  const auto bytes = [](std::int64_t n) { return n > 0 ? human_bytes(n) : "not said"; };
  const auto word = [](const std::string& text) { return text.empty() ? "not said" : text; };
  const nlohmann::json none;
  return {
      {"processor", host.cpu, word(host.cpu), cpuinfo_file},
      {"instruction_sets", sets,
       fmt::format("{}; {} is used; {}", fmt::join(sets, ", "), sets.back(), amx_text(d)),
       cpuinfo_file},
      {"cpus", host.cores, fmt::format("{}", host.cores), cpuinfo_file},
      {"affinity", host.affinity,
       fmt::format("{} ({} CPUs); {} threads are used", word(host.affinity), host.affinity_cpus,
                   d.examined.threads),
       status_file},
      {"quota", host.quota ? nlohmann::json(host.quota->cpus) : none,
       host.quota ? fmt::format("{:.3g} CPUs", host.quota->cpus) : "none",
       host.quota ? host.quota->file : "/sys/fs/cgroup"},
      {"load", host.load, fmt::format("{:.2f}", host.load), loadavg_file},
      {"memory", host.memory_total, bytes(host.memory_total), meminfo_file},
      {"memory_available", host.memory_available,
       fmt::format("{}; {} of swap", bytes(host.memory_available), human_bytes(host.swap_total)),
       meminfo_file},
      {"memory_limit", host.memory_limit ? nlohmann::json(host.memory_limit->bytes) : none,
       host.memory_limit ? human_bytes(host.memory_limit->bytes) : "none",
       host.memory_limit ? host.memory_limit->file : "/sys/fs/cgroup"},
      {"huge_pages", host.huge_pages,
       fmt::format("{}, of {}", word(host.huge_pages), bytes(host.huge_page)), huge_pages_file},
      {"huge_pages_defrag", host.huge_pages_defragged, word(host.huge_pages_defragged),
       defrag_file},
      {"governor", host.governor, word(host.governor), governor_file},
  };
}

// "0.31 0.30 0.28", TFLOP/s of the three directions; dashes where nothing was measured.
std::string rates_of(const MachineRates& machine, std::string_view name, std::string_view type) {
  std::string out;
  for (const Direction direction :
       {Direction::forward, Direction::input_gradient, Direction::weight_gradient}) {
    std::string cell = "-";
    for (const ProductRate& p : machine.products)
      if (p.name == name && p.type == type && p.direction == name_of(direction))
        cell = fmt::format("{:.3f}", p.flops() / 1e12);
    out += fmt::format("{:>9}", cell);
  }
  return out;
}

std::string products_text(const MachineRates& machine) {
  std::string out = fmt::format("{:<20}{:<27}  {:<27}\n", "products, TFLOP/s",
                                "  float32 forward, dx, dW", "  bf16 forward, dx, dW");
  for (const StepProduct& p : step_products())
    out += fmt::format("  {:<18}{}  {}\n", fmt::format("{} {} x {}", p.name, p.in, p.out),
                       rates_of(machine, p.name, "float32"), rates_of(machine, p.name, "bf16"));
  const auto all = [&](const char* type) { return product_flops(machine, type) / 1e12; };
  out += fmt::format("  {:<18}{:9.3f}{:20}{:9.3f}\n", "a step's, together", all("float32"), "",
                     all("bf16"));
  for (const AttentionSpeed& a : machine.attention)
    out += fmt::format("  {:<18}{:9.3f}{:9.3f}\n",
                       fmt::format("attention {} x {}", a.sequence, a.head), a.forward / 1e12,
                       a.backward / 1e12);
  return out;
}

std::string speeds_text(const Diagnosis& d) {
  const MachineRates& m = d.machine;
  std::string out = fmt::format(
      "memory, GB/s        read {:.1f} by one thread, {:.1f} by all; copy {:.1f} and {:.1f}\n",
      m.read_one / 1e9, m.read_all / 1e9, m.copy_one / 1e9, m.copy_all / 1e9);
  out += fmt::format("disk, MB/s          in {}, {} free: ", d.examined.disk,
                     human_bytes(d.examined.disk_free));
  return out + (m.disk_write > 0
                    ? fmt::format("write and sync {:.0f}, read {:.0f}, of {}\n", m.disk_write / 1e6,
                                  m.disk_read / 1e6, human_bytes(d.disk_bytes))
                    : "not measured\n");
}

void print(const Diagnosis& d) {
  std::string out;
  for (const Fact& fact : facts_of(d)) {
    std::string name = fact.name;
    std::replace(name.begin(), name.end(), '_', ' ');
    out += fmt::format("{:<20}{:<50} {}\n", name, fact.text, fact.source);
  }
  out += products_text(d.machine) + speeds_text(d) + gpu_text(d.gpus);
  const std::vector<Finding> found = d.wrong();
  if (found.empty()) out += "nothing is wrong\n";
  for (const Finding& finding : found)
    out += fmt::format("! {} ({})\n  try: {}\n", finding.what, finding.source, finding.remedy);
  for (const std::string& file : {d.kept, d.gpu_kept})
    if (!file.empty()) out += fmt::format("kept for `sluice train` in {}\n", file);
  write_out(out);
}

nlohmann::json json_of(const Diagnosis& d) {
  nlohmann::json facts = nlohmann::json::array(), wrong = nlohmann::json::array();
  for (const Fact& fact : facts_of(d))
    facts.push_back({{"name", fact.name}, {"value", fact.value}, {"source", fact.source}});
  for (const Finding& finding : d.wrong())
    wrong.push_back({{"what", finding.what}, {"source", finding.source}, {"try", finding.remedy}});
  return {{"version", 1},
          {"facts", facts},
          {"amx", amx_text(d)},
          {"measured", to_json(d.machine)},
          {"float32_flops", product_flops(d.machine, "float32")},
          {"bf16_flops", product_flops(d.machine, "bf16")},
          {"disk",
           {{"folder", d.examined.disk},
            {"free", d.examined.disk_free},
            {"bytes", d.disk_bytes},
            {"write", d.machine.disk_write},
            {"read", d.machine.disk_read}}},
          {"findings", wrong},
          {"gpu", gpu_json(d.gpus)},
          {"kept", d.kept.empty() ? nlohmann::json() : nlohmann::json(d.kept)}};
}

int run(const Options& options, Context& context) {
  Diagnosis d = diagnose(options);
  if (!context.machine_file.empty()) {
    try {
      save_machine(context.machine_file, d.machine);
      d.kept = context.machine_file;
      if (d.gpus.measured) {
        write_file_atomic(gpu_file(context.machine_file), to_toml(*d.gpus.measured));
        d.gpu_kept = gpu_file(context.machine_file);
      }
    } catch (const Error& e) {
      note(fmt::format("the measurements were not kept: {} ({})", e.report().what,
                       e.report().found));
    }
  }
  if (!options.save.empty()) write_file_atomic(options.save, to_toml(d.described()));
  if (context.json)
    write_json(json_of(d));
  else
    print(d);
  return 0;
}

}  // namespace

void add_doctor(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command = add_command(app, context, "doctor",
                                  "Measure this machine; say what is wrong and what to do", run, o);
  command->add_flag("--quick", o->quick, "7 seconds instead of 25, less exact");
  command->add_option("--save", o->save, "describe the machine in a file, for plan --machine")
      ->type_name("FILE");
  command->add_option("--gpu", o->gpu, "the number of the GPU that is measured (default: 0)")
      ->check(at_least(0))
      ->type_name("N");
  command->add_flag("--no-gpu", o->no_gpu, "leave GPUs alone: --save describes the processor");
  command->add_option("--disk", o->disk, "the folder whose disk is measured (default: this one)")
      ->type_name("DIR");
}

}  // namespace sluice
