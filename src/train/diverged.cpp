#include "train/diverged.h"

#include <cmath>

namespace sluice {

namespace {

// A weight that is not finite.
bool damaged(const Tensor& weight) {
  const bool half = weight.dtype() == DType::bf16;
  for (std::int64_t i = 0; i < weight.count(); ++i)
    if (!std::isfinite(half ? static_cast<float>(weight.data<bf16>()[i]) : weight.data<float>()[i]))
      return true;
  return false;
}

// Gradients are counted without those of frozen tensors, which have none.
const ModelTensor& trained_tensor(const std::vector<ModelTensor>& tensors, std::int64_t index) {
  for (const ModelTensor& tensor : tensors)
    if (!tensor.frozen && index-- == 0) return tensor;
  throw Error("a gradient belongs to no tensor");
}

}  // namespace

Error diverged(Trainer& trainer, const StepResult& result, const std::string& run) {
  trainer.executor().drain();
  std::string what = "the loss", found = "a loss that is not finite";
  if (result.bad_tensor >= 0) {
    what = trained_tensor(trainer.tensors(), result.bad_tensor).name;
    found = "a gradient that is not finite";
  }
  for (const ModelTensor& tensor : trainer.tensors()) {
    if (!damaged(trainer.tensor(tensor.layer, tensor.value, Access::read))) continue;
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

Error device_failed(const Trainer& trainer, const DeviceError& error, const std::string& run) {
  const Trainer::Failure failure = trainer.failure();
  Report report = error.report();
  const std::string said = report.found.empty() ? report.what : report.what + ", " + report.found;
  report.found = report.where.empty() ? said : fmt::format("{}: {}", report.where, said);
  const bool named = !report.where.empty();
  report.what = failure.step > 0 ? fmt::format("the device failed in step {}, program {}",
                                               failure.step, failure.program)
                                 : fmt::format("the device failed, in program {}",
                                               failure.program.empty() ? "none" : failure.program);
  report.where = run;
  report.tries = {"the same command, which goes on from the last checkpoint"};
  if (!named) report.tries.emplace_back("the same command with --eager --sync, which names the op");
  report.tries.emplace_back("sluice doctor, if it fails again");
  Error out(error.code(), std::move(report));
  for (const std::string& one : error.chain()) out.add_context(one);
  return out;
}

}  // namespace sluice
