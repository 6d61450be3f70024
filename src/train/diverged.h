// Numbers that are not finite: the error that names their tensor; and faults that tests plant.
#pragma once

#include "core/fault.h"
#include "core/function_ref.h"
#include "train/trainer.h"

namespace sluice {

// Exit::diverged for a step whose loss or gradient norm is not finite. The pending update was not
// applied; the tensor named is the first weight that is not finite, else the first such gradient.
Error diverged(Trainer& trainer, const StepResult& result, const std::string& run);

// Carries out train.flip and train.poison for `step`: after settle(), one bit of the named tensor
// is flipped, or its first number becomes NaN. True when something was planted.
bool plant_fault(const Faults& faults, std::int64_t step, Trainer& trainer,
                 FunctionRef<void()> settle);

}  // namespace sluice
