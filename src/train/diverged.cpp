#include "train/diverged.h"

#include <algorithm>
#include <cmath>

namespace sluice {

Error diverged(Trainer& trainer, const StepResult& result, const std::string& run) {
  trainer.executor().drain();
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

}  // namespace sluice
