// Two executors in one process have the digests that each has alone: stepping in turns, and at the
// same time on threads of their own. Nothing is shared, so nothing that one does shows in the
// other.
#include <gtest/gtest.h>

#include <thread>

#include "support/machine.h"
#include "support/processors.h"

namespace sluice {
namespace {

using namespace testing_support;

constexpr int steps = 12;

MachineSpec spec_of(const std::string& family, Numerics numerics, Backend* device) {
  MachineSpec out;
  ModelConfig& m = out.model;
  m.family = family;
  m.layers = 3;
  m.width = 48;
  m.heads = 3;
  m.context = 32;
  m.vocab = 131;
  m.dropout = 0.1;
  m.tied = family == "gpt2";
  if (family == "gptj") m.rotary = 8;
  out.optim.eps = 1e-5;
  out.numerics = numerics;
  out.numerics.seed = 5;
  out.shape = {2, 32};
  out.micro_batches = 2;
  out.head_chunk = 40;
  out.device = device;
  return out;
}

// One of the two, with a backend of its own.
class One {
 public:
  One(const std::string& family, Numerics numerics, std::uint64_t seed)
      : backend_(own_backend()),
        spec_(spec_of(family, numerics, backend_->host_sees() ? nullptr : backend_.get())),
        machine_(spec_),
        seed_(seed) {
    machine_.initialize(seed);
  }
  void step(int number) {
    const Batch batch =
        Batch::random(4, 32, spec_.model.vocab, seed_ + static_cast<std::uint64_t>(number));
    machine_.step(batch, 1e-3, number);
  }
  std::uint64_t digest() {
    machine_.settle();
    return machine_.digest() ^ machine_.state_digest();
  }
  std::uint64_t whole() {
    for (int i = 1; i <= steps; ++i) step(i);
    return digest();
  }

 private:
  std::unique_ptr<Backend> backend_;
  MachineSpec spec_;
  Machine machine_;
  std::uint64_t seed_;
};

const Numerics wide = {};
const Numerics narrow = {.precision = DType::bf16, .state = StateFormat::compact};

TEST(Executors, TwoStepInTurnsToTheDigestsThatTheyHaveAlone) {
  const std::uint64_t first = One("gpt2", wide, 1).whole(), second = One("gptj", narrow, 2).whole();
  EXPECT_NE(One("gpt2", wide, 3).whole(), first) << "the control";
  One a("gpt2", wide, 1), b("gptj", narrow, 2);
  for (int i = 1; i <= steps; ++i) a.step(i), b.step(i);
  EXPECT_EQ(a.digest(), first);
  EXPECT_EQ(b.digest(), second);
}

TEST(Executors, TwoStepAtOnceToTheDigestsThatTheyHaveAlone) {
  const std::uint64_t alone = One("gpt2", wide, 1).whole(), other = One("gpt2", wide, 2).whole();
  std::uint64_t digests[2] = {};
  {
    const std::jthread a([&] { digests[0] = One("gpt2", wide, 1).whole(); });
    const std::jthread b([&] { digests[1] = One("gpt2", wide, 2).whole(); });
  }
  EXPECT_EQ(digests[0], alone);
  EXPECT_EQ(digests[1], other);
  EXPECT_NE(alone, other);
}

}  // namespace
}  // namespace sluice
