// CPU and GPU in float32 from one seed, eps 1e-5: losses within 1e-6 at step 1 and 1e-5 at step 50.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/around.h"
#include "shared_gpu.h"
#include "support/machine.h"

namespace sluice {
namespace {

using namespace testing_support;

constexpr int steps = 50, micro_batches = 2;

MachineSpec spec_of(const std::string& family, double dropout) {
  MachineSpec out;
  ModelConfig& m = out.model;
  m.family = family;
  m.layers = 3;
  m.width = 128;
  m.heads = 4;
  m.context = 64;
  m.vocab = 251;
  m.dropout = dropout;
  m.tied = family == "gpt2";
  if (family == "gptj") m.rotary = 16;
  out.optim.eps = 1e-5;
  out.shape = {4, 64};
  out.micro_batches = micro_batches;
  out.head_chunk = 96;
  out.numerics.seed = 5;
  return out;
}

// The CPU's losses, step by step, or those of another backend.
std::vector<double> losses(MachineSpec spec, Backend* device) {
  spec.device = device;
  Machine machine(spec);
  machine.initialize(1);
  std::vector<double> out;
  for (int step = 1; step <= steps; ++step) {
    const Batch batch = Batch::random(4 * micro_batches, 64, spec.model.vocab,
                                      static_cast<std::uint64_t>(step % 10));
    const double lr = 3e-3 * std::min(1.0, step / 10.0);
    out.push_back(machine.step(batch, lr, step).loss);
  }
  return out;
}

std::vector<double> apart(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> out;
  for (std::size_t i = 0; i < a.size(); ++i) out.push_back(std::abs(a[i] / b[i] - 1));
  return out;
}

std::string text_of(const std::vector<double>& apart) {
  std::string out;
  for (const std::size_t step : {1, 2, 5, 10, 20, 35, 50})
    out += fmt::format(" {}: {:.1e}", step, apart[step - 1]);
  return out;
}

// A GPU that loses the gradients of a step's second micro-batch, and nothing else: losses and
// weights of tokens are as they were.
class OneLess final : public AroundBackend {
 public:
  explicit OneLess(Backend& below) : AroundBackend(below) {}
  void run(const Op& op, const Frame& frame) override {
    if (frame.first) return AroundBackend::run(op, frame);
    if (std::holds_alternative<EmbedGrad>(op) || std::holds_alternative<LinearGradWeight>(op) ||
        std::holds_alternative<LayerNormGradWeight>(op))
      return;
    if (const auto* head = std::get_if<HeadLoss>(&op)) {
      HeadLoss bare = *head;
      bare.dw = bare.dbias = no_value;
      return AroundBackend::run(bare, frame);
    }
    AroundBackend::run(op, frame);
  }
};

TEST(GpuTraining, LossesFollowTheCpu) {
  struct Model {
    const char *label, *family;
    double dropout;
  };
  for (const Model& model :
       {Model{"gpt2", "gpt2", 0}, {"gpt2, dropout", "gpt2", 0.1}, {"gptj", "gptj", 0}}) {
    SCOPED_TRACE(model.label);
    const MachineSpec spec = spec_of(model.family, model.dropout);
    const std::vector<double> cpu = losses(spec, nullptr), gpu = losses(spec, &shared_gpu());
    const std::vector<double> found = apart(gpu, cpu);
    fmt::print("{}: loss {:.4f} to {:.4f}; apart at step{}\n", model.label, cpu.front(), cpu.back(),
               text_of(found));
    EXPECT_LT(cpu.back(), 0.95 * cpu.front());
    EXPECT_LE(found.front(), 1e-6);
    EXPECT_LE(found.back(), 1e-5);
  }
}

// The control of what is above.
TEST(GpuTraining, OneMicroBatchesGradientLessShows) {
  const MachineSpec spec = spec_of("gpt2", 0);
  OneLess less(shared_gpu());
  const std::vector<double> found = apart(losses(spec, &less), losses(spec, nullptr));
  fmt::print("one micro-batch's gradient less: apart at step{}\n", text_of(found));
  EXPECT_LE(found.front(), 1e-6) << "the first loss is of the same weights";
  EXPECT_GT(found.back(), 1e-4);
}

}  // namespace
}  // namespace sluice
