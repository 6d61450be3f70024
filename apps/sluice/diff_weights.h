// The weights of two checkpoints, number by number.
#pragma once

#include <string>

#include "command.h"

namespace sluice {

// Prints where they differ. 0: nowhere; 1: they do. Their files may have any form and type: numbers
// are compared as float32. Exit::input for two different models.
int diff_weights(const std::string& first, const std::string& second, Context& context);

}  // namespace sluice
