#include "support/golden.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/file.h"
#include "ops/optimizer/formats.h"
#include "support/processors.h"

namespace sluice::testing_support {

std::string name_of_case(const testing::TestParamInfo<const char*>& one) {
  std::string name = one.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

Case::Case(const std::string& name)
    : folder(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/goldens" / name),
      golden(SafetensorsFile::open(folder / "golden.safetensors")),
      model(read_model_config(folder)) {
  const auto meta = nlohmann::json::parse(read_file((folder / "meta.json").string()));
  rows = meta["batch"]["rows"];
  time = meta["batch"]["sequence"];
  const nlohmann::json& o = meta["optimizer"];
  optim.beta1 = o["beta1"];
  optim.beta2 = o["beta2"];
  optim.eps = o["eps"];
  optim.weight_decay = o["weight_decay"];
  optim.clip = o["clip"];
}

MachineSpec Case::spec(int micro_batches) const {
  MachineSpec out;
  out.model = model;
  out.optim = optim;
  out.shape = {rows / micro_batches, time};
  out.micro_batches = micro_batches;
  out.head_chunk = 64;
  out.poison = true;
  out.device = best_processor().device;
  return out;
}

std::vector<MachineSpec> Case::variants() const {
  std::vector<MachineSpec> out;
  for (const Processor& processor : processors())
    for (const int micro_batches : std::set<int>{1, static_cast<int>(rows)}) {
      out.push_back(spec(micro_batches));
      out.back().isa = processor.isa;
      out.back().device = processor.device;
    }
  return out;
}

std::string Case::query_weight() const {
  return model.family == "gpt2" ? "transformer.h.0.attn.c_attn.weight"
                                : "transformer.h.0.attn.q_proj.weight";
}

Batch Case::batch() const {
  Batch out = Batch::of(rows, time);
  out.ids = values<std::int32_t>("ids");
  out.targets = values<std::int32_t>("targets");
  out.weights = values<float>("token_weights");
  return out;
}

Batch Case::step_batch(int step) const {
  const std::vector<std::int32_t> all = values<std::int32_t>("steps.ids");
  Batch out = Batch::of(rows, time);
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t t = 0; t < time; ++t) {
      const auto from = static_cast<std::size_t>((step * rows + row) * (time + 1) + t);
      const auto to = static_cast<std::size_t>(row * time + t);
      out.ids[to] = all[from];
      out.targets[to] = all[from + 1];
    }
  return out;
}

template <class T>
std::vector<T> Case::values(const std::string& name) const {
  const TensorInfo* info = golden.find(name);
  if (info == nullptr) throw Error("the golden lacks " + name);
  const std::span<const std::byte> bytes = golden.bytes(*info);
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}
template std::vector<float> Case::values<float>(const std::string&) const;
template std::vector<std::int32_t> Case::values<std::int32_t>(const std::string&) const;

Tensors Case::tensors(const std::string& prefix) const {
  Tensors out;
  for (const TensorInfo& info : golden.tensors())
    if (info.name.starts_with(prefix))
      out[info.name.substr(prefix.size())] = to_double(values<float>(info.name));
  return out;
}

std::vector<double> Case::stored_positions(const std::vector<double>& logits) const {
  std::vector<double> out;
  for (std::int64_t row = 0; row < rows; ++row)
    for (const std::int32_t t : values<std::int32_t>("logits_positions")) {
      const auto at = logits.begin() + (row * time + t) * model.vocab;
      out.insert(out.end(), at, at + model.vocab);
    }
  return out;
}

std::string text_of(const MachineSpec& spec) {
  const std::string_view where = spec.device == nullptr ? name_of(spec.isa) : spec.device->name();
  return fmt::format("{}_{}_micro_batches", where, spec.micro_batches);
}

void load(const Case& c, Machine& machine) {
  machine.load(c.folder);
  const SafetensorsFile file = SafetensorsFile::open(c.folder / "model.safetensors");
  for (const ModelTensor& one : machine.tensors()) {
    if (one.type != DType::bf16 || one.state.front().kind != "low") continue;
    const Tensor upper = machine.tensor(one.layer, one.value);
    const Tensor lower = machine.tensor(one.layer, "low." + one.value);
    const std::span<const std::byte> from = file.bytes(*file.find(one.name));
    for (std::int64_t i = 0; i < one.count(); ++i) {
      float value;
      std::memcpy(&value, from.data() + i * 4, 4);
      const Master master = split_master(value);
      upper.data<bf16>()[i] = master.weight;
      lower.data<std::int16_t>()[i] = master.low;
    }
  }
  machine.derive();
}

Steps run_steps(const Case& c, const MachineSpec& spec, int lr_shift,
                const std::function<void(Machine&)>& after_each) {
  Machine machine(spec);
  load(c, machine);
  const std::vector<float> lr = c.values<float>("steps.lr");
  Steps out;
  for (int step = 0; step < golden_steps; ++step) {
    const float rate = lr[static_cast<std::size_t>(std::max(0, step - lr_shift))];
    const StepNumbers numbers = machine.step(c.step_batch(step), rate, step + 1);
    out.loss.push_back(numbers.loss);
    out.grad_norm.push_back(numbers.grad_norm);
    if (after_each) after_each(machine);
  }
  machine.settle();
  out.weights = machine.weights();
  out.masters = masters_of(machine);
  return out;
}

Tensors masters_of(const Machine& machine) {
  Tensors out = machine.weights();
  for (const ModelTensor& one : machine.tensors())
    for (const StateTensor& state : one.state) {
      if (state.kind != "low") continue;
      const Tensor upper = machine.tensor(one.layer, one.value);
      const Tensor lower = machine.tensor(one.layer, "low." + one.value);
      std::vector<double>& to = out.at(one.name);
      for (std::size_t i = 0; i < to.size(); ++i)
        to[i] = join_master(upper.data<bf16>()[i], lower.data<std::int16_t>()[i]);
    }
  return out;
}

}  // namespace sluice::testing_support
