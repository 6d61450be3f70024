// Weights that stream from the host or a disk: whatever is at home there, evaluation and decoding
// give the bits of a resident model; the least budget runs, and one byte less is refused.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <optional>

#include "backend/disk/scratch_file.h"
#include "inference/generate.h"
#include "inference/placing.h"
#include "inference/staging.h"
#include "inference/test_model.h"
#include "program/test_mutants.h"

namespace sluice {
namespace {

constexpr std::int64_t context = 24, rows = 2;
constexpr int micro_batches = 3;

ModelConfig config_of(const std::string& family) {
  ModelConfig config = small_model(family, context);
  config.layers = 5;
  return config;
}

ProgramSpec spec_of(const std::string& family, DType precision = DType::f32) {
  InferenceOptions options;
  options.evaluation = {2, context};
  options.head_chunk = 16;
  options.rows = rows;
  options.precision = precision;
  options.build.eval_micro_batches = micro_batches;
  options.build.workers.threads = 2;
  return inference_spec(config_of(family), standard_parametrization(), options);
}

ProgramSet programs_of(ProgramSpec spec, const std::string& homes, int slots) {
  PlanConfig plan;
  plan.homes = homes;
  plan.slots = slots;
  spec.options.homes = place_weights(spec, plan).parsed;
  return build_programs(spec);
}

struct Outcome {
  std::vector<double> stats;  // of two evaluations
  std::vector<std::vector<std::vector<float>>> pieces, tokens;
  bool operator==(const Outcome& other) const {
    const auto same = [](const auto& a, const auto& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
    };
    const auto same_logits = [&](const auto& a, const auto& b) {
      for (std::size_t row = 0; row < a.size(); ++row)
        for (std::size_t token = 0; token < a[row].size(); ++token)
          if (!same(a[row][token], b[row][token])) return false;
      return a.size() == b.size();
    };
    return same(stats, other.stats) && same_logits(pieces, other.pieces) &&
           same_logits(tokens, other.tokens);
  }
};

void fill_weights(Executor& executor) {
  const ModelGraphs& model = *executor.programs().model;
  for (int layer = 0; layer < model.layer_count(); ++layer)
    for (const Parameter& p : model.of(model.kind_of(layer)).parameters) {
      const Tensor tensor = executor.tensor(layer, p.name);
      const std::uint64_t stream = stream_of(p.name) + static_cast<std::uint64_t>(layer);
      for (std::int64_t i = 0; i < p.count(); ++i) {
        const float drawn = 0.15F * random_normal(3, stream, static_cast<std::uint64_t>(i)) +
                            (p.init.kind == Init::Kind::ones ? 1.0F : 0.0F);
        if (tensor.dtype() == DType::bf16)
          tensor.data<bf16>()[i] = bf16(drawn);
        else
          tensor.data<float>()[i] = drawn;
      }
    }
  executor.enqueue(executor.programs().index_of("derive"), {});
}

// Evaluation, decoding in pieces and token by token, evaluation again; copies late and memory
// poisoned.
Outcome outcome_of(const std::string& family, ProgramSet programs, std::uint64_t seed = 1) {
  CpuBackend backend({2, best_isa()});
  const auto set = std::make_shared<const ProgramSet>(std::move(programs));
  Faults none;
  std::optional<ScratchFile> scratch;
  if (const std::int64_t bytes = set->memory.disk_bytes(); bytes > 0)
    scratch.emplace(std::filesystem::temp_directory_path().string(), bytes, none);
  Executor executor(
      backend, set,
      {.poison = true, .poison_seed = seed, .scratch = scratch ? &*scratch : nullptr});
  fill_weights(executor);
  executor.drain();
  Outcome out;
  const ModelConfig config = config_of(family);
  const auto evaluate = [&](std::uint64_t batch) {
    Staging staging(set->named("eval").batch, micro_batches);
    for (int micro = 0; micro < micro_batches; ++micro) {
      const BatchView view = staging.view(micro);
      const std::vector<std::int32_t> ids = random_ids(
          static_cast<std::int64_t>(view.ids.size()) + 1, config.vocab, batch + 10u * micro);
      for (std::size_t i = 0; i < view.ids.size(); ++i) {
        view.ids[i] = ids[i];
        view.targets[i] = ids[i + 1];
        view.positions[i] = static_cast<std::int32_t>(i % context);
        view.weights[i] = 1;
      }
    }
    executor.wait(executor.enqueue(set->index_of("eval"), staging.blocks()));
    const Tensor stats = executor.global("stats", DType::f64, {{Axis::scalar, 2}});
    out.stats.insert(out.stats.end(), stats.data<double>(), stats.data<double>() + 2);
  };
  evaluate(1);
  Generator generator(executor, config, rows);
  const std::vector<std::vector<std::int32_t>> prompts{random_ids(9, config.vocab, 2),
                                                       random_ids(4, config.vocab, 3)};
  out.pieces = generator.all_logits(prompts, false);
  out.tokens = generator.all_logits(prompts, true);
  evaluate(2);
  return out;
}

TEST(StreamedSlow, WeightsChangeNoBits) {
  for (const auto& [family, precision] :
       {std::pair{"gpt2", DType::f32}, {"gptj", DType::bf16}, {"gpt2", DType::bf16}}) {
    const ProgramSpec spec = spec_of(family, precision);
    const Outcome resident = outcome_of(family, programs_of(spec, "device", 3));
    EXPECT_TRUE(std::isfinite(resident.stats[0]) && resident.stats[0] > 0);
    EXPECT_NE(resident.stats[0], resident.stats[2]);
    for (const char* homes : {"host", "weights@1-3=host", "host,weights@2=device",
                              "host,@ends=host", "weights@ends=host", "host,@embedding=host",
                              "disk", "disk,@ends=disk", "host,@head=disk"})
      for (const int slots : {2, 3, 5})
        EXPECT_TRUE(outcome_of(family, programs_of(spec, homes, slots), 7u * slots) == resident)
            << family << " " << homes << " " << slots;
  }
}

// What is wrong shows in the bits: a copy left out, a copy of another layer's weights.
TEST(Streamed, AWrongCopyChangesThem) {
  const ProgramSpec spec = spec_of("gpt2");
  const Outcome resident = outcome_of("gpt2", programs_of(spec, "device", 3));
  const ProgramSet right = programs_of(spec, "host", 2);
  ASSERT_TRUE(outcome_of("gpt2", right) == resident);
  int mistakes = 0;
  for (const char* name : {"eval", "prefill", "decode"}) {
    const auto index = static_cast<std::size_t>(right.index_of(name));
    const std::vector<Action>& actions = right.programs[index].actions;
    for (std::size_t a = 0; a < actions.size(); ++a) {
      if (actions[a].phase != Phase::fetch) continue;
      ProgramSet dropped = right, swapped = right;
      dropped.programs[index].actions[a].bytes = 0;
      Action& other = swapped.programs[index].actions[a];
      const int layer = other.layer % 5 + 1;  // another block
      other.from = right.memory.total() + right.residency->home(layer, Kind::weights);
      if (++mistakes % 4 != 1) continue;  // a few of them are enough
      EXPECT_FALSE(outcome_of("gpt2", dropped) == resident) << name << " " << a;
      EXPECT_FALSE(outcome_of("gpt2", swapped) == resident) << name << " " << a;
    }
  }
  EXPECT_EQ(mistakes, 15);
}

TEST(Streamed, TheValidatorKnowsTheWaits) {
  ProgramSet set = programs_of(spec_of("gptj"), "host", 2);
  validate(set);
  int waits = 0, refused = 0, others = 0;
  for (const char* name : {"eval", "prefill", "decode"}) {
    Program& program = set.programs[static_cast<std::size_t>(set.index_of(name))];
    for (std::size_t a = 0; a < program.actions.size(); ++a) {
      Action& action = program.actions[a];
      for (std::size_t w = 0; w < action.waits.size(); ++w, ++waits) {
        const Wait wait = action.waits[w];
        action.waits.erase(action.waits.begin() + static_cast<std::ptrdiff_t>(w));
        try {
          validate(set);
          EXPECT_TRUE(testing::implied(set, program, static_cast<int>(a), wait))
              << name << " " << a;
          ++others;
        } catch (const Error&) {
          ++refused;
        }
        action.waits.insert(action.waits.begin() + static_cast<std::ptrdiff_t>(w), wait);
      }
    }
  }
  std::printf("%d waits, %d of them needed alone, %d implied by others\n", waits, refused, others);
  EXPECT_EQ(refused + others, waits);
  EXPECT_GE(refused, 24);
  validate(set);
}

TEST(Streamed, BudgetsAreKept) {
  const ProgramSpec spec = spec_of("gpt2");
  PlanConfig plan;
  const auto device = [&] {
    ProgramSpec placed = spec;
    placed.options.homes = place_weights(spec, plan).parsed;
    return build_programs(placed).memory.total();
  };
  const std::int64_t most = device(), least = least_device_bytes(spec, plan);
  ASSERT_LT(least, most);
  std::vector<std::string> homes;
  for (const std::int64_t budget : {most, most - 1, (most + least) / 2, least}) {
    plan.device_memory = budget;
    EXPECT_LE(device(), budget);
    homes.push_back(place_weights(spec, plan).homes);
  }
  EXPECT_EQ(homes.front(), "device");
  EXPECT_EQ(homes.back(), "weights=host,weights@ends=host");
  EXPECT_EQ(place_weights(spec, plan).slots, 2);
  const Outcome resident = outcome_of("gpt2", programs_of(spec, "device", 3));
  EXPECT_TRUE(outcome_of("gpt2", programs_of(spec, homes.back(), 2)) == resident);

  plan.device_memory = least - 1;
  try {
    device();
    FAIL() << "one byte less than the least";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::memory);
    EXPECT_EQ(e.report().expected, fmt::format("at least {} bytes", least));
  }
  plan.device_memory = 0;
  plan.homes = "host";
  plan.host_memory = 1;
  EXPECT_THROW(device(), Error);
}

}  // namespace
}  // namespace sluice
