// The cases of tests/goldens (README.md there): what Transformers and PyTorch computed, and runs of
// a Machine on the same weights, batches and learning rates.
#pragma once

#include <gtest/gtest.h>

#include "checkpoint/safetensors.h"
#include "support/machine.h"

namespace sluice::testing_support {

inline constexpr int golden_steps = 20;
inline constexpr const char* golden_cases[] = {"gpt2-a", "gpt2-b", "gpt2-c", "gpt2-d",
                                               "gptj-a", "gptj-b", "gptj-c", "gptj-d"};
// "gpt2_a": what GoogleTest takes in a name.
std::string name_of_case(const testing::TestParamInfo<const char*>& one);

struct Case {
  std::filesystem::path folder;
  SafetensorsFile golden;
  ModelConfig model;
  OptimConfig optim;
  std::int64_t rows, time;

  explicit Case(const std::string& name);

  // In float32, on this program's best processor; the rows cut into so many micro-batches.
  MachineSpec spec(int micro_batches) const;
  // Every processor of this program, the rows as one micro-batch and as one each.
  std::vector<MachineSpec> variants() const;
  // Some weight matrix of the first block.
  std::string query_weight() const;

  // Of the loss, logits and gradients; of a step, from 0.
  Batch batch() const;
  Batch step_batch(int step) const;

  // A tensor of the golden; all whose name begins with `prefix`, without it.
  template <class T>
  std::vector<T> values(const std::string& name) const;
  Tensors tensors(const std::string& prefix) const;
  // Of logits [rows, time, vocab] those at the positions that the golden stores.
  std::vector<double> stored_positions(const std::vector<double>& logits) const;
};

// "avx2_3_micro_batches"
std::string text_of(const MachineSpec& spec);

// The case's weights; float32 masters too, where the optimizer keeps their lower halves.
void load(const Case& c, Machine& machine);

struct Steps {
  std::vector<double> loss, grad_norm;
  Tensors weights, masters;  // afterwards; see masters_of()
};

// The twenty steps from the case's weights. `lr_shift` 1 uses each learning rate one step late;
// `after_each` sees the machine with the step's update still pending.
Steps run_steps(const Case& c, const MachineSpec& spec, int lr_shift = 0,
                const std::function<void(Machine&)>& after_each = {});

// What the optimizer updates: float32 masters where it keeps their lower halves, else the weights.
Tensors masters_of(const Machine& machine);

}  // namespace sluice::testing_support
