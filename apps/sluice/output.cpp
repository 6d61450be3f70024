#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "backend/cpu/host.h"
#include "checkpoint/model_files.h"
#include "command.h"
#include "planner/memory_report.h"
#include "train/device.h"
#include "train/plan_file.h"

namespace sluice {

void write_out(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EPIPE) throw OutputClosed();
    if (written < 0) throw disk_error("write", "standard output", errno);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void write_json(const nlohmann::json& object) {
  write_out(object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void note(std::string_view line) { fmt::print(stderr, "sluice: {}\n", line); }

nlohmann::json to_json(const Report& report) {
  return {{"what", report.what},
          {"where", report.where},
          {"expected", report.expected},
          {"found", report.found},
          {"try", report.tries}};
}

Error usage_error(std::string what, std::string expected, std::string found) {
  return Error(Exit::usage,
               {std::move(what), "command line", std::move(expected), std::move(found), {}});
}

CLI::Validator at_least(std::int64_t least) {
  const auto check = [least](const std::string& text) {
    double value = 0;
    const bool number = CLI::detail::lexical_cast(text, value);
    return number && value >= static_cast<double>(least)
               ? std::string()
               : fmt::format("{} is not a number of at least {}", text, least);
  };
  return CLI::Validator(check, "");
}

CLI::Validator between(std::int64_t least, std::int64_t most) {
  const auto check = [=](const std::string& text) {
    std::int64_t value = 0;
    const bool number = CLI::detail::lexical_cast(text, value);
    return number && value >= least && value <= most
               ? std::string()
               : fmt::format("{} is not a whole number from {} to {}", text, least, most);
  };
  return CLI::Validator(check, "");
}

CLI::Validator one_of(std::vector<std::string> words) {
  const std::string names = fmt::format("{}", fmt::join(words, " "));
  const auto check = [words = std::move(words)](const std::string& text) {
    const bool known = std::find(words.begin(), words.end(), text) != words.end();
    return known ? std::string() : fmt::format("{} is not one of {}", text, fmt::join(words, ", "));
  };
  CLI::Validator validator(check, "");
  validator.name(names);  // shells complete them: verbs.h
  return validator;
}

void add_plan_option(CLI::App& command, std::string& file) {
  command.add_option("--plan", file, "a plan file: what `sluice plan CONFIG --save FILE` wrote")
      ->type_name("FILE");
}

void add_read_options(CLI::App& command, ReadOptions& o) {
  command
      .add_option("--precision", o.precision,
                  "of products: float32 or bf16 (auto: that of the checkpoint)")
      ->check(one_of({"auto", "float32", "bf16"}))
      ->type_name("TYPE");
  command.add_flag("--average", o.average, "the averaged weights that optim.ema kept");
  command.add_option("--threads", o.threads, "CPU threads (default: those there are)")
      ->check(at_least(1))
      ->type_name("N");
  add_plan_option(command, o.plan);
  command.footer(
      "\n  --plan.device=DEVICE        cpu, or cuda:N: an NVIDIA GPU\n"
      "\nA model larger than the device's memory streams its weights from the host or a disk:\n"
      "  --plan.device_memory=BYTES  of the device that may be taken\n"
      "  --plan.host_memory=BYTES    of the host\n"
      "  --plan.disk_memory=BYTES    of the disk\n"
      "  --plan.disk_path=FOLDER     on the disk; default: the model's\n"
      "  --plan.homes=WHERE          device, host, disk, or weights@FIRST-LAST=host,…; embedding,\n"
      "                              head and ends (both) in place of FIRST-LAST too\n"
      "  --plan.blobs=layer|parts    a block in one piece, or attention and MLP apart\n"
      "  --plan.slots=N              places on the device that weights pass through\n");
}

namespace {

constexpr std::string_view plan_keys[] = {
    "plan.device",    "plan.device_memory", "plan.host_memory", "plan.disk_memory",
    "plan.disk_path", "plan.homes",         "plan.blobs",       "plan.slots"};

bool is_of_use(const std::string& key) {
  return std::find(std::begin(plan_keys), std::end(plan_keys), key) != std::end(plan_keys);
}

// The machine at hand with the device that a plan file means.
PlanMachine machine_for(const PlanFile& file) {
  const HostFacts host = host_facts("");
  const std::int64_t memory = total_memory(host);
  PlanMachine out{"cpu", host.cpu, "", 0, memory, memory};
  if (file.machine.device == "cpu") return out;
  Config config;
  config.plan.device = file.plan.device;
  const Device device(config);
  if (device.is_gpu())
    out.device = "cuda", out.model = device.model(), out.memory = device.memory();
  return out;
}

// What of a plan of training is of use here, refused when it is of another model or machine.
PlanConfig plan_of_weights(const PlanFile& file, const ModelFolder& folder) {
  require_made_for(file, read_model_config(folder.path));
  require_made_for(file, machine_for(file));
  PlanConfig out;
  out.device = file.plan.device;
  out.device_memory = file.plan.device_memory;
  out.host_memory = file.plan.host_memory;
  out.disk_memory = file.plan.disk_memory;
  out.disk_path = file.plan.disk_path;
  out.homes = file.plan.homes;
  out.blobs = file.plan.blobs;
  out.slots = file.plan.slots;
  return out;
}

}  // namespace

std::span<const std::string_view> plan_keys_in_use() { return plan_keys; }

SessionOptions session_options(const ReadOptions& o, Context& context, const ModelFolder& folder) {
  SessionOptions out;
  out.faults = &context.faults;
  out.threads = o.threads;
  if (o.precision != "auto") out.precision = o.precision == "bf16" ? DType::bf16 : DType::f32;
  if (o.average) out.weights = "average.safetensors";
  Config config;
  Places& places = context.places;
  if (!o.plan.empty()) {
    const PlanFile file = load_plan_file(o.plan);
    config.plan = plan_of_weights(file, folder);
    places = file.places;
  }
  apply_overrides(config, context.overrides);
  for (const auto& [key, place] : config.places)
    require(is_of_use(key), [&] {
      return usage_error(fmt::format("{} is of training", key),
                         fmt::format("an option of {}", fmt::join(plan_keys, ", ")), key);
    });
  for (const auto& [key, place] : config.places) places[key] = place;
  if (const std::string why = settle_device(config); !why.empty()) note(why);
  out.plan = config.plan;
  return out;
}

Session open_session(const ModelFolder& folder, const SessionOptions& options, Context& context) {
  try {
    Session session(folder, options);
    const MemoryMap& memory = session.executor().programs().memory;
    if (memory.host_bytes() > 0)
      note(fmt::format("homes {}, {}{} slots: {} of the device, {} of the host{}",
                       session.placement().homes,
                       session.placement().blobs == Blobs::parts ? "blobs parts, " : "",
                       session.executor().programs().residency->slots(Kind::weights),
                       human_bytes(memory.total()), human_bytes(memory.host_bytes()),
                       memory.disk_bytes() == 0
                           ? ""
                           : fmt::format(", {} of the disk", human_bytes(memory.disk_bytes()))));
    if (session.scratch() != nullptr && !session.scratch()->direct())
      note(session.scratch()->without_direct());
    return session;
  } catch (Error& e) {
    std::string& where = e.report().where;
    if (is_of_use(where)) where = fmt::format("{} {}", context.places[where], where);
    throw;
  }
}

ModelFolder find_checkpoint(const std::string& path, CheckDepth depth) {
  ModelFolder folder = resolve_checkpoint(path, depth);
  for (const Report& skipped : folder.skipped)
    note(fmt::format("skipped a damaged step: {} ({})", skipped.what, skipped.where));
  return folder;
}

}  // namespace sluice
