// The lists of a run as text for a person: what `sluice plan --show graph|program|memory` says.
//
// Pure functions of their arguments; lines end in '\n'; any thread.
#pragma once

#include <string>

#include "program/program.h"

namespace sluice {

// Values with their shapes and every op list of each kind of layer, one op a line.
std::string print_graph(const ModelGraphs& model);

// One line per action: its number, lane, name, the regions that its ops read -> write, and what it
// waits for besides the line above it on its lane; then what each op list does. What repeats in
// long programs (middle micro-batches, middle blocks) is folded into a line that says so.
std::string print_program(const ProgramSet& set, const Program& program);

// Regions of the arena, then the blobs of every layer: offset and bytes.
std::string print_memory(const ProgramSet& set);

}  // namespace sluice
