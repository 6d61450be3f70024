// What a machine can do, as a person can write it down: memory, rates of products and attention,
// links, what one costs the other. The planner costs programs with it; `sluice doctor --save` makes
// one, configs/machines/ has some.
//
// Every figure says where it comes from: measured, published or assumed. Rates between the measured
// ones follow one rule, interpolated() below. The file is TOML and is read as something that anyone
// may have written: all of it is checked. A value; pure functions but for reading the file.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "planner/machine.h"

namespace sluice {

enum class Origin : std::uint8_t { assumed, published, measured };
std::string_view name_of(Origin origin);

struct Figure {
  double value = 0;  // 0: not known
  Origin is = Origin::assumed;
  std::string from;  // who says so, or how it was measured
};

// C[m,n] = A[m,k] B[k,n]: FLOPs per second, a multiply-add being two.
struct GemmRate {
  std::int64_t m = 0, k = 0, n = 0;
  std::string type;  // "float32", "bf16"
  Figure flops;
};

// Causal attention over `sequence` tokens in heads of `head` numbers: FLOPs per second, the causal
// half counted; backward counts five products where forward has two.
struct AttentionRate {
  std::int64_t head = 0, sequence = 0;
  std::string direction;  // "forward" or "backward"
  Figure flops;
};

// An op as it goes among its neighbours in a step, where it was measured so: of its class
// (planner/costs.h), at these sizes, its work per second.
struct OpRate {
  std::string op;  // "gelu_grad bf16"
  std::int64_t m = 1, k = 1, n = 1;
  Figure rate;
};

// Among `devices` on messages of `bytes`: bytes per second of the bus.
struct CollectiveRate {
  std::string name;  // "all-reduce"
  std::int64_t devices = 0, bytes = 0;
  Figure rate;
};

struct Machine {
  std::string name, about;
  std::string device = "cpu";  // what computes: "cpu", or "cuda" for a GPU
  std::string model;           // of the device: "NVIDIA H200", or the CPU's name
  std::string isa;             // of a CPU's kernels
  bool real = true;            // false: a machine that exists for tests
  bool packs = true;           // its products read packed weights (graph/derive.h)

  // Bytes. The device's own memory is the host's on a CPU. Reserved: what others need of it.
  Figure device_memory, device_reserved, host_memory, host_pinnable, host_reserved, disk_memory;
  Figure cores;
  Figure memory_rate;  // of the device: bytes per second, read and written counted
  Figure launch;       // seconds that each op costs before it begins
  // Bytes per second. Into the device and out of it alone, and the sum of both ways at once; the
  // same between disk and host.
  Figure host_in, host_out, host_both, disk_in, disk_out, disk_both;
  // What several devices get of the host's link together, and how many they are.
  Figure shared_in, shared_devices;
  // Of host_in and host_out, the bytes per second that are left while the compute lane works: where
  // copies take turns with it on the cores. 0: all of them.
  Figure host_beside;
  // Copies of `slowing_rate` bytes a second over the host's link take this part of the compute
  // lane's speed; in proportion at other rates.
  Figure slowing_part, slowing_rate;
  std::vector<GemmRate> gemm;
  std::vector<AttentionRate> attention;
  std::vector<OpRate> ops;
  std::vector<CollectiveRate> collectives;

  // What a run may take of the device and of the host.
  std::int64_t device_budget() const;
  std::int64_t host_budget() const;
};

// The rate at a place between known ones. One that is known there is taken as it is, of several the
// geometric mean. Otherwise the mean of the rates' logarithms over all known ones, weighted by
// 1 / d^2, d being the distance between the logarithms of the sizes (Shepard). So it never leaves
// the range of what is known.
struct Known {
  double sizes[3];
  double rate;
};
double interpolated(std::span<const Known> known, const double (&sizes)[3]);

// FLOPs per second, by that rule over (m, k, n), or over (head, sequence). 0: nothing of that type
// or direction is known.
double gemm_rate(const Machine& machine, std::string_view type, std::int64_t m, std::int64_t k,
                 std::int64_t n);
double attention_rate(const Machine& machine, std::string_view direction, std::int64_t head,
                      std::int64_t sequence);

// Work per second of an op's class by that rule over its three sizes; 0: nothing of it is known.
double op_rate(const Machine& machine, std::string_view op, const std::int64_t (&sizes)[3]);

// Bytes per second of a collective: the rate at the next smaller and next larger size, in
// proportion to the logarithm of the size; the nearest beyond them. 0: not known.
double collective_rate(const Machine& machine, std::string_view name, std::int64_t devices,
                       std::int64_t bytes);

// What doctor measured, as a description of that machine: launch, links and what it could not
// measure are assumed from what it did.
Machine description_of(const MachineRates& rates, std::int64_t memory);

// What no one measured: "launch, host_both, 1 of 11 products"; empty: nothing.
std::string unmeasured(const Machine& machine);

// As a person reads it; parse_description() of it gives the same machine.
std::string to_toml(const Machine& machine);
// Error (usage), naming `where` and the line, for whatever is no description.
Machine parse_description(std::string_view text, const std::string& where);
// A name of builtin_machines(), or the path of a TOML file of at most 1 MiB.
Machine load_machine(const std::string& name_or_path);

struct BuiltinMachine {
  std::string_view name, toml;
};
std::span<const BuiltinMachine> builtin_machines();  // configs/machines/; in a generated file

// Who is about to run with a description.
struct Present {
  std::string model, isa;
  std::int64_t threads = 1, memory = 0;  // usable bytes
  std::string device = "cpu";            // of a GPU isa and threads are not looked at
};
// Error (usage), naming the line of `where` that contradicts the machine, unless it is of this one.
void require_same(const Machine& machine, const Present& present, const std::string& where);

}  // namespace sluice
