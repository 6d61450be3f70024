// A whole model on the CPU or on another backend, for tests: programs, executor and staging, steps
// on arrays that the test gives, tensors by Hugging Face's names.
//
// Unlike the trainer it waits for every step. One thread.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "backend/cpu/cpu.h"
#include "checkpoint/model_files.h"
#include "executor/executor.h"
#include "inference/generate.h"
#include "inference/staging.h"
#include "support/closeness.h"
#include "train/assembly.h"

namespace sluice::testing_support {

// One step's data, [rows, time] each.
struct Batch {
  std::int64_t rows = 0, time = 0;
  std::vector<std::int32_t> ids, targets, positions, starts;
  std::vector<float> weights;

  // Positions from 0, one document per row, every weight 1; ids and targets all 0.
  static Batch of(std::int64_t rows, std::int64_t time);
  // Ids and targets drawn from [0, vocab), each target the next id.
  static Batch random(std::int64_t rows, std::int64_t time, std::int64_t vocab, std::uint64_t seed);
};

// Asked before each op: false leaves it out. What plants faults below the executor.
using OpFilter = std::function<bool(const Op& op, bool first)>;

struct MachineSpec {
  ModelConfig model;
  OptimConfig optim;
  Parametrization scales = standard_parametrization();
  BatchShape shape;  // of a micro-batch
  int micro_batches = 1;
  std::int64_t head_chunk = 4096;
  int passes = 0;
  std::string homes = "device";
  Blobs blobs = Blobs::layer;
  int slots = 3;
  bool spill_stash = false;
  Recompute recompute = Recompute::none;
  Numerics numerics;  // ema and dropout's seed included; dropout is on when the model has some
  bool fuse = true;
  int threads = 2;
  Isa isa = best_isa();
  Backend* device = nullptr;  // in place of the CPU; outlives the machine
  bool poison = false;        // on the CPU
  std::filesystem::path scratch = std::filesystem::temp_directory_path();  // of what is on disk
  OpFilter filter;
};

// Turns the head's loss into a global value "logits" [B T V], padding included.
void loss_to_logits(ModelGraphs& model);

struct StepNumbers {
  double loss = 0, grad_norm = 0, weight = 0;
  bool finite = false;
};

class Machine {
 public:
  explicit Machine(const MachineSpec& spec);

  const std::vector<ModelTensor>& tensors() const { return tensors_; }
  // A value of a layer, as checkpoint/model_files.h asks for it.
  Tensor tensor(int layer, const std::string& value) const {
    return executor_->tensor(layer, value);
  }

  // After weights were written: derive(). `load` and `initialize` do it themselves.
  void load(const std::filesystem::path& folder);
  void initialize(std::uint64_t seed);  // as the trainer does; then every bias from N(0, 0.1²)
  std::span<float> weight(const std::string& name);  // of a float32 one, padding apart
  // Its bytes, whatever its type; and those of what the optimizer keeps beside it ("m", "low" …).
  std::span<std::byte> bytes(const std::string& name, const std::string& kind = "");
  void derive();

  // Runs step `number` (1 is the first) on micro_batches × shape and waits: its gradients are
  // there, its update is pending.
  StepNumbers step(const Batch& batch, double lr, std::int64_t number);
  void settle();  // applies the pending update

  Tensors weights() const;
  Tensors gradients() const;           // of the newest step's mean loss
  std::uint64_t digest() const;        // of the weights
  std::uint64_t state_digest() const;  // of everything that the optimizer keeps
  // Logits [rows × time × vocab] of a batch of any size, all tokens at once.
  std::vector<double> logits(const Batch& batch) const;
  // The same of plain rows (positions from 0, one document) by way of the cache of keys and values:
  // in pieces of inference/assembly.h's prefill_tokens, or token by token.
  std::vector<double> cached_logits(const Batch& batch, bool one_by_one) const;
  // Of rows that differ in length, decoded together: [row][token][vocab].
  std::vector<std::vector<std::vector<float>>> cached_logits(
      const std::vector<std::vector<std::int32_t>>& rows, bool one_by_one) const;
  // The loss of a batch of this machine's size, weights untouched.
  double evaluate(const Batch& batch);

 private:
  void stage(const Batch& batch, double lr, double number);
  Backend& computes() const { return *(spec_.device == nullptr ? cpu_.get() : spec_.device); }
  ExecutorOptions executor_options() const;
  void copy_weights(Executor& to) const;
  Tensors read(const std::string& prefix, double factor) const;
  const ModelTensor& info(const std::string& name) const;

  MachineSpec spec_;
  std::unique_ptr<Backend> cpu_, backend_;
  Faults faults_;
  std::optional<ScratchFile> scratch_;
  std::unique_ptr<Executor> executor_;
  std::vector<ModelTensor> tensors_;
  std::optional<Staging> staging_;
  double weight_sum_ = 0;
  bool pending_ = false;
};

}  // namespace sluice::testing_support
