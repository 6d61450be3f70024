// Faults that tests plant into a run's numbers: one flipped bit, or a NaN.
#pragma once

#include "checkpoint/model_files.h"
#include "core/fault.h"
#include "executor/executor.h"

namespace sluice {

// Carries out train.flip:NAME@STEP and train.poison:NAME@STEP: right after the update of STEP wrote
// the named weight, its first number loses a bit or becomes NaN. The loop settles that step, so
// that derived weights are remade. Comes before `next`, which may be null.
class PlantedFaults final : public Observer {
 public:
  PlantedFaults(const Faults& faults, std::vector<ModelTensor> tensors, std::int64_t done_steps,
                Observer* next);
  void after(const Program& program, int action, std::span<const Tensor> values) override;

 private:
  void plant(const std::string& name, bool flip, const Program& program, const Action& action,
             std::span<const Tensor> values) const;

  const Faults& faults_;
  std::vector<ModelTensor> tensors_;
  std::int64_t done_steps_;  // steps whose FinishStep ran
  Observer* next_;
};

// True when a fault is planned for `step`.
bool plants_at(const Faults& faults, std::int64_t step);

}  // namespace sluice
