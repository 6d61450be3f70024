// Numbers that are not finite: the error that names their tensor.
#pragma once

#include "train/trainer.h"

namespace sluice {

// Exit::diverged for a step whose loss or gradient norm is not finite. Its update was not applied,
// and the step begun meanwhile is dropped: weights stay as they were. The tensor named is the first
// weight that is not finite, else the first such gradient.
Error diverged(Trainer& trainer, const StepResult& result, const std::string& run);

}  // namespace sluice
