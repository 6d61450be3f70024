// sluice plan: what a run would take, without taking it. Exit code 0 at any size.
#include <algorithm>
#include <limits>

#include "backend/cpu/host.h"
#include "command.h"
#include "core/file.h"
#include "planner/budget.h"
#include "planner/flops.h"
#include "planner/simulate.h"
#include "program/print.h"
#include "train/assembly.h"
#include "train/attention.h"
#include "train/device.h"
#include "train/disk_use.h"
#include "train/fit.h"
#include "train/from.h"
#include "train/machine_fit.h"
#include "train/metrics.h"
#include "train/plan_file.h"
#include "train/this_machine.h"

namespace sluice {
namespace {

struct Options {
  std::string config, from, show, machine, plan, save;
};

struct Planned {
  Config config;
  Plan plan;
  PlanMachine on;
  ProgramSet programs;
  MemoryBytes memory;
  TierBytes least;
  DiskUse disk;
  Counted counted = 1;
  std::int64_t available = 0;          // bytes, of what the plan's memory is counted in
  std::int64_t taken = 0;              // of a GPU, by other programs
  std::string device;                  // that is at hand; empty: a machine was named
  std::optional<Machine> machine;      // that the step is predicted on
  std::optional<Simulated> predicted;  // none: nothing is known of the machine
  // Of a machine that was named, what is reserved has room for the process.
  std::int64_t of_host() const { return memory.host + (device.empty() ? 0 : memory.process); }
  bool host_fits() const { return !counted.gpu() || of_host() <= counted.host; }
  bool fits() const { return memory.total <= available && host_fits(); }
};

// The device at hand, as `sluice doctor` measured it.
void find_device(const Context& context, Planned& out) {
  if (const std::string why = settle_device(out.config); !why.empty()) note(why);
  const Device device(out.config, context.machine_file);
  const ThisMachine here(context.machine_file, device.cpu().isa, device.cpu().threads);
  out.machine = device.is_gpu() ? device.described() : here.described();
  out.on = plan_machine(device, here);
  out.counted = device.counted();
  out.available = device.available();
  if (!device.is_gpu()) return;
  out.taken = device.taken();
  out.device = device.text();
}

// The machine that was named.
void find_machine(const std::string& name, Planned& out) {
  out.machine = load_machine(name);
  const Machine& machine = *out.machine;
  const bool cpu = machine.device == "cpu";
  const double cores = std::clamp(machine.cores.value, 1.0, 4096.0);
  out.counted = cpu ? Counted(static_cast<int>(cores))
                    : Counted::on_gpu(static_cast<std::int64_t>(machine.device_reserved.value),
                                      machine.host_budget());
  out.available =
      cpu ? machine.device_budget() : static_cast<std::int64_t>(machine.device_memory.value);
  out.on = plan_machine(machine, out.counted.threads);
}

// A plan for a machine that was named is refused with changes that were planned for it.
Plan place(const Config& asked, const Planned& planned, const Plan& plan, bool named) {
  constexpr std::int64_t no_limit = std::numeric_limits<std::int64_t>::max();
  if (!named || planned.machine->device == "cpu")
    return placed_or_told(planned.config, plan, planned.counted, no_limit);
  try {
    return fastest(planned.config, plan, *planned.machine, planned.counted.threads);
  } catch (const BudgetError& e) {
    const bool budget =
        asked.plan.device_memory > 0 || asked.plan.host_memory > 0 || asked.plan.disk_memory > 0;
    Report report = e.report();
    if (!budget) report.where = planned.machine->name;
    if (auto changes = changes_that_fit(asked, *planned.machine); !changes.empty())
      report.tries = std::move(changes);
    throw Error(e.code(), std::move(report));
  }
}

Planned plan_for(const Options& options, const Context& context) {
  Planned out;
  out.config = load_config(options.config);
  std::optional<PlanFile> file;
  if (!options.plan.empty()) {
    file = load_plan_file(options.plan);
    out.config = with_plan(std::move(out.config), *file);
  }
  apply_overrides(out.config, context.overrides);
  if (!options.from.empty())
    out.config =
        with_model_of(std::move(out.config), find_checkpoint(options.from, CheckDepth::sizes));
  if (file) require_made_for(*file, out.config);
  check(out.config);
  const bool named = !options.machine.empty();
  if (named)
    find_machine(options.machine, out);
  else
    find_device(context, out);
  const int threads = out.counted.threads;
  if (file) require_made_for(*file, out.on);
  const Config asked = out.config;
  if (named) out.config = on_machine(asked, *out.machine);
  const Plan plan = named ? plan_of(out.config, *out.machine) : plan_of(out.config);
  out.least = least_bytes(out.config, plan, threads);
  out.plan = place(asked, out, plan, named);
  out.programs = assemble_training(out.config, out.plan, threads);
  out.memory = memory_of(out.programs, out.counted);
  out.disk = disk_use(out.config, out.programs);
  if (out.machine) out.predicted = simulate(out.programs, *out.machine);
  return out;
}

void show(const Planned& planned, const std::string& what) {
  if (what == "graph") write_out(print_graph(*planned.programs.model));
  if (what == "program")
    write_out(print_program(planned.programs, planned.programs.named("steady")));
  if (what == "memory") write_out(print_memory(planned.programs));
}

std::vector<std::string> changes(const Planned& planned) {
  std::vector<std::string> out;
  // What was planned for a named GPU fits, or was refused.
  if (planned.fits() || (planned.device.empty() && planned.counted.gpu())) return out;
  for (const PlanChange& change :
       changes_that_fit(planned.config, planned.counted, planned.available))
    out.push_back(change.text());
  return out;
}

// FLOPs of training by each published rule: of a token, and of the whole run if its length is
// known; and those that utilization is stated with.
nlohmann::json flops_json(const Config& config) {
  nlohmann::json out;
  out["utilization"]["per_token"] = utilization_flops(config.model, config.batch.sequence);
  for (const FlopsRule& rule : flops_rules()) {
    const double token = rule.of(config.model, config.batch.sequence);
    out[rule.name]["per_token"] = token;
    if (config.run.tokens > 0)
      out[rule.name]["run"] = token * static_cast<double>(length_of(config).tokens());
  }
  return out;
}

std::string flops_text(const Config& config) {
  std::string out = "training FLOPs by three published rules:\n";
  for (const FlopsRule& rule : flops_rules()) {
    const double token = rule.of(config.model, config.batch.sequence);
    out += fmt::format("  {:<10} {:.4g} a token", rule.name, token);
    if (config.run.tokens > 0)
      out +=
          fmt::format(", {:.4g} the run", token * static_cast<double>(length_of(config).tokens()));
    out += "\n";
  }
  return out;
}

const char* stash_of(const Plan& plan) { return plan.spill_stash ? "spilled" : "kept"; }

std::string stash_text(const Plan& plan) {
  return plan.stash_slots == 0
             ? stash_of(plan)
             : fmt::format("{} through {} slots", stash_of(plan), plan.stash_slots);
}

// Bytes that a steady step copies to the device and from it, by what they are.
struct Traffic {
  std::array<std::int64_t, copied_kinds> in{}, out{};

  explicit Traffic(const Program& program) {
    for (const Action& action : program.actions) {
      if (action.phase == Phase::fetch) in[static_cast<std::size_t>(action.kind)] += action.bytes;
      if (action.phase == Phase::leave) out[static_cast<std::size_t>(action.kind)] += action.bytes;
    }
  }
};

std::string traffic_text(const Program& program) {
  const Traffic traffic(program);
  std::string text;
  for (int k = 0; k < copied_kinds; ++k) {
    const auto at = static_cast<std::size_t>(k);
    if (traffic.in[at] + traffic.out[at] > 0)
      text +=
          fmt::format("{}{} {} in, {} out", text.empty() ? "" : "; ", name_of(static_cast<Kind>(k)),
                      human_bytes(traffic.in[at]), human_bytes(traffic.out[at]));
  }
  return text.empty() ? "" : fmt::format("copies of a step: {}\n", text);
}

nlohmann::json traffic_json(const Program& program) {
  const Traffic traffic(program);
  nlohmann::json out;
  for (int k = 0; k < copied_kinds; ++k) {
    const auto at = static_cast<std::size_t>(k);
    const std::string name(name_of(static_cast<Kind>(k)));
    out[name] = {{"in", traffic.in[at]}, {"out", traffic.out[at]}};
  }
  return out;
}

nlohmann::json disk_json(const DiskUse& disk) {
  return {{"scratch", disk.scratch},
          {"checkpoint", disk.checkpoint},
          {"checkpoints", disk.checkpoints},
          {"total", disk.total()},
          {"written_per_step", disk.written_per_step},
          {"written", disk.written}};
}

std::string disk_text(const DiskUse& disk) {
  std::string out = "disk: ";
  if (disk.scratch > 0)
    out += fmt::format("{} of scratch ({} bytes), {} written to it a step; ",
                       human_bytes(disk.scratch), disk.scratch, human_bytes(disk.written_per_step));
  out += fmt::format("{} checkpoint{} of {}", disk.checkpoints, disk.checkpoints == 1 ? "" : "s",
                     human_bytes(disk.checkpoint));
  if (disk.written > 0) out += fmt::format("; {} written by the run", human_bytes(disk.written));
  return out + "\n";
}

std::string placement_text(const Planned& planned) {
  const Plan& plan = planned.plan;
  const MemoryMap& memory = planned.programs.memory;
  std::string out = fmt::format(
      "homes: {}; {}, recompute {}, stash {}\n", plan.homes,
      plan.passes == 0
          ? std::string("micro-batch-major")
          : fmt::format("layer-major in {} pass{}", plan.passes, plan.passes == 1 ? "" : "es"),
      name_of(plan.recompute), stash_text(plan));
  if (plan.blobs == Blobs::parts) out += "blobs: attention and MLP of a block apart\n";
  out += fmt::format("at rest: {:.3f} bytes a parameter\n",
                     static_cast<double>(at_rest_bytes(planned.programs)) /
                         static_cast<double>(planned.programs.model->parameters()));
  const TierBytes& least = planned.least;
  out +=
      fmt::format("device: {} ({} bytes); least {} ({} bytes) with {} on the host{}\n",
                  human_bytes(memory.total()), memory.total(), human_bytes(least.device),
                  least.device, human_bytes(least.host),
                  least.disk == 0 ? "" : fmt::format(" and {} on disk", human_bytes(least.disk)));
  out += traffic_text(planned.programs.named("steady"));
  return out + disk_text(planned.disk);
}

std::string fits_text(const Planned& planned) {
  const MemoryBytes& memory = planned.memory;
  std::string out = fmt::format("{} of {} available{}: {}\n", human_bytes(memory.total),
                                human_bytes(planned.available),
                                planned.counted.gpu() ? " of the GPU's memory" : "",
                                memory.total <= planned.available ? "fits" : "does not fit");
  if (planned.counted.gpu())
    out += fmt::format("{} of {} available of the host's: {}\n", human_bytes(planned.of_host()),
                       human_bytes(planned.counted.host),
                       planned.host_fits() ? "fits" : "does not fit");
  if (planned.taken > std::int64_t{1} << 30)
    out += fmt::format("other programs have {} of the GPU's memory: nvidia-smi lists them\n",
                       human_bytes(planned.taken));
  return out;
}

void print(const Planned& planned) {
  const Config& config = planned.config;
  write_out(
      fmt::format("{}: {} parameters\n", config.run.name, planned.programs.model->parameters()));
  write_out(fmt::format("step: {} tokens in {} micro-batches of {} x {}, head chunk {}\n",
                        config.batch.tokens, planned.plan.micro_batches, planned.plan.micro_batch,
                        config.batch.sequence, planned.plan.head_chunk));
  if (config.run.tokens > 0) write_out(fmt::format("run: {}\n", steps_text(length_of(config))));
  write_out(flops_text(config));
  if (!planned.device.empty()) write_out(fmt::format("device: {}\n", planned.device));
  if (planned.machine) {
    write_out(fmt::format("machine: {} ({})\n", planned.machine->name, planned.machine->about));
    if (const std::string guessed = unmeasured(*planned.machine); !guessed.empty())
      write_out(fmt::format("  not measured: {}\n", guessed));
  }
  if (planned.on.device != "cpu")
    write_out(fmt::format("attention: {}\n", attention_text(config, planned.plan)));
  write_out(placement_text(planned));
  write_out(to_text(planned.memory));
  write_out(fits_text(planned));
  if (planned.predicted) write_out(to_text(*planned.predicted, config.batch.tokens));
  for (const std::string& change : changes(planned)) write_out(fmt::format("  try: {}\n", change));
}

int run(const Options& options, Context& context) {
  const Planned planned = plan_for(options, context);
  if (!options.save.empty())
    write_file_atomic(options.save, to_toml(plan_file(planned.config, planned.plan, planned.on)));
  if (context.json) {
    write_json(
        {{"parameters", planned.programs.model->parameters()},
         {"fits", planned.fits()},
         {"available", planned.available},
         {"flops", flops_json(planned.config)},
         {"memory", to_json(planned.memory)},
         {"device", planned.programs.memory.total()},
         {"least",
          {{"device", planned.least.device},
           {"host", planned.least.host},
           {"disk", planned.least.disk}}},
         {"copies", traffic_json(planned.programs.named("steady"))},
         {"disk", disk_json(planned.disk)},
         {"at_rest", at_rest_bytes(planned.programs)},
         {"passes", planned.plan.passes},
         {"homes", planned.plan.homes},
         {"blobs", name_of(planned.plan.blobs)},
         {"slots", planned.plan.slots},
         {"stash_slots", stash_slots_of(planned.plan)},
         {"recompute", name_of(planned.plan.recompute)},
         {"stash", stash_of(planned.plan)},
         {"micro_batch", planned.plan.micro_batch},
         {"micro_batches", planned.plan.micro_batches},
         {"later_micro_batches", planned.plan.later_micro_batches},
         {"head_chunk", planned.plan.head_chunk},
         {"precision", planned.plan.numerics.precision == DType::bf16 ? "bf16" : "float32"},
         {"attention", name_of(planned.plan.numerics.attention)},
         {"threads", planned.counted.threads},
         {"machine", planned.machine ? nlohmann::json(planned.machine->name) : nlohmann::json()},
         {"predicted", planned.predicted ? to_json(*planned.predicted, planned.config.batch.tokens)
                                         : nlohmann::json()},
         {"try", changes(planned)}});
  } else if (options.show.empty()) {
    print(planned);
  } else {
    show(planned, options.show);
  }
  return 0;
}

}  // namespace

void add_plan(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "plan", "Say what a run would take, without taking it", run, o);
  command->add_option("config", o->config, "a TOML file or a built-in name")
      ->required()
      ->type_name("CONFIG");
  command->add_option("--from", o->from, "of the model of a checkpoint, as `sluice train --from`")
      ->type_name("DIR");
  command
      ->add_option("--machine", o->machine,
                   "plan for this machine: a file, or h200, h200x4-one, rtx4090-64g")
      ->type_name("MACHINE");
  command
      ->add_option("--save", o->save, "write the plan to this file, for --plan: it may be edited")
      ->type_name("FILE");
  add_plan_option(*command, o->plan);
  command->add_option("--show", o->show, "graph, program or memory")
      ->check(one_of({"graph", "program", "memory"}))
      ->type_name("WHAT");
}

}  // namespace sluice
