// What the optimizer keeps of a run, in files of a checkpoint: optimizer.safetensors has "m.NAME",
// "v.NAME", "low.NAME" … under Hugging Face's names, average.safetensors the averaged weights under
// the names themselves: a whole model, frozen tensors as they are.
//
// A file of another form than the run's (float32, exact, compact) is converted when it is loaded:
// decoded to a float32 master and float32 moments, and encoded again, to nearest.
#pragma once

#include "checkpoint/model_files.h"

namespace sluice {

// Bytes of a checkpoint of these tensors: the tensor files, their headers, and a little for the
// rest.
std::int64_t checkpoint_bytes(const std::vector<ModelTensor>& tensors);

void save_state(CheckpointSave& save, const std::vector<ModelTensor>& tensors, TensorAccess access);

struct LoadedState {
  bool converted = false;  // the file has another form
  bool began_average =
      false;  // the run keeps an average that the file lacks: it starts at the weights
};
// Fills the state of every tensor, and its weight where the forms differ. Run after load_model().
// Exit::input for files that hold something else.
LoadedState load_state(const std::filesystem::path& dir, const std::vector<ModelTensor>& tensors,
                       TensorAccess access);

// Averages of the weights as they are now (low included): where a run begins.
void begin_averages(const std::vector<ModelTensor>& tensors, TensorAccess access);

}  // namespace sluice
