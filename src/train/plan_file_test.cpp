#include "train/plan_file.h"

#include <gtest/gtest.h>

#include <random>

#include "train/assembly.h"
#include "train/fit.h"
#include "train/machine_fit.h"
#include "train/test_error.h"

namespace sluice {
namespace {

constexpr const char* tiny =
    "model = { layers = 4, width = 32, heads = 2, context = 32, vocab = 64 }\n"
    "batch = { tokens = 256, sequence = 32 }\n"
    "plan = { precision = \"bf16\", micro_batch = 2 }\n";

const PlanMachine here{"cpu", "a CPU", "avx2", 2, 1 << 30, 1 << 30};

Config config_with(const std::vector<std::string>& settings) {
  Config config = parse_config(tiny, "tiny.toml");
  apply_overrides(config, settings);
  check(config);
  return config;
}

Plan place(const Config& config) { return placed(config, plan_of(config), 2); }

// Every choice of a plan as a text, so that two can be compared.
std::string text_of(const Config& config, const Plan& plan) {
  const PlanFile file = plan_file(config, plan, here);
  std::string out = to_toml(file).substr(to_toml(file).find("[plan]"));
  out += fmt::format("{} micro-batches, packed {}, stash through {}", plan.micro_batches,
                     plan.packed, plan.spill_stash ? stash_slots_of(plan) : 0);
  for (const std::int64_t later : plan.later_micro_batches) out += fmt::format(", {}", later);
  return out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    out.push_back(text.substr(at, end - at + 1));
    at = end + 1;
  }
  return out;
}

TEST(PlanFile, SaysEveryChoice) {
  const Config config = config_with({"plan.device_memory=900_000", "plan.disk_path=there"});
  const Plan plan = place(config);
  const std::string text = to_toml(plan_file(config, plan, here));
  Config copy = config;
  const OptionTable table = table_of(copy);
  int options = 0;
  for (const Option& option : table.options()) {
    const std::size_t dot = option.key.find('.');
    const std::string section = option.key.substr(0, dot);
    if (section != "plan" && section != "model" && section != "batch") continue;
    const std::string name = option.key.substr(dot + 1) + " = ";
    const std::size_t at = text.find("\n" + name, text.find("[" + section + "]"));
    ASSERT_NE(at, std::string::npos) << option.key;
    const bool open = text.compare(at + 1 + name.size(), 6, "\"auto\"") == 0;
    // Budgets that nobody set, and what has a rule of its own.
    const bool may_be = option.key.ends_with("_memory") || option.key.ends_with("passes") ||
                        option.key.starts_with("model.init.");
    EXPECT_TRUE(!open || may_be) << option.key;
    ++options;
  }
  EXPECT_EQ(options, 17 + 3 + 18);
}

TEST(PlanFile, OfAGpuNamesItAndIsRefusedForAnother) {
  const PlanMachine gpu{"cuda", "NVIDIA H200", "", 1, std::int64_t{1} << 37, 1 << 30};
  const Config config = config_with({"plan.device=cuda:0"});
  const PlanFile file = parse_plan_file(to_toml(plan_file(config, place(config), gpu)), "gpu.toml");
  EXPECT_EQ(with_plan(config_with({}), file).plan.device, "cuda:0");
  EXPECT_NO_THROW(require_made_for(file, gpu));
  PlanMachine other = gpu;
  other.model = "NVIDIA H100";
  for (const PlanMachine& machine : {here, other})
    EXPECT_THROW(require_made_for(file, machine), Error) << machine.model;
}

// Whatever was asked for, the file makes the same plan of a config that asks for nothing; and
// without the file it is another one.
TEST(PlanFile, MakesTheSamePlan) {
  std::mt19937 random(7);
  const auto one_of = [&](std::initializer_list<const char*> words) {
    return std::string(words.begin()[random() % words.size()]);
  };
  const Config open = config_with({});
  const std::string otherwise = text_of(open, place(open));
  int plans = 0, others = 0, wide = 0;
  for (int i = 0; i < 300; ++i) {
    std::vector<std::string> asked = {
        "plan.micro_batch=" + one_of({"1", "2", "4"}),
        "plan.schedule=" + one_of({"auto", "auto", "layer-major", "micro-batch-major"}),
        "plan.recompute=" + one_of({"auto", "auto", "none", "selective", "block"}),
        "plan.stash=" + one_of({"auto", "kept", "spilled"}),
        "plan.slots=" + one_of({"auto", "2", "3", "5"}),
        "plan.homes=" + one_of({"auto", "auto", "host", "disk", "optimizer=host,weights@1-2=disk"}),
        "plan.state=" + one_of({"auto", "exact", "compact"}),
        "plan.gradients=" + one_of({"auto", "bf16", "int8"}),
        "plan.attention=" + one_of({"auto", "own", "cudnn", "cudnn-unordered"}),
        "plan.head_chunk=" + one_of({"auto", "16"}),
        "plan.device_memory=" + one_of({"auto", "800_000", "900_000", "1_000_000", "1_200_000"}),
        "plan.host_memory=" + one_of({"auto", "auto", "600_000"})};
    if (i % 3 == 0) asked.push_back("batch.ramp=1024:512");
    try {
      const Config config = config_with(asked);
      const Plan plan = place(config);
      const std::string text = to_toml(plan_file(config, plan, here));
      const PlanFile file = parse_plan_file(text, "p.toml");
      EXPECT_EQ(to_toml(file), text);
      Config bare = config_with({});
      bare.batch = config.batch;
      const Config again = with_plan(bare, file);
      require_made_for(file, again);
      require_made_for(file, here);
      EXPECT_EQ(text_of(again, place(again)), text_of(config, plan)) << text;
      ++plans;
      wide += text.find("stash = \"spilled@") != std::string::npos ? 1 : 0;
      others += text_of(config, plan) != otherwise ? 1 : 0;
    } catch (const Error& e) {  // what was asked for makes no plan
      EXPECT_TRUE(e.code() == Exit::memory || e.code() == Exit::usage) << e.text();
    }
  }
  EXPECT_GT(plans, 100);
  EXPECT_GT(wide, 5);
  EXPECT_GT(others, 90);
}

TEST(PlanFile, OfAMachineMakesTheSamePlan) {
  for (const char* name : {"h200x4-one", "rtx4090-64g"}) {
    const Machine machine = load_machine(name);
    const Config asked = load_config("gptj-6b"), config = on_machine(asked, machine);
    const Plan plan = fastest(config, plan_of(config, machine), machine, 1);
    const PlanMachine on = plan_machine(machine, 1);
    const PlanFile file = parse_plan_file(to_toml(plan_file(config, plan, on)), "p.toml");
    const Config again = on_machine(with_plan(asked, file), machine);
    require_made_for(file, again);
    require_made_for(file, on);
    EXPECT_EQ(text_of(again, fastest(again, plan_of(again, machine), machine, 1)),
              text_of(config, plan));
  }
}

TEST(PlanFile, WhatIsMissingUnknownOrOfAnotherVersionIsNamed) {
  const Config config = config_with({});
  const std::string text = to_toml(plan_file(config, place(config), here));
  const std::vector<std::string> lines = lines_of(text);
  std::string section;
  int removed = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i][0] == '[') section = lines[i].substr(1, lines[i].find(']') - 1) + ".";
    const std::size_t equals = lines[i].find(" = ");
    if (lines[i][0] == '#' || equals == std::string::npos) continue;
    std::string without;
    for (std::size_t j = 0; j < lines.size(); ++j)
      if (j != i) without += lines[j];
    const std::string key = section + lines[i].substr(0, equals);
    if (key == "plan.blobs") {  // files of before it was there
      EXPECT_EQ(parse_plan_file(without, "p.toml").plan.blobs, "layer");
      EXPECT_EQ(parse_plan_file(without, "p.toml").place(key), "p.toml plan.blobs");
      continue;
    }
    const std::string error = error_of([&] { parse_plan_file(without, "p.toml"); });
    EXPECT_NE(error.find(key == "version" ? "version" : "does not say " + key), std::string::npos)
        << error;
    ++removed;
  }
  EXPECT_EQ(removed, 1 + 17 + 3 + 6 + 17);
  const std::string unknown = error_of([&] { parse_plan_file(text + "slotz = 3\n", "p.toml"); });
  EXPECT_NE(unknown.find("no option is called plan.slotz"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("a key of plan files"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("try: plan.slots"), std::string::npos) << unknown;
  // Another version may have other keys: the version is what is told.
  std::string later = text + "slotz = 3\n";
  later.replace(later.find("version = 1"), 11, "version = 2");
  EXPECT_NE(error_of([&] { parse_plan_file(later, "p.toml"); }).find("of another version"),
            std::string::npos);
}

TEST(PlanFile, IsRefusedForWhatItWasNotMadeFor) {
  const Config config = config_with({});
  const PlanFile file = parse_plan_file(to_toml(plan_file(config, place(config), here)), "p.toml");
  require_made_for(file, config);
  require_made_for(file, config.model);
  for (const char* change :
       {"model.layers=5", "model.width=64", "model.heads=4", "model.context=64", "model.vocab=65",
        "model.tied=false", "model.dropout=0.1", "model.inner=64", "batch.tokens=128",
        "batch.sequence=16", "batch.ramp=1024:512"}) {
    const std::string key = std::string(change).substr(0, std::string(change).find('='));
    const Config other = config_with({change, "plan.micro_batch=1"});
    const std::string error = error_of([&] { require_made_for(file, other); });
    EXPECT_NE(error.find("p.toml:"), std::string::npos) << error;
    EXPECT_NE(error.find(" " + key + "\n"), std::string::npos) << error;
    EXPECT_NE(error.find("found: " + key + " = "), std::string::npos) << error;
  }
  // What changes no sizes does not matter to a model that is used only.
  require_made_for(file, config_with({"model.dropout=0.1", "model.context=64"}).model);
  EXPECT_THROW(require_made_for(file, config_with({"model.layers=5"}).model), Error);
  PlanMachine other = here;
  require_made_for(file, other);
  other.memory += 1, other.host_memory += 1;
  require_made_for(file, other);
  const auto refused = [&](auto change, const std::string& key) {
    PlanMachine machine = here;
    change(machine);
    const std::string error = error_of([&] { require_made_for(file, machine); });
    EXPECT_NE(error.find("made for another machine"), std::string::npos) << error;
    EXPECT_NE(error.find(" machine." + key + "\n"), std::string::npos) << error;
  };
  refused([](PlanMachine& m) { m.device = "cuda"; }, "device");
  refused([](PlanMachine& m) { m.model = "b"; }, "model");
  refused([](PlanMachine& m) { m.isa = "avx512"; }, "isa");
  refused([](PlanMachine& m) { m.threads = 3; }, "threads");
  refused([](PlanMachine& m) { --m.memory; }, "memory");
  refused([](PlanMachine& m) { --m.host_memory; }, "host_memory");
}

// A run that goes on: the plan is that of its beginning, but for what the command line says now.
TEST(PlanFile, ARunKeepsItsPlan) {
  const Config began = config_with({"plan.device_memory=900_000"});
  const Plan plan = place(began);
  const PlanFile kept = parse_plan_file(to_toml(plan_file(began, plan, here)), "plan.toml");
  const Config plain = config_with({});
  EXPECT_NE(text_of(plain, place(plain)), text_of(began, plan));

  KeptPlan same = with_kept(plain, kept, here);
  EXPECT_FALSE(same.planned_anew);
  EXPECT_TRUE(same.messages.empty());
  EXPECT_EQ(text_of(same.config, place(same.config)), text_of(began, plan));
  EXPECT_EQ(same.config.place("plan.homes").substr(0, 10), "plan.toml:");

  // Said on the command line: the rest of what is free is planned for it.
  const Config other = config_with({"plan.device_memory=1_200_000"});
  const KeptPlan anew = with_kept(other, kept, here);
  EXPECT_TRUE(anew.planned_anew);
  EXPECT_EQ(text_of(anew.config, place(anew.config)), text_of(other, place(other)));

  // Said in the config's file: the run's plan stays, and a person is told.
  Config in_file = parse_config(std::string(tiny) + "[run]\nseed = 0\n", "tiny.toml");
  in_file.plan.recompute = plan.recompute == Recompute::block ? "none" : "block";
  in_file.places["plan.recompute"] = "tiny.toml:9";
  const KeptPlan told = with_kept(in_file, kept, here);
  EXPECT_EQ(text_of(told.config, place(told.config)), text_of(began, plan));
  ASSERT_EQ(told.messages.size(), 1U);
  EXPECT_NE(told.messages[0].find("tiny.toml:9 plan.recompute"), std::string::npos);

  // Numerics that are said count as said: the run's key decides about them.
  EXPECT_EQ(with_kept(config_with({"plan.state=compact"}), kept, here).config.plan.state,
            "compact");
  EXPECT_EQ(same.config.plan.state, "exact");

  PlanMachine smaller = here;
  smaller.memory /= 2;
  const KeptPlan moved = with_kept(plain, kept, smaller);
  EXPECT_TRUE(moved.planned_anew);
  ASSERT_EQ(moved.messages.size(), 1U);
  EXPECT_NE(moved.messages[0].find("machine.memory"), std::string::npos);
  EXPECT_EQ(text_of(moved.config, place(moved.config)), text_of(plain, place(plain)));
}

std::string edited(const std::string& text, std::mt19937& random) {
  static constexpr std::string_view bytes =
      "0123456789\"=[]{}#.,-_ \n\\aeinx\x80\xff\0"
      "u";
  std::string out = text;
  for (int edits = 1 + static_cast<int>(random() % 3); edits > 0; --edits) {
    // Half of them where a value begins.
    const std::size_t any = random() % out.size(), value = out.find(" = ", any);
    const bool there = random() % 2 == 0 && value != std::string::npos;
    const std::size_t at = there ? std::min(value + 3 + random() % 3, out.size() - 1) : any;
    switch (random() % 5) {
      case 0:
        out[at] = bytes[random() % bytes.size()];
        break;
      case 1:
        out.erase(at, 1 + random() % 4);
        break;
      case 2:
        out.insert(at, 1, bytes[random() % bytes.size()]);
        break;
      case 3:
        out.insert(at, out.substr(random() % out.size(), random() % 30));
        break;
      default:
        out = out.substr(0, at) + out.substr(std::min(out.size(), at + random() % 80));
    }
    if (out.empty()) out = " ";
  }
  return out;
}

// Whatever somebody makes of the file: a clear error, or a plan that is what the file says.
TEST(PlanFile, RandomEditsGiveAnErrorOrThePlanThatIsThere) {
  const Config config = config_with({"plan.device_memory=900_000"});
  const Plan plan = place(config);
  const PlanFile whole = plan_file(config, plan, here);
  const std::string text = to_toml(whole), as_planned = text_of(config, plan);
  std::mt19937 random(11);
  int refused = 0, same = 0, others = 0;
  for (int i = 0; i < 6000; ++i) {
    const std::string edit = edited(text, random);
    try {
      const PlanFile file = parse_plan_file(edit, "p.toml");
      EXPECT_EQ(to_toml(parse_plan_file(to_toml(file), "again")), to_toml(file)) << edit;
      const Config again = with_plan(config, file);
      require_made_for(file, again);
      require_made_for(file, here);
      check(again);
      const Plan made = place(again);
      const std::string now = text_of(again, made);
      // The same words, the same plan; other words, a plan of those words.
      const bool same_words = to_toml(file) == text;
      if (same_words) {
        EXPECT_EQ(now, as_planned) << edit;
      }
      ++(same_words ? same : others);
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == Exit::usage || e.code() == Exit::memory) << e.text();
      EXPECT_FALSE(e.report().what.empty() || e.report().where.empty()) << e.text();
      EXPECT_NE(e.report().where.find("p.toml"), std::string::npos) << e.text() << edit;
      ++refused;
    }
  }
  EXPECT_GT(refused, 2000);
  EXPECT_GT(same, 500);
  EXPECT_GT(others, 20);
}

}  // namespace
}  // namespace sluice
