// Schedules: what one rank does, as a list over (layer, micro-batch), before lanes and memory are
// known. Layers count from 0 (embedding) through the blocks to the head.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace sluice {

enum class Phase : std::uint8_t {
  load,         // batch data arrives
  update,       // the pending update of the step before, then derived weights
  derive,       // derived weights alone
  forward,      // F
  input_grad,   // I: what the layer below waits for
  weight_grad,  // W: what the update needs
  norm,         // squared norms of a layer's gradients, after its last W
  finish,       // loss, norm, clip factor: the next pending update
  fetch,        // a blob comes from its home into its slot
  leave,        // and goes back
  read,         // a blob comes from disk to where a fetch finds it
  write,        // and goes back to disk from where it was left
  unpack,       // packed gradients become float32 again
  keep,         // a layer's input moves from between the layers into its stash
};
std::string_view name_of(Phase phase);

struct Scheduled {
  Phase phase;
  int layer = 0;
  int micro = 0;
  bool operator==(const Scheduled&) const = default;
};

struct ScheduleSpec {
  int layers = 3;  // with embedding and head
  int micro_batches = 1;
  int at_once = 1;       // micro-batches of a pass
  bool update = false;   // each layer applies the pending update before its first F
  bool backward = true;  // otherwise forward alone
};

// Passes through the layers, up and down again: at each layer all micro-batches of the pass, one
// after the other; W follows its I at once. With one micro-batch a pass this is micro-batch-major
// (the activations of one micro-batch are alive at a time), with all of them layer-major (each
// layer is visited twice a step). Gradients of a layer sum in the order of micro-batches in both.
std::vector<Scheduled> passes(const ScheduleSpec& spec);

// `phase` for every layer, embedding first: flush (update) and derive.
std::vector<Scheduled> every_layer(int layers, Phase phase);

}  // namespace sluice
