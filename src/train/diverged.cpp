#include "train/diverged.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sluice {

Error diverged(Trainer& trainer, const StepResult& result, const std::string& run) {
  trainer.settle();
  std::string what = "the loss", found = "a loss that is not finite";
  if (result.bad_tensor >= 0) {
    what = trainer.tensors()[static_cast<std::size_t>(result.bad_tensor)].name;
    found = "a gradient that is not finite";
  }
  for (const ModelTensor& tensor : trainer.tensors()) {
    const auto weights = trainer.tensor(tensor.layer, tensor.value).values<float>();
    if (std::all_of(weights.begin(), weights.end(), [](float w) { return std::isfinite(w); }))
      continue;
    what = tensor.name;
    found = "a weight that is not finite";
    break;
  }
  return Error(Exit::diverged,
               {fmt::format("step {} is not finite: {}", result.step, what),
                run,
                "finite loss and gradients",
                found,
                {"a smaller optim.lr", "resume from the last checkpoint with other data"}});
}

bool plant_fault(const Faults& faults, std::int64_t step, Trainer& trainer,
                 FunctionRef<void()> settle) {
  bool planted = false;
  for (const bool flip : {true, false}) {
    const auto name = faults.argument(flip ? "train.flip" : "train.poison", step);
    if (!name) continue;
    settle();
    for (const ModelTensor& tensor : trainer.tensors()) {
      if (tensor.name != *name) continue;
      float& number = trainer.tensor(tensor.layer, tensor.value).values<float>()[0];
      number = flip ? std::bit_cast<float>(std::bit_cast<std::uint32_t>(number) ^ 1u)
                    : std::numeric_limits<float>::quiet_NaN();
      planted = true;
    }
    require(planted, [&] {
      return Error(
          Exit::usage,
          {"a planted fault names no tensor", "--fault", "a tensor of the model", *name, {}});
    });
    trainer.derive();
  }
  return planted;
}

}  // namespace sluice
