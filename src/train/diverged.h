// What ends a run in the middle of a step: numbers that are not finite, a device that failed.
#pragma once

#include "train/trainer.h"

namespace sluice {

// Exit::diverged for a step whose loss or gradient norm is not finite. Its update was not applied,
// and the step begun meanwhile is dropped: weights stay as they were. The tensor named is the first
// weight that is not finite, else the first such gradient.
Error diverged(Trainer& trainer, const StepResult& result, const std::string& run);

// Names the step and the program that the device failed in, and what would name the op.
Error device_failed(const Trainer& trainer, const DeviceError& error, const std::string& run);

}  // namespace sluice
