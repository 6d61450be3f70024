// The trainer: the executor and its data, step by step. It knows when a step's numbers are in and
// what has to be settled before weights may be read; the loop decides what to do with them.
//
// The host runs one step ahead: step N's loss is read after step N+1 was enqueued. One thread.
#pragma once

#include <memory>
#include <vector>

#include "backend/cpu/cpu.h"
#include "checkpoint/model_files.h"
#include "data/batches.h"
#include "executor/executor.h"
#include "inference/staging.h"
#include "optim/optim.h"
#include "train/config.h"

namespace sluice {

// The numbers of one finished step.
struct StepResult {
  std::int64_t step = 0;
  double loss = 0;       // token-weighted mean over the global batch, nats
  double grad_norm = 0;  // of the mean gradient, before clipping
  double weight = 0;     // sum of token weights
  double lr = 0;
  std::chrono::steady_clock::time_point ended;  // when its last action did
  bool finite = true;
  int skipped = 0;               // Spikes::by_loss, by_norm or both: the step is not applied
  std::int64_t bad_tensor = -1;  // index into tensors(): the first gradient that is not finite
};

class Trainer {
 public:
  // Takes all memory. `batches` and `backend` outlive the trainer. `programs` from
  // assemble_training().
  Trainer(const Config& config, const Plan& plan, Backend& backend,
          std::shared_ptr<const ProgramSet> programs, const TrainingBatches& batches,
          ExecutorOptions options);

  const std::vector<ModelTensor>& tensors() const { return tensors_; }
  // As Executor::tensor() says.
  Tensor tensor(int layer, const std::string& value, Access access = Access::update) const {
    return executor_.tensor(layer, value, access);
  }
  Executor& executor() { return executor_; }

  // Weights from the seed, moments zero; or as the caller fills them through tensor(). Then
  // derive().
  void initialize();
  // Weights of a checkpoint (load_masters()) instead, in the folder `dir`.
  void start_from(const std::filesystem::path& dir);
  // What optim.skip_spikes knows of the steps so far; empty: it is off. REQUIRES: settled.
  std::span<double> spikes() const;
  void derive();  // remakes the derived weights after weights were written

  // Fills the batch of `step` (1 is the first) from the samples that follow those of the steps
  // before it, and enqueues it. Allocates nothing.
  void enqueue(std::int64_t step);
  // Waits for a step and returns its numbers; the newest or the one before it.
  StepResult result(std::int64_t step);
  // The step in which a lane failed, and the program that ran; -1: none, or in no step.
  struct Failure {
    std::int64_t step = -1;
    std::string program;
  };
  Failure failure() const;
  // Applies the pending update and drains: weights are then those after the newest step.
  void settle();

  std::uint64_t digest() const;

 private:
  void begin();

  const Config& config_;
  Plan plan_;
  RunLength length_;
  const TrainingBatches& batches_;
  Executor executor_;
  std::vector<ModelTensor> tensors_;
  std::vector<Staging> staging_;  // two sets: one is copied from while the other is filled
  Executor::Ticket tickets_[2] = {};
  double lr_[2] = {};
  std::int64_t newest_ = 0;          // the step that was enqueued last
  bool pending_ = false;             // an enqueued step's update was not applied yet
  std::vector<int> first_, steady_;  // programs, by stretch of the batch ramp
  int flush_, derive_;
};

}  // namespace sluice
