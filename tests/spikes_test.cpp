// optim.skip_spikes: a step that lies out of the last ones changes nothing, wherever the weights
// live and whenever the run was stopped; off, everything is as it was.
#include <fmt/format.h>

#include "support/machine.h"
#include "support/undisturbed.h"

namespace sluice {
namespace {

using namespace testing_support;

MachineSpec spec_of(double deviations, const std::string& homes = "device") {
  MachineSpec out;
  ModelConfig& m = out.model;
  m.layers = 3;
  m.width = 36;
  m.heads = 3;
  m.context = 24;
  m.vocab = 67;
  m.init_std = 0.1;
  out.optim.eps = 1e-5;
  out.optim.skip_spikes = deviations;
  out.numerics = {.precision = DType::bf16, .ema = 0.9, .seed = 5};
  out.shape = {2, 17};
  out.micro_batches = 2;
  out.homes = homes;
  out.slots = 2;
  out.passes = homes == "device" ? 0 : 1;
  out.poison = true;
  return out;
}

// Every target the rarest id: nothing that came before is like it.
Batch spike() {
  Batch batch = Batch::random(4, 17, 67, 1000);
  std::fill(batch.targets.begin(), batch.targets.end(), 66);
  return batch;
}

struct Digests {
  std::uint64_t weights = 0, state = 0;
  bool operator==(const Digests&) const = default;
};

// Steps with a spike after the 40th; the digests before it, after it and after the next.
std::vector<Digests> digests_of(const MachineSpec& spec, bool settles = true) {
  Machine machine(spec);
  machine.initialize(7);
  std::vector<Digests> out;
  const auto note = [&] {
    machine.settle();
    out.push_back({machine.digest(), machine.state_digest()});
  };
  for (int step = 1; step <= 40; ++step)
    machine.step(Batch::random(4, 17, 67, static_cast<std::uint64_t>(step)), 1e-3, step);
  if (settles) note();
  machine.step(spike(), 1e-3, 41);
  if (settles) note();
  machine.step(Batch::random(4, 17, 67, 42), 1e-3, 42);
  note();
  return out;
}

TEST(Spikes, ASpikeChangesNothing) {
  const std::vector<Digests> skipped = digests_of(spec_of(4)), off = digests_of(spec_of(0));
  EXPECT_EQ(skipped[1], skipped[0]);
  EXPECT_FALSE(skipped[2] == skipped[1]) << "the next step is applied";
  EXPECT_EQ(off[0], skipped[0]) << "no step before the spike was skipped";
  EXPECT_FALSE(off[1] == off[0]);
  EXPECT_EQ(digests_of(spec_of(1e6)), off) << "watching alone changes nothing";
  // The update of the spike, riding with the next step, or streaming: the same.
  EXPECT_EQ(digests_of(spec_of(4), false).back(), skipped.back());
  EXPECT_EQ(digests_of(spec_of(4, "host")), skipped);
}

// A tiny run whose text has a few stretches like no other.
struct SpikyRun : TinyRun {
  SpikyRun() : TinyRun("tiny", "--run.tokens=12800 --run.validate_every=0 --run.keep_last=1000") {
    const Ended made = run(
        "set -e\n"
        "rm corpus*\n"
        "noise() { awk -v seed=$1 'BEGIN { srand(seed); for (i = 0; i < 150; ++i) printf \"%c\", "
        "33 + int(14 * rand()); print \"\" }'; }\n"
        "{ head -n 60 text.txt; noise 1; sed -n 61,130p text.txt; noise 2; sed -n 131,250p "
        "text.txt; noise 3; sed -n 251,400p text.txt; } > spiky.txt\n"
        "sluice prepare spiky.txt --tokenizer bytes --out corpus --validation 0.1");
    EXPECT_EQ(made.exit, 0) << made.err;
  }

  std::vector<std::int64_t> skipped(const std::string& out) const {
    std::vector<std::int64_t> steps;
    for (const nlohmann::json& row : rows(out))
      if (row.contains("skipped")) steps.push_back(row["step"]);
    return steps;
  }
  std::map<std::string, std::string> tensors_at(const std::string& out, std::int64_t step) const {
    std::map<std::string, std::string> found;
    for (const auto& [name, hash] :
         contents_of(path(out) / "checkpoints" / fmt::format("step-{:08}", step)))
      if (name.ends_with(".safetensors")) found[name] = hash;
    return found;
  }
};

TEST(SpikesSlow, ARunSkipsThemAndResumesAcrossThem) {
  const SpikyRun tiny;
  const std::string on = "--optim.skip_spikes=3 ";
  const Ended ended = tiny.train("whole", on + "--run.save_every=1");
  const std::vector<std::int64_t> skipped = tiny.skipped("whole");
  ASSERT_FALSE(skipped.empty());
  EXPECT_NE(ended.err.find("| not applied: a spike of "), std::string::npos);
  for (const std::int64_t step : skipped) {
    EXPECT_GT(step, 16);
    EXPECT_EQ(tiny.tensors_at("whole", step), tiny.tensors_at("whole", step - 1)) << step;
    EXPECT_NE(tiny.tensors_at("whole", step + 1), tiny.tensors_at("whole", step)) << step;
  }

  tiny.train("off", "--run.save_every=0");
  EXPECT_TRUE(tiny.skipped("off").empty());
  EXPECT_NE(tiny.digest("off"), tiny.digest("whole"));
  tiny.train("watched", "--optim.skip_spikes=1e9 --run.save_every=0");
  EXPECT_EQ(tiny.digest("watched"), tiny.digest("off"));
  EXPECT_EQ(tiny.tensors("watched"), tiny.tensors("off"));

  // Stopped before, at and after a spike, and going on with weights that stream.
  const std::int64_t step = skipped.front();
  for (const std::int64_t last : {step - 5, step - 1, step, step + 2}) {
    const std::string out = fmt::format("cut-{}", last);
    tiny.train(out, fmt::format("{}--run.save_every=1 --fault train.step:kill@{}", on, last + 1),
               137);
    tiny.train(out, on + "--run.save_every=0 --plan.homes=host --plan.slots=2");
    EXPECT_EQ(tiny.digest(out), tiny.digest("whole")) << last;
    EXPECT_EQ(tiny.tensors(out), tiny.tensors("whole")) << last;
    EXPECT_EQ(tiny.skipped(out), skipped) << last;
  }

  // Without the statistics of before, a resumed run knows no spikes: they are of use.
  const std::string out = "forgotten";
  tiny.train(out, fmt::format("--run.save_every=1 --fault train.step:kill@{}", step), 137);
  const Ended begun = tiny.train(out, on + "--run.save_every=0 --change optim.skip_spikes");
  EXPECT_NE(begun.err.find("the statistics of optim.skip_spikes begin here"), std::string::npos)
      << begun.err;
  EXPECT_NE(tiny.skipped(out), skipped);
}

}  // namespace
}  // namespace sluice
