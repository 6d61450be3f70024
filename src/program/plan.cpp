#include "program/plan.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <numeric>

namespace sluice {
namespace {

constexpr std::int64_t default_head_chunk = 4096;

std::int64_t largest_divisor(std::int64_t whole, std::int64_t most) {
  std::int64_t divisor = std::min(whole, most);
  while (whole % divisor != 0) --divisor;
  return divisor;
}

// The smaller one of two that are equally near.
std::int64_t nearest_divisor(std::int64_t whole, std::int64_t wanted) {
  std::int64_t best = 1;
  const auto consider = [&](std::int64_t divisor) {
    const std::int64_t distance = std::abs(divisor - wanted), least = std::abs(best - wanted);
    if (distance < least || (distance == least && divisor < best)) best = divisor;
  };
  for (std::int64_t i = 1; i <= whole / i; ++i)
    if (whole % i == 0) consider(i), consider(whole / i);
  return best;
}

void require_not_negative(std::int64_t value, const char* key) {
  require(value >= 0, [&] {
    return Error(Exit::usage, {fmt::format("{} cannot be negative", key),
                               key,
                               "an integer from 1 up or \"auto\"",
                               fmt::format("{}", value),
                               {fmt::format("{} = \"auto\"", key)}});
  });
}

void describe_numerics(OptionTable& table, PlanConfig& c) {
  table
      .add("plan.precision", &c.precision, Effect::numerics,
           "of activations and matrices; sums are float32 (auto: bf16 where the machine has it)")
      .choices = {"auto", "float32", "bf16"};
  table
      .add("plan.state", &c.state, Effect::numerics,
           "what is kept of a bf16 matrix: exact (12 bytes a weight) or compact (4) (auto: exact)")
      .choices = {"auto", "exact", "compact"};
  table
      .add("plan.gradients", &c.gradients, Effect::numerics,
           "what a step's gradients are rounded to before the update uses them (auto: float32)")
      .choices = {"auto", "float32", "bf16", "int8"};
  table
      .add(
          "plan.attention", &c.attention, Effect::numerics,
          "kernels of a GPU's attention: this program's own; or cuDNN's, where they take shape and "
          "type; unordered: faster, and with other bits each time (auto: cudnn)")
      .choices = {"auto", "own", "cudnn", "cudnn-unordered"};
}

}  // namespace

void describe(OptionTable& table, PlanConfig& c) {
  table.add("plan.device", &c.device, Effect::free,
            "what computes: cpu, or cuda:N, an NVIDIA GPU (auto: the GPU if one can be used)");
  table
      .add("plan.micro_batch", &c.micro_batch, Effect::numerics,
           "sequences computed at once (auto: up to 2048 tokens)")
      .allows_auto = true;
  table
      .add("plan.head_chunk", &c.head_chunk, Effect::numerics,
           "tokens whose logits exist at once (auto: 4096)")
      .allows_auto = true;
  table
      .add("plan.schedule", &c.schedule, Effect::free,
           "through all layers for each micro-batch, or through each layer for all of them")
      .choices = {"auto", "micro-batch-major", "layer-major"};
  table
      .add("plan.passes", &c.passes, Effect::free,
           "times that a layer-major step goes up and down the layers (auto: 1)")
      .allows_auto = true;
  table.add("plan.homes", &c.homes, Effect::free,
            "where blobs live: the blocks' on device, host or disk, or KIND=TIER,KIND@WHERE=TIER,… "
            "with WHERE = FIRST-LAST, embedding, head or ends (auto: device)");
  table
      .add("plan.blobs", &c.blobs, Effect::free,
           "what a block streams in: as one layer, or in two parts, attention and MLP (auto: "
           "layer, unless plan.device_memory is too little for it)")
      .choices = {"auto", "layer", "parts"};
  table
      .add("plan.slots", &c.slots, Effect::free,
           "places on the device that blobs of one kind pass through (auto: 3, of parts 4)")
      .allows_auto = true;
  table
      .add("plan.device_memory", &c.device_memory, Effect::free,
           "bytes of the device that a run may take; what does not fit streams (auto: all)")
      .allows_auto = true;
  table
      .add("plan.host_memory", &c.host_memory, Effect::free,
           "bytes of host memory for blobs that stream; the others are on disk (auto: what is "
           "there)")
      .allows_auto = true;
  table
      .add("plan.disk_memory", &c.disk_memory, Effect::free,
           "bytes of disk for blobs that stream (auto: what is there)")
      .allows_auto = true;
  table.add("plan.disk_path", &c.disk_path, Effect::free,
            "folder on the disk for blobs that stream (default: the run's)");
  table.add("plan.stash", &c.stash, Effect::free,
            "where what backward needs of forward waits: kept on the device or spilled to host "
            "memory, spilled@N through N places of its own (auto: kept, unless plan.device_memory "
            "is too little for it)");
  table.add("plan.recompute", &c.recompute, Effect::free, "what backward makes again").choices = {
      "auto", "none", "selective", "block"};
  describe_numerics(table, c);
}

namespace {

Numerics numerics_of(const PlanConfig& config, bool fast_bf16) {
  Numerics out;
  const bool half = config.precision == "bf16" || (config.precision == "auto" && fast_bf16);
  out.precision = half ? DType::bf16 : DType::f32;
  out.state = config.state == "compact" ? StateFormat::compact : StateFormat::exact;
  for (const GradientFormat format : {GradientFormat::bf16, GradientFormat::int8})
    if (config.gradients == name_of(format)) out.gradients = format;
  for (const AttentionKernels kernels : {AttentionKernels::library, AttentionKernels::unordered})
    if (config.attention == name_of(kernels)) out.attention = kernels;
  require(half || out.state == StateFormat::exact, [&] {
    return Error(Exit::usage, {"compact state is of bf16 weights, and this run computes in float32",
                               "plan.state",
                               "exact",
                               "compact",
                               {"plan.state = \"exact\"", "plan.precision = \"bf16\""}});
  });
  return out;
}

int slots_of(const PlanConfig& config) {
  require_not_negative(config.slots, "plan.slots");
  require(config.slots != 1, [&] {
    return Error(Exit::usage, {"one slot cannot be filled while it is used",
                               "plan.slots",
                               "2 or more",
                               "1",
                               {"plan.slots = 2", "plan.slots = \"auto\""}});
  });
  const int open = config.blobs == "parts" ? 4 : 3;
  return config.slots == 0 ? open : static_cast<int>(std::min<std::int64_t>(config.slots, 1 << 20));
}

// N of "spilled@N"; 0: not said.
int stash_slots_of(const PlanConfig& config) {
  const std::string& text = config.stash;
  if (text == "auto" || text == "kept" || text == "spilled") return 0;
  constexpr std::string_view begin = "spilled@";
  int slots = 0;
  const char* const end = text.data() + text.size();
  const bool said =
      text.starts_with(begin) && std::from_chars(text.data() + begin.size(), end, slots).ptr == end;
  require(said && slots >= 2 && slots <= 1 << 20, [&] {
    return Error(Exit::usage, {fmt::format("plan.stash cannot be {}", text),
                               "plan.stash",
                               "auto, kept, spilled, or spilled@N with N of 2 or more",
                               text,
                               {}});
  });
  return slots;
}

std::int64_t passes_of(const PlanConfig& config) {
  require_not_negative(config.passes, "plan.passes");
  const bool streams = config.homes != "auto" && config.homes != "device";
  if (config.schedule == "layer-major" || (config.schedule == "auto" && streams))
    return std::max<std::int64_t>(1, config.passes);
  require(config.passes == 0, [&] {
    return Error(Exit::usage, {"micro-batch-major makes one pass for every micro-batch",
                               "plan.passes",
                               "\"auto\", or another schedule",
                               fmt::format("{}", config.passes),
                               {"plan.schedule = \"layer-major\"", "plan.passes = \"auto\""}});
  });
  return 0;
}

}  // namespace

Plan resolve(const PlanConfig& config, const std::vector<std::int64_t>& sequences_per_step,
             std::int64_t sequence, bool fast_bf16, std::int64_t tokens_at_once) {
  require_not_negative(config.micro_batch, "plan.micro_batch");
  require_not_negative(config.head_chunk, "plan.head_chunk");
  std::int64_t common = 0;  // every micro-batch divides it
  for (const std::int64_t sequences : sequences_per_step) common = std::gcd(common, sequences);
  Plan plan;
  plan.micro_batch =
      config.micro_batch != 0
          ? config.micro_batch
          : largest_divisor(common, std::max<std::int64_t>(1, tokens_at_once / sequence));
  for (const std::int64_t sequences : sequences_per_step)
    require(sequences % plan.micro_batch == 0, [&] {
      return Error(
          Exit::usage,
          {fmt::format("a step of {} sequences does not divide into micro-batches of {}", sequences,
                       plan.micro_batch),
           "plan.micro_batch",
           fmt::format("a divisor of {}", common),
           fmt::format("{}", plan.micro_batch),
           {fmt::format("plan.micro_batch = {}", nearest_divisor(common, plan.micro_batch))}});
    });
  plan.micro_batches = sequences_per_step.front() / plan.micro_batch;
  for (std::size_t i = 1; i < sequences_per_step.size(); ++i)
    plan.later_micro_batches.push_back(sequences_per_step[i] / plan.micro_batch);
  plan.head_chunk = config.head_chunk == 0 ? default_head_chunk : config.head_chunk;
  plan.numerics = numerics_of(config, fast_bf16);
  plan.passes = passes_of(config);
  plan.homes = config.homes == "auto" ? "device" : config.homes;
  plan.blobs = config.blobs == "parts" ? Blobs::parts : Blobs::layer;
  plan.slots = slots_of(config);
  plan.stash_slots = stash_slots_of(config);
  plan.spill_stash = plan.stash_slots > 0 || config.stash == "spilled";
  require_not_negative(config.device_memory, "plan.device_memory");
  require_not_negative(config.host_memory, "plan.host_memory");
  require_not_negative(config.disk_memory, "plan.disk_memory");
  plan.recompute = config.recompute == "auto" ? Recompute::none : parse_recompute(config.recompute);
  return plan;
}

}  // namespace sluice
