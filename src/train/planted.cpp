#include "train/planted.h"

#include <algorithm>
#include <limits>

namespace sluice {

PlantedFaults::PlantedFaults(const Faults& faults, std::vector<ModelTensor> tensors,
                             std::int64_t done_steps, Observer* next)
    : faults_(faults), tensors_(std::move(tensors)), done_steps_(done_steps), next_(next) {}

bool plants_at(const Faults& faults, std::int64_t step) {
  return faults.argument("train.flip", step) || faults.argument("train.poison", step);
}

void PlantedFaults::plant(const std::string& name, bool flip, const Program& program,
                          const Action& action, std::span<const Tensor> values) const {
  const auto tensor = std::find_if(tensors_.begin(), tensors_.end(),
                                   [&](const ModelTensor& t) { return t.name == name; });
  require(tensor != tensors_.end(), [&] {
    return Error(Exit::usage,
                 {"a planted fault names no tensor", "--fault", "a tensor of the model", name, {}});
  });
  if (tensor->layer != action.layer) return;
  const LayerGraph& graph = program.model->of(program.model->kind_of(action.layer));
  const Tensor& weight = values[static_cast<std::size_t>(graph.require_value(tensor->value))];
  if (flip)
    static_cast<unsigned char*>(weight.raw())[0] ^= 1u;  // the last bit, in either type
  else if (weight.dtype() == DType::bf16)
    weight.data<bf16>()[0] = bf16(std::numeric_limits<float>::quiet_NaN());
  else
    weight.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
}

void PlantedFaults::after(const Program& program, int index, std::span<const Tensor> values) {
  const Action& action = program.actions[static_cast<std::size_t>(index)];
  if (action.phase == Phase::finish) ++done_steps_;
  if (action.phase == Phase::update)
    for (const bool flip : {true, false})
      if (const auto name = faults_.argument(flip ? "train.flip" : "train.poison", done_steps_))
        plant(*name, flip, program, action, values);
  if (next_ != nullptr) next_->after(program, index, values);
}

void BrokenDevice::run(const Op& op, const Frame& frame) {
  if (std::holds_alternative<FinishStep>(op)) ++done_steps_;
  const auto name = broken_ ? std::nullopt : faults_.argument("train.break", done_steps_ + 1);
  if (name && *name == name_of(op)) {
    broken_ = true;
    if (host_sees())
      throw DeviceError(Exit::internal,
                        {"the device failed at an op", {}, {}, "a planted failure", {}});
    void* const nobodys = reinterpret_cast<void*>(std::uintptr_t{4096});
    const Shape shape{{Axis::scalar, 1 << 20}};
    const Tensor x{nobodys, DType::f32, shape};
    const Tensor values[] = {x, x};
    AroundBackend::run(AddInto{0, 1}, {.values = values, .workspace = {}});
  }
  AroundBackend::run(op, frame);
}

}  // namespace sluice
