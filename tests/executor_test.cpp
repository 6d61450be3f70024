// The executor with the CPU backend on whole small models: it learns, its bits depend on nothing
// that is free to change, and poison mode sees what the validator would have refused.
#include "executor/executor.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <thread>

#include "backend/cpu/cpu.h"
#include "backend/null/null.h"
#include "core/hash.h"
#include "graph/initial.h"
#include "tiny_models.h"

namespace sluice {
namespace {

using testing::tiny_programs;
using testing::TinyPlan;

using Block = std::vector<std::byte>;

// One micro-batch of rows that count upwards by 7: what comes next can be learnt.
Block batch_block(const BatchLayout& layout, int step, int micro, double lr) {
  Block block(static_cast<std::size_t>(layout.bytes));
  const auto put = [&](const char* field, std::int64_t i, auto value) {
    std::memcpy(
        block.data() + layout.find(field)->offset + i * static_cast<std::int64_t>(sizeof value),
        &value, sizeof value);
  };
  for (std::int64_t i = 0; i < 2 * 16; ++i) {
    const auto t = static_cast<std::int32_t>(i % 16);
    const std::int32_t id =
        (13 * step + 29 * micro + 5 * static_cast<std::int32_t>(i / 16)) + 7 * t;
    put("ids", i, id % 61);
    put("targets", i, (id + 7) % 61);
    put("positions", i, t);
    put("starts", i, std::int32_t{0});
    put("weights", i, 1.0f);
  }
  put("control", Control::lr, lr);
  put("control", Control::step, static_cast<double>(step + 1));
  return block;
}

std::shared_ptr<const ProgramSet> shared(ProgramSet set) {
  return std::make_shared<const ProgramSet>(std::move(set));
}

// An executor with initial weights, and batches for some steps.
class Training {
 public:
  Training(const std::shared_ptr<const ProgramSet>& set, int threads, ExecutorOptions options,
           int steps = 20)
      : backend_({.threads = threads, .isa = best_isa()}),
        executor_(backend_, set, with_scratch(options, *set)) {
    const Program& steady = set->named("steady");
    for (int step = 0; step < steps; ++step) {
      staging_.emplace_back();
      for (int micro = 0; micro < steady.micro_batches; ++micro)
        staging_.back().push_back(batch_block(steady.batch, step, micro, 3e-3));
    }
    for_each_weight([&](int layer, const Parameter& p) {
      fill_initial(executor_.tensor(layer, p.name), {}, p, fmt::format("{}.{}", layer, p.name), 1,
                   standard_parametrization());
    });
    executor_.enqueue(set->index_of("derive"), {});
  }

  Executor::Ticket step() {
    const auto s = static_cast<std::size_t>(next_++);
    std::vector<const std::byte*> pointers;
    for (const Block& block : staging_[s]) pointers.push_back(block.data());
    return executor_.enqueue(executor_.programs().index_of(s == 0 ? "first" : "steady"), pointers);
  }
  void flush() {
    executor_.enqueue(executor_.programs().index_of("flush"), {});
    executor_.drain();
  }
  std::uint64_t run(int steps, bool wait_each = false) {
    for (int i = 0; i < steps; ++i) {
      const Executor::Ticket ticket = step();
      if (wait_each) executor_.wait(ticket);
    }
    flush();
    return digest();
  }
  std::uint64_t digest() const {
    std::uint64_t hash = 0;
    for_each_weight([&](int layer, const Parameter& p) {
      const Tensor w = executor_.tensor(layer, p.name);
      hash = hash64(w.raw(), static_cast<std::size_t>(w.bytes()), hash);
    });
    return hash;
  }
  double loss() const {  // of the last step; nothing is in flight
    const Tensor results =
        executor_.global("results", DType::f64, {{Axis::scalar, 2 * Results::slots}});
    return results.data<double>()[next_ % 2 * Results::slots + Results::loss];
  }
  Executor& executor() { return executor_; }
  Block& block(int step, int micro) {
    return staging_[static_cast<std::size_t>(step)][static_cast<std::size_t>(micro)];
  }

 private:
  template <class Visit>
  void for_each_weight(Visit visit) const {
    const ModelGraphs& model = *executor_.programs().model;
    for (int layer = 0; layer < model.layer_count(); ++layer)
      for (const Parameter& p : model.of(model.kind_of(layer)).parameters) visit(layer, p);
  }

  ExecutorOptions with_scratch(ExecutorOptions options, const ProgramSet& set) {
    if (options.scratch == nullptr && set.memory.disk_bytes() > 0)
      options.scratch = &scratch_.emplace(std::filesystem::temp_directory_path().string(),
                                          set.memory.disk_bytes(), faults_);
    return options;
  }

  CpuBackend backend_;
  Faults faults_;
  std::optional<ScratchFile> scratch_;
  Executor executor_;
  std::vector<std::vector<Block>> staging_;
  int next_ = 0;
};

std::uint64_t digest_of(const TinyPlan& plan, ExecutorOptions options = {}, bool wait_each = false,
                        int steps = 6) {
  return Training(shared(tiny_programs(plan)), plan.threads, options).run(steps, wait_each);
}

TEST(Executor, a_small_model_learns) {
  for (const char* family : {"gpt2", "gptj"}) {
    Training training(shared(tiny_programs({.family = family})), 1, {});
    std::vector<double> losses;
    for (int i = 0; i < 20; ++i) {
      training.executor().wait(training.step());
      losses.push_back(training.loss());
    }
    EXPECT_NEAR(losses.front(), std::log(61.0), 0.3) << family;
    EXPECT_LT(losses.back(), losses.front() - 0.5) << family;
  }
}

TEST(Executor, same_bits_whatever_is_free_to_change) {
  const std::uint64_t digest = digest_of({});
  EXPECT_EQ(digest_of({}, {.poison = true, .poison_seed = 7}), digest) << "poison";
  for (const int threads : {2, 3})
    EXPECT_EQ(digest_of({.threads = threads}), digest) << threads << " threads";
  for (const Recompute level : {Recompute::selective, Recompute::block}) {
    EXPECT_EQ(digest_of({.recompute = level}), digest) << name_of(level);
    EXPECT_EQ(digest_of({.recompute = level}, {.poison = true}), digest) << name_of(level);
  }
  EXPECT_EQ(digest_of({.fuse = false}), digest) << "unfused";
  EXPECT_EQ(digest_of({}, {}, true), digest) << "the host waits for each step";
  for (const int passes : {1, 2, 3})
    EXPECT_EQ(digest_of({.passes = passes}, {.poison = true, .poison_seed = 5}), digest)
        << passes << " passes";
  for (const char* homes : {"host", "optimizer=host", "gradients=host", "weights=host", "disk",
                            "optimizer=disk,weights=host"})
    for (const int passes : {0, 1, 2})
      EXPECT_EQ(digest_of({.passes = passes, .homes = homes, .slots = 2},
                          {.poison = true, .poison_seed = 5}),
                digest)
          << homes << " " << passes << " passes";
  // Negative controls: another step, another batch.
  EXPECT_NE(digest_of({}, {}, false, 5), digest);
  Training other(shared(tiny_programs({})), 1, {});
  other.block(5, 2)[0] =
      std::byte{static_cast<unsigned char>(static_cast<unsigned char>(other.block(5, 2)[0]) ^ 1u)};
  EXPECT_NE(other.run(6), digest);
}

// Copies of 200 runs take as long as they like: float32 gradients and packed ones, one pass and
// several, with the stash in host memory and without.
TEST(ExecutorSlow, no_delay_of_a_copy_shows) {
  const GradientFormat formats[] = {GradientFormat::f32, GradientFormat::bf16,
                                    GradientFormat::int8};
  const char* const homes[] = {"host", "disk", "disk,weights@1=host,gradients@2=device"};
  const auto plan = [](const char* where, GradientFormat format) {
    return TinyPlan{.passes = 1, .layers = 4, .homes = where, .slots = 2, .gradients = format};
  };
  std::set<std::uint64_t> digests;
  int runs = 0;
  for (const GradientFormat format : formats) {
    const std::uint64_t digest = digest_of(plan("device", format), {}, false, 3);
    digests.insert(digest);
    for (std::uint64_t seed = 0; seed < 67; ++seed, ++runs) {
      TinyPlan one = plan(homes[seed % 3], format);
      one.passes = seed / 3 % 3 == 0 ? 2 : 1;
      one.spill = seed % 2 == 0;
      EXPECT_EQ(digest_of(one, {.poison = true, .poison_seed = seed}, false, 3), digest)
          << name_of(format) << ", " << one.homes << ", seed " << seed;
    }
    EXPECT_NE(digest_of(plan("disk", format), {}, false, 4), digest);
  }
  EXPECT_GE(runs, 200);
  EXPECT_EQ(digests.size(), 3u);
}

TEST(Executor, gptj_has_the_same_bits_too) {
  const std::uint64_t digest = digest_of({.family = "gptj"});
  EXPECT_EQ(digest_of({.family = "gptj", .recompute = Recompute::block, .threads = 2},
                      {.poison = true, .poison_seed = 3}),
            digest);
  EXPECT_EQ(digest_of({.family = "gptj", .recompute = Recompute::selective, .fuse = false}),
            digest);
}

// Gives the in lane time to overtake, in the middle of micro-batch 0.
class SlowForward final : public Observer {
 public:
  void after(const Program& program, int action, std::span<const Tensor>) override {
    const Action& a = program.actions[static_cast<std::size_t>(action)];
    if (a.phase == Phase::forward && a.micro == 0 && a.layer == program.model->layer_count() - 1)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
};

// What a run of the steady program without one wait shows: an Error's text, or its digest.
[[maybe_unused]] std::string without_waits(Phase phase, int layer, int micro, Observer* observer) {
  ProgramSet set = tiny_programs({});
  Program& steady = set.programs[static_cast<std::size_t>(set.index_of("steady"))];
  for (Action& action : steady.actions)
    if (action.phase == phase && action.layer == layer && action.micro == micro)
      action.waits.clear();
  Training training(shared(std::move(set)), 1,
                    {.poison = true, .poison_seed = 1, .observer = observer});
  try {
    return hex64(training.run(6));
  } catch (const Error& e) {
    return e.text();
  }
}

#ifndef __SANITIZE_THREAD__  // the race is made on purpose
TEST(Executor, poison_mode_sees_a_removed_wait) {
  SlowForward slow;
  const std::string good = hex64(digest_of({}));
  EXPECT_EQ(without_waits(Phase::load, 0, 99, &slow), good) << "no such action: nothing removed";
  EXPECT_NE(without_waits(Phase::forward, 0, 0, nullptr), good) << "reads before the load";
  EXPECT_NE(without_waits(Phase::load, 0, 2, &slow), good) << "loads into a slot that is read";
}
#endif

TEST(Executor, an_error_names_its_action) {
  Training training(shared(tiny_programs({})), 2, {});
  const std::int32_t bad = 9999;
  const BatchLayout& layout = training.executor().programs().named("steady").batch;
  std::memcpy(training.block(1, 1).data() + layout.find("ids")->offset, &bad, sizeof bad);
  training.executor().wait(training.step());
  const Executor::Ticket ticket = training.step();
  try {
    training.executor().wait(ticket);
    FAIL() << "id 9999 passed";
  } catch (const Error& e) {
    EXPECT_NE(e.text().find("9999"), std::string::npos) << e.text();
    ASSERT_FALSE(e.chain().empty());
    EXPECT_EQ(e.chain().front(), "forward embedding micro 1");
  }
  EXPECT_THROW(training.executor().drain(), Error) << "the run stays failed";
}

TEST(Executor, several_live_in_one_process) {
  const auto gpt2 = shared(tiny_programs({})), gptj = shared(tiny_programs({.family = "gptj"}));
  Training a(gpt2, 2, {}), b(gptj, 1, {});
  for (int i = 0; i < 6; ++i) {
    a.step();
    b.step();
  }
  a.flush();
  b.flush();
  EXPECT_EQ(a.digest(), digest_of({}));
  EXPECT_EQ(b.digest(), digest_of({.family = "gptj"}));
  EXPECT_NE(a.digest(), b.digest());
}

TEST(Executor, the_null_backend_needs_no_disk) {
  const auto set = shared(tiny_programs({.layers = 4, .homes = "disk", .slots = 2}));
  ASSERT_GT(set->memory.disk_bytes(), 0);
  NullBackend null;
  Executor executor(null, set, {});
  const std::vector<const std::byte*> staging(3, nullptr);
  for (const char* program : {"first", "steady", "steady", "flush"})
    executor.enqueue(set->index_of(program), staging);
  executor.drain();
  EXPECT_EQ(null.host_bytes_taken(), set->memory.host_bytes());
}

// A lane of the disk that fails: whoever waits hears of it, and the run stays failed.
TEST(Executor, a_disk_that_fails_names_its_action) {
  const auto set = shared(tiny_programs({.layers = 4, .homes = "disk", .slots = 2}));
  Faults faults = Faults::parse("scratch.write:eio@9+");
  ScratchFile scratch(std::filesystem::temp_directory_path().string(), set->memory.disk_bytes(),
                      faults);
  Training training(set, 1, {.scratch = &scratch});
  try {
    training.run(6);
    FAIL() << "nobody heard of it";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::disk);
    ASSERT_FALSE(e.chain().empty());
    EXPECT_TRUE(e.chain().front().starts_with("write ")) << e.chain().front();
  }
  EXPECT_THROW(training.executor().drain(), Error);
}

TEST(Executor, the_null_backend_walks_a_program_without_memory) {
  const auto set = shared(tiny_programs({}));
  NullBackend null;
  Executor executor(null, set, {});
  const std::vector<const std::byte*> staging(3, nullptr);
  executor.enqueue(set->index_of("first"), staging);
  for (int i = 0; i < 5; ++i) executor.enqueue(set->index_of("steady"), staging);
  executor.enqueue(set->index_of("flush"), {});
  executor.drain();
  EXPECT_EQ(null.bytes_taken(), set->memory.total());
  const auto ops_of = [&](const char* name) {
    std::int64_t ops = 0;
    const Program& program = set->named(name);
    for (const Action& action : program.actions)
      if (action.list >= 0)
        ops += static_cast<std::int64_t>(
            program.lists[static_cast<std::size_t>(action.list)].ops.size());
    return ops;
  };
  EXPECT_EQ(null.ops(), ops_of("first") + 5 * ops_of("steady") + ops_of("flush"));
}

}  // namespace
}  // namespace sluice
