// What `sluice doctor` measured on a machine, and the file that keeps it: the rates that a step's
// speed is stated against. A value; measuring is the backend's.
//
// The file is read as something that anyone may have written: all of it is checked, and one that
// is damaged, of another version or of another machine is not used and said so. Any thread.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// One product C[m,n] = A[m,k] B[k,n] and how long it took.
struct ProductRate {
  std::string name;       // "fc"
  std::string direction;  // "forward", "input gradient" or "weight gradient"
  std::string type;       // "float32" or "bf16"
  std::int64_t m = 0, k = 0, n = 0;
  std::int64_t count = 1;  // how often a step has it
  double seconds = 0;      // of one, the median
  double flops() const;    // per second: 2 m k n / seconds
};

// Who measured: rates hold for nobody else.
struct MachineId {
  std::string cpu;  // "AMD EPYC (family 26, model 2)"
  std::string isa;  // of the kernels
  int threads = 1;
};

// Causal attention, the causal half counted: FLOPs per second.
struct AttentionSpeed {
  std::int64_t head = 0, sequence = 0;
  double forward = 0, backward = 0;
};

// An op among its neighbours in a training step: how much of its work a second (planner/costs.h's
// OpClass says what that is).
struct OpSpeed {
  std::string op;              // its class: "gelu_grad bf16"
  std::int64_t sizes[3] = {};  // each 1 or more
  double rate = 0;
};

// What a thread that copies and the threads that compute leave each other.
struct Beside {
  double copy = 0;  // bytes per second, read and written counted, while products run; 0: not known
  double compute = 0;  // the part of the products' speed that is left meanwhile
};

struct MachineRates {
  MachineId id;
  std::string date;    // "2026-11-23"
  bool quick = false;  // smaller products, fewer of them
  std::vector<ProductRate> products;
  std::vector<AttentionSpeed> attention;  // may be none: files of before it was measured
  std::vector<OpSpeed> ops;               // likewise
  double between_ops = 0;                 // seconds; 0: not measured
  Beside beside;
  // Bytes per second; 0: not measured. A copy counts what it reads and what it writes.
  double read_one = 0, read_all = 0, copy_one = 0, copy_all = 0, disk_write = 0, disk_read = 0;
};

// FLOPs per second over all products of `type` together, each as often as a step has it: what a
// step that were nothing but its products would reach. 0: none was measured.
double product_flops(const MachineRates& machine, std::string_view type);

nlohmann::json to_json(const MachineRates& machine);
// Error (input), naming `where`, for whatever to_json() does not write.
MachineRates parse_machine(std::string_view text, const std::string& where);

// Replaces the file, making its folder. Error (disk).
void save_machine(const std::string& path, const MachineRates& machine);

// The machine of the file, or none and why, as one sentence. An empty path is no file.
struct FoundMachine {
  std::optional<MachineRates> machine;
  std::string reason;
};
FoundMachine find_machine(const std::string& path, const MachineId& id);

}  // namespace sluice
