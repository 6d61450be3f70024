// Where the weights of a model in use live: all of them on the device, or some at home on the host
// or on disk and streaming through slots, when the device's memory has a budget or a person says
// so.
//
// Programs that use a model read weights and write none, so there is one kind of blob to place.
// Nothing here changes a bit of a result. Pure functions, any thread.
#pragma once

#include <string>

#include "program/build.h"
#include "program/plan.h"

namespace sluice {

struct WeightPlacement {
  std::string homes = "device";  // or "weights=host", "weights@0-3=host", with the ends or without
  int slots = 3;
  Homes parsed;
  Blobs blobs = Blobs::layer;
};

// Of `plan`, homes, slots and the tiers' budgets count; homes of gradients and optimizer state are
// of no meaning here. Under a budget as few weights stream as do, through three slots or two (four
// or two, where blocks are cut), and under one of the host as few of them from disk, unless `plan`
// says which. Whether blocks are cut is up to who makes `spec`. Errors, `where` being the key
// alone: Exit::memory (Exit::disk) when nothing fits, with the least that would; Exit::usage for
// homes of another model.
WeightPlacement place_weights(ProgramSpec spec, const PlanConfig& plan);

// The least bytes of the device that the programs of `spec` can do with under `plan`.
std::int64_t least_device_bytes(ProgramSpec spec, const PlanConfig& plan);

}  // namespace sluice
