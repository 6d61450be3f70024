#include "planner/description.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace sluice {
namespace {

constexpr double none = 0;

double log2_of(std::int64_t size) { return std::log2(static_cast<double>(size)); }

// At least what is reserved stays with the others.
std::int64_t left(const Figure& all, const Figure& reserved) {
  return static_cast<std::int64_t>(std::max(none, all.value - reserved.value));
}

}  // namespace

std::string_view name_of(Origin origin) {
  static constexpr std::string_view names[] = {"assumed", "published", "measured"};
  return names[static_cast<std::size_t>(origin)];
}

std::int64_t Machine::device_budget() const { return left(device_memory, device_reserved); }

std::int64_t Machine::host_budget() const {
  const std::int64_t free = left(host_memory, host_reserved);
  const auto pinnable = static_cast<std::int64_t>(host_pinnable.value);
  return pinnable > 0 ? std::min(free, pinnable) : free;
}

double interpolated(std::span<const Known> known, const double (&sizes)[3]) {
  double weights = 0, sum = 0, here = 0, count = 0;
  for (const Known& one : known) {
    double square = 0;
    for (int i = 0; i < 3; ++i) {
      const double apart = one.sizes[i] - sizes[i];
      square += apart * apart;
    }
    if (square < 1e-12) {
      here += std::log(one.rate);
      ++count;
      continue;
    }
    weights += 1 / square;
    sum += std::log(one.rate) / square;
  }
  if (count > 0) return std::exp(here / count);
  return weights > 0 ? std::exp(sum / weights) : none;
}

double gemm_rate(const Machine& machine, std::string_view type, std::int64_t m, std::int64_t k,
                 std::int64_t n) {
  std::vector<Known> known;
  for (const GemmRate& one : machine.gemm)
    if (one.type == type)
      known.push_back({{log2_of(one.m), log2_of(one.k), log2_of(one.n)}, one.flops.value});
  return interpolated(known, {log2_of(m), log2_of(k), log2_of(n)});
}

double attention_rate(const Machine& machine, std::string_view direction, std::int64_t head,
                      std::int64_t sequence) {
  std::vector<Known> known;
  for (const AttentionRate& one : machine.attention)
    if (one.direction == direction)
      known.push_back({{log2_of(one.head), log2_of(one.sequence), 0}, one.flops.value});
  return interpolated(known, {log2_of(head), log2_of(sequence), 0});
}

double op_rate(const Machine& machine, std::string_view op, const std::int64_t (&sizes)[3]) {
  std::vector<Known> known;
  for (const OpRate& one : machine.ops)
    if (one.op == op)
      known.push_back({{log2_of(one.m), log2_of(one.k), log2_of(one.n)}, one.rate.value});
  return interpolated(known, {log2_of(sizes[0]), log2_of(sizes[1]), log2_of(sizes[2])});
}

double collective_rate(const Machine& machine, std::string_view name, std::int64_t devices,
                       std::int64_t bytes) {
  const CollectiveRate *below = nullptr, *above = nullptr;
  for (const CollectiveRate& one : machine.collectives) {
    if (one.name != name || one.devices != devices) continue;
    if (one.bytes <= bytes && (below == nullptr || one.bytes > below->bytes)) below = &one;
    if (one.bytes >= bytes && (above == nullptr || one.bytes < above->bytes)) above = &one;
  }
  if (below == nullptr || above == nullptr || below == above) {
    const CollectiveRate* nearest = below != nullptr ? below : above;
    return nearest == nullptr ? none : nearest->rate.value;
  }
  const double part =
      (log2_of(bytes) - log2_of(below->bytes)) / (log2_of(above->bytes) - log2_of(below->bytes));
  return below->rate.value + part * (above->rate.value - below->rate.value);
}

Machine description_of(const MachineRates& rates, std::int64_t memory) {
  const auto measured = [&](double value) {
    return Figure{value, Origin::measured, "sluice doctor, " + rates.date};
  };
  const auto assumed = [](double value, const char* from) {
    return Figure{value, Origin::assumed, from};
  };
  Machine out;
  out.name = "this-machine";
  out.about = fmt::format("{}, {}, {} threads", rates.id.cpu, rates.id.isa, rates.id.threads);
  out.model = rates.id.cpu;
  out.isa = rates.id.isa;
  out.device_memory = out.host_memory = measured(static_cast<double>(memory));
  out.cores = measured(rates.id.threads);
  out.memory_rate = measured(rates.copy_all);
  out.launch = rates.ops.empty() ? assumed(5e-6, "waking the threads")
                                 : measured(std::max(1e-8, rates.between_ops));
  // A copy of the CPU's lanes is one thread's.
  out.host_in = out.host_out = {rates.copy_one / 2, Origin::measured, "one thread's copy"};
  out.host_both = assumed(std::min(rates.copy_one, rates.copy_all / 2), "two threads' copies");
  out.disk_in = measured(rates.disk_read);
  out.disk_out = measured(rates.disk_write);
  out.disk_both = assumed(std::max(rates.disk_read, rates.disk_write), "the faster way alone");
  // Beside a copy the compute lane shares memory and, with few cores, a core.
  out.slowing_rate = assumed(rates.copy_one / 2, "one copy");
  out.slowing_part = assumed(0.5 / std::max(1, rates.id.threads), "half of one thread");
  if (rates.beside.copy > 0) {
    out.host_beside = out.slowing_rate = {rates.beside.copy / 2, Origin::measured,
                                          "one thread's copy beside products"};
    out.slowing_part = {1 - rates.beside.compute, Origin::measured, "products beside a copy"};
  }
  for (const ProductRate& one : rates.products)
    out.gemm.push_back({one.m, one.k, one.n, one.type, measured(one.flops())});
  for (const OpSpeed& one : rates.ops)
    out.ops.push_back({one.op, one.sizes[0], one.sizes[1], one.sizes[2], measured(one.rate)});
  const double products = std::max(product_flops(rates, "bf16"), product_flops(rates, "float32"));
  for (const AttentionSpeed& one : rates.attention) {
    out.attention.push_back({one.head, one.sequence, "forward", measured(one.forward)});
    out.attention.push_back({one.head, one.sequence, "backward", measured(one.backward)});
  }
  for (const char* direction : {"forward", "backward"})
    if (rates.attention.empty() && products > 0)
      out.attention.push_back(
          {64, 1024, direction, assumed(products / 4, "a quarter of products")});
  return out;
}

void require_same(const Machine& machine, const Present& present, const std::string& where) {
  const auto require_equal = [&](bool same, const char* key, const std::string& said,
                                 const std::string& found) {
    require(same, [&] {
      return Error(Exit::usage, {"the machine file is not of this machine",
                                 fmt::format("{} {}", where, key),
                                 found,
                                 said,
                                 {"sluice doctor --save FILE, to describe this one"}});
    });
  };
  const bool gpu = present.device != "cpu";
  require_equal(machine.device == present.device, "device", machine.device, present.device);
  require_equal(machine.model == present.model, "model", machine.model, present.model);
  require_equal(gpu || machine.isa == present.isa, "isa", machine.isa, present.isa);
  const auto cores = static_cast<std::int64_t>(machine.cores.value);
  require_equal(gpu || cores == present.threads, "cores", fmt::format("{}", cores),
                fmt::format("{} threads", present.threads));
  const auto memory = static_cast<std::int64_t>(machine.device_memory.value);
  require_equal(memory <= present.memory, "device_memory", fmt::format("{} bytes", memory),
                fmt::format("at most {} bytes", present.memory));
}

}  // namespace sluice
