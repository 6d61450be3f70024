// Faults that tests plant into a run's numbers: one flipped bit, or a NaN.
#pragma once

#include "backend/around.h"
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

// Carries out train.break:OP@STEP. On a device of its own the op before it touches memory that is
// nobody's; where the host sees the memory, the op throws what a device would.
class BrokenDevice final : public AroundBackend {
 public:
  BrokenDevice(Backend& below, const Faults& faults, std::int64_t done_steps)
      : AroundBackend(below), faults_(faults), done_steps_(done_steps) {}
  void run(const Op& op, const Frame& frame) override;

 private:
  const Faults& faults_;
  std::int64_t done_steps_;  // steps whose FinishStep ran
  bool broken_ = false;
};

// True when a number is to be damaged at `step`.
bool plants_at(const Faults& faults, std::int64_t step);

}  // namespace sluice
