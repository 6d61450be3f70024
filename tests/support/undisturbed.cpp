#include "support/undisturbed.h"

#include <signal.h>

#include <chrono>
#include <random>
#include <set>
#include <thread>

namespace sluice::testing_support {
namespace {

using Seconds = std::chrono::duration<double>;

std::set<std::string> files_of(const TinyRun& tiny, const std::string& out) {
  std::set<std::string> names;
  for (const auto& [name, hash] : contents_of(tiny.path(out)))
    if (!name.ends_with(".old")) names.insert(name);
  return names;
}

void expect_same_bits(const TinyRun& tiny, const std::string& out, const std::string& undisturbed,
                      const std::string& why) {
  EXPECT_EQ(tiny.digest(out), tiny.digest(undisturbed)) << why;
  EXPECT_EQ(tiny.tensors(out), tiny.tensors(undisturbed)) << why;
}

struct Kill {
  std::string point;
  int visits;  // in one run of four saves: every count up to it is reached
};

void kill_in_save(const TinyRun& tiny, const std::string& out, const Kill& point, unsigned random) {
  const unsigned count = 1 + random % static_cast<unsigned>(point.visits);
  const std::string fault = point.point + ":kill@" + std::to_string(count);
  SCOPED_TRACE(out + " " + fault);
  std::printf("%s: %s\n", out.c_str(), fault.c_str());
  tiny.train(out, "--fault " + fault, 137);
  tiny.train(out);
  expect_whole(tiny, out, "whole");
}

// False: the run was quicker than the clock.
bool kill_after(const TinyRun& tiny, const std::string& out, double seconds) {
  SCOPED_TRACE(out + " after " + std::to_string(seconds) + " s");
  Process process(tiny.train_command(out), tiny.path());
  std::this_thread::sleep_for(Seconds(seconds));
  process.signal(SIGKILL);
  const bool killed = process.wait().exit == 137;
  if (killed) std::printf("%s: after %.3f s\n", out.c_str(), seconds);
  tiny.train(out);
  expect_whole(tiny, out, "whole");
  return killed;
}

}  // namespace

void expect_whole(const TinyRun& tiny, const std::string& out, const std::string& undisturbed) {
  expect_same_bits(tiny, out, undisturbed, out);
  EXPECT_EQ(tiny.steps(out), tiny.steps(undisturbed)) << out;
  EXPECT_EQ(files_of(tiny, out), files_of(tiny, undisturbed)) << out;
}

void expect_resumes_at(const TinyRun& tiny, std::initializer_list<int> points, int steps) {
  tiny.train("whole");
  for (const int step : points) {
    const std::string out = "cut-" + std::to_string(step);
    tiny.train(out, "--run.save_every=1 --fault train.step:kill@" + std::to_string(step + 1), 137);
    const Ended resumed = tiny.train(out);
    EXPECT_NE(resumed.err.find("at step " + std::to_string(step)), std::string::npos)
        << resumed.err;
    expect_same_bits(tiny, out, "whole", out);
    EXPECT_EQ(tiny.steps(out), steps_to(steps));
  }
}

void expect_free_options_change_no_bits(const TinyRun& tiny, const std::string& longer,
                                        std::initializer_list<const char*> others) {
  tiny.train("whole");
  for (const char* options :
       {"--run.save_every=5",
        "--run.save_every=0 --run.validate_every=0",
        "--run.threads=2",
        "--run.threads=3",
        "--plan.recompute=block",
        "--plan.recompute=selective",
        "--plan.schedule=layer-major",
        "--plan.homes=host --plan.slots=2",
        "--plan.stash=spilled",
        "--plan.stash=spilled --plan.homes=host --plan.recompute=block --run.poison=true",
        "--plan.homes=optimizer=host,weights@1=host --plan.schedule=layer-major --plan.passes=2",
        "--plan.homes=disk --plan.slots=2",
        "--plan.blobs=parts",
        "--plan.blobs=parts --plan.homes=disk,@ends=host --plan.slots=2 --plan.recompute=block",
        "--plan.homes=disk,weights=host,gradients@1=device --plan.disk_path=. --run.poison=true",
        "--run.poison=true",
        "--plan.homes=gradients=host --run.poison=true --run.threads=2",
        "--run.log_hashes=true",
        "--run.keep_last=1",
        "--trace 2",
        "--run.sample_every=2 --run.sample_prompt=Gate"}) {
    tiny.train("other", options);
    expect_same_bits(tiny, "other", "whole", options);
    std::filesystem::remove_all(tiny.path("other"));
  }
  ASSERT_EQ(tiny.run("mkdir far; for f in corpus*; do mv $f far/moved${f#corpus}; done").exit, 0);
  tiny.train("deep/in/folders",
             "--data.train=far/moved --data.validation=far/moved-val --run.name=another");
  expect_same_bits(tiny, "deep/in/folders", "whole", "moved data");

  // And what is not free does.
  std::vector<std::string> controls{"--run.seed=1", "--optim.lr=2.9e-3", longer};
  controls.insert(controls.end(), others.begin(), others.end());
  for (const std::string& options : controls) {
    tiny.train("other", "--data.train=far/moved --data.validation= " + options);
    EXPECT_NE(tiny.tensors("other"), tiny.tensors("whole")) << options;
    std::filesystem::remove_all(tiny.path("other"));
  }
}

void expect_survives_kills(const TinyRun& tiny, unsigned seed, int in_saves, int by_clock) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::printf("kills with seed %u\n", seed);
  std::mt19937 random(seed);
  const auto begin = std::chrono::steady_clock::now();
  tiny.train("whole");
  const double whole = Seconds(std::chrono::steady_clock::now() - begin).count();

  const Kill points[] = {{"save.mkdir", 4},  {"save.open", 20},  {"save.write", 20},
                         {"save.fsync", 24}, {"save.close", 20}, {"save.rename", 5}};
  int kills = 0;
  for (; kills < in_saves; ++kills) {
    const std::string out = "kill-" + std::to_string(kills);
    kill_in_save(tiny, out, points[kills % 6], static_cast<unsigned>(random()));
    std::filesystem::remove_all(tiny.path(out));
  }
  for (int tries = 0; kills < in_saves + by_clock && tries < 100; ++tries) {
    const std::string out = "kill-" + std::to_string(kills);
    kills += kill_after(tiny, out, whole * static_cast<double>(random() % 1000) / 1000) ? 1 : 0;
    std::filesystem::remove_all(tiny.path(out));
  }
  EXPECT_EQ(kills, in_saves + by_clock);
}

}  // namespace sluice::testing_support
