#include "checkpoint/store.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <random>
#include <set>
#include <thread>

#include "core/test_folder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// Contents that say which step and tensor they belong to.
std::vector<std::byte> contents(std::int64_t step, const TensorInfo& info) {
  std::vector<std::byte> out(static_cast<std::size_t>(info.bytes));
  std::mt19937 random(static_cast<unsigned>(step * 1000 + info.bytes) + info.name[0]);
  for (std::byte& b : out) b = std::byte(random() & 0xff);
  return out;
}

// A save as the train loop makes one: weights, optimizer state, config.
std::vector<std::string> save(CheckpointStore& store, std::int64_t step) {
  CheckpointSave save = store.begin(step);
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    SafetensorsWriter& file = save.open_safetensors(
        name, {{"w", "F32", {2, 3}, 0, 0}, {"bias", "F32", {3}, 0, 0}}, {{"format", "pt"}});
    const std::vector<TensorInfo> tensors = file.tensors();
    for (const TensorInfo& info : tensors) file.write(info.name, contents(step, info));
    save.close_safetensors();
  }
  save.add_file("config.json", "{}\n");
  return save.commit({{"cursor", step * 100}, {"digest", "00ff"}});
}

// The checkpoint is whole and is the one of its step, by its bytes and not by its hashes.
void expect_intact(const Checkpoint& found) {
  EXPECT_EQ(found.run.at("cursor"), found.step * 100);
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    const SafetensorsFile file = SafetensorsFile::open(found.path / name);
    ASSERT_EQ(file.tensors().size(), 2u);
    for (const TensorInfo& info : file.tensors()) {
      const auto bytes = file.bytes(info);
      EXPECT_EQ(std::vector<std::byte>(bytes.begin(), bytes.end()), contents(found.step, info));
    }
  }
  EXPECT_EQ(read_text(found.path / "config.json"), "{}\n");
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    out.insert(entry.path().filename().string());
  }
  return out;
}

std::vector<std::string> save_points() {
  std::vector<std::string> out;
  for (const std::string& point : Faults::points()) {
    if (point.starts_with("save.")) out.push_back(point);
  }
  return out;
}

// Runs body() in a child; true when it ended by itself, false when it was killed.
template <class Body>
bool survives(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      body();
    } catch (...) {
      _exit(9);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
  return !WIFSIGNALED(status);
}

TEST(CheckpointStore, SavesAndFinds) {
  const TestFolder run;
  EXPECT_FALSE(newest_verified(run.path()).checkpoint);
  Faults faults;
  CheckpointStore store(run.path(), 3, faults);
  EXPECT_FALSE(newest_verified(run.path()).checkpoint);
  save(store, 10);
  save(store, 20);
  const NewestVerified found = newest_verified(run.path());
  ASSERT_TRUE(found.checkpoint);
  EXPECT_EQ(found.checkpoint->step, 20);
  EXPECT_EQ(found.checkpoint->path, run.path() / "checkpoints" / "step-00000020");
  expect_intact(*found.checkpoint);
  EXPECT_TRUE(found.skipped.empty());
  expect_intact(open_checkpoint(run.path() / "checkpoints" / "step-00000010"));
}

TEST(CheckpointStore, GivenUpSaveLeavesNothing) {
  const TestFolder run;
  Faults faults;
  CheckpointStore store(run.path(), 3, faults);
  {
    CheckpointSave given_up = store.begin(5);
    given_up.add_file("config.json", "{}");
    EXPECT_EQ(names_in(store.folder()), std::set<std::string>{"step-00000005.tmp"});
  }
  EXPECT_TRUE(names_in(store.folder()).empty());
}

TEST(CheckpointStore, KeepsTheNewest) {
  const TestFolder run;
  Faults faults;
  CheckpointStore store(run.path(), 2, faults);
  for (const std::int64_t step : {1, 2, 3, 4}) EXPECT_TRUE(save(store, step).empty());
  EXPECT_EQ(names_in(store.folder()), (std::set<std::string>{"step-00000003", "step-00000004"}));
  // The one just written stays even when others have higher numbers.
  save(store, 2);
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{2, 4}));
  EXPECT_THROW(CheckpointStore(run.path(), 0, faults), Error);
}

TEST(CheckpointStore, SameStepAgainReplacesIt) {
  const TestFolder run;
  Faults faults;
  CheckpointStore store(run.path(), 1, faults);
  save(store, 7);
  write_text(store.folder() / "step-00000007" / "config.json", "damaged");
  save(store, 7);
  expect_intact(open_checkpoint(store.folder() / "step-00000007"));
  EXPECT_EQ(names_in(store.folder()), std::set<std::string>{"step-00000007"});
}

TEST(CheckpointStore, LeftoversAreRemovedAtOpen) {
  const TestFolder run;
  Faults faults;
  save(*std::make_unique<CheckpointStore>(run.path(), 3, faults), 1);
  const fs::path folder = run.path() / "checkpoints";
  for (const char* name : {"step-00000002.tmp", ".trash-step-00000000", "step-00000003.bad"}) {
    fs::create_directory(folder / name);
    write_text(folder / name / "model.safetensors", "half");
  }
  const CheckpointStore again(run.path(), 3, faults);
  EXPECT_EQ(names_in(folder), (std::set<std::string>{"step-00000001", "step-00000003.bad"}));
}

TEST(CheckpointStore, DamagedStepsAreSkippedNamedAndSetAside) {
  const TestFolder run;
  Faults faults;
  CheckpointStore store(run.path(), 5, faults);
  for (const std::int64_t step : {1, 2, 3, 4}) save(store, step);
  const fs::path four = store.folder() / "step-00000004", three = store.folder() / "step-00000003";
  const auto size = static_cast<std::int64_t>(fs::file_size(four / "model.safetensors"));
  fs::resize_file(four / "model.safetensors", static_cast<std::uintmax_t>(size - 4));
  std::string bytes = read_text(three / "optimizer.safetensors");
  bytes.back() ^= 1;
  write_text(three / "optimizer.safetensors", bytes);

  const NewestVerified found = newest_verified(run.path());
  ASSERT_TRUE(found.checkpoint);
  EXPECT_EQ(found.checkpoint->step, 2);
  ASSERT_EQ(found.skipped.size(), 2u);
  EXPECT_EQ(found.skipped[0].what, "model.safetensors of a checkpoint is truncated");
  EXPECT_EQ(found.skipped[0].where, (four / "model.safetensors").string());
  EXPECT_EQ(found.skipped[0].expected, fmt::format("{} bytes", size));
  EXPECT_EQ(found.skipped[0].found, fmt::format("{} bytes", size - 4));
  EXPECT_NE(found.skipped[1].what.find("optimizer.safetensors of a checkpoint is damaged"),
            std::string::npos);
  EXPECT_EQ(found.damaged, (std::vector<fs::path>{four, three}));
  // Sizes alone do not see the flipped bit.
  EXPECT_EQ(newest_verified(run.path(), CheckDepth::sizes).checkpoint->step, 3);
  try {
    open_checkpoint(four);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
  }
  for (const fs::path& path : found.damaged) store.set_aside(path);
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{1, 2}));
  save(store, 4);
  write_text(four / "config.json", "");
  EXPECT_EQ(store.set_aside(four).filename(), "step-00000004.bad-2");
}

TEST(CheckpointStore, EveryTruncationAndEveryFlippedBitIsFound) {
  const TestFolder run;
  Faults faults;
  CheckpointStore store(run.path(), 1, faults);
  save(store, 1);
  const fs::path folder = store.folder() / "step-00000001";
  ASSERT_TRUE(verify_checkpoint(folder).ok());
  int tried = 0;
  for (const std::string& name : names_in(folder)) {
    const fs::path path = folder / name;
    const std::string good = read_text(path);
    // One problem, and it names the file.
    const auto found = [&] {
      const Verification result = verify_checkpoint(folder);
      ++tried;
      return result.problems.size() == 1 && result.problems[0].where == path.string();
    };
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      const auto at = static_cast<std::streamoff>(bit / 8);
      file.seekp(at).put(static_cast<char>(good[bit / 8] ^ (1 << (bit % 8)))).flush();
      ASSERT_TRUE(found()) << name << " bit " << bit;
      file.seekp(at).put(good[bit / 8]).flush();
    }
    EXPECT_FALSE(found()) << "negative control: " << name << " is good again";
    for (std::size_t size = good.size(); size-- > 0;) {
      fs::resize_file(path, size);
      ASSERT_TRUE(found()) << name << " cut to " << size;
    }
    write_text(path, good + "x");
    EXPECT_TRUE(found()) << name << " with a byte more";
    fs::remove(path);
    EXPECT_TRUE(found()) << name << " removed";
    write_text(path, good);
    EXPECT_FALSE(found()) << "negative control: " << name << " is good again";
  }
  EXPECT_GT(tried, 5000);
}

TEST(CheckpointStore, RenamedFolderIsFound) {
  const TestFolder run;
  Faults faults;
  CheckpointStore store(run.path(), 3, faults);
  save(store, 1);
  fs::rename(store.folder() / "step-00000001", store.folder() / "step-00000002");
  EXPECT_FALSE(newest_verified(run.path()).checkpoint);
}

TEST(CheckpointStore, FolderNames) {
  EXPECT_EQ(step_of_folder("step-00000010"), 10);
  EXPECT_EQ(step_of_folder("step-123456789"), 123456789);
  for (const char* name :
       {"step-10", "step-00000010.tmp", "step-00000010.bad", "step--0000001", "step-",
        "step-0000001x", "step-012345678", "step-99999999999999999999", "tep-00000010", ""}) {
    EXPECT_EQ(step_of_folder(name), -1) << name;
  }
}

TEST(CheckpointManifest, HostileTextIsRefused) {
  const auto sealed = [](const std::string& body) {
    return body + ",\n \"manifest_xxh3_128\": \"" + hash128_hex(body.data(), body.size()) +
           "\"\n}\n";
  };
  const Manifest good{3, {{"a", 1, "00"}}, {{"k", 1}}};
  EXPECT_EQ(parse_manifest(manifest_text(good), "m").step, 3);
  const std::string head = R"({"format":"sluice-checkpoint","version":1,"step":3,"run":{})";
  EXPECT_NO_THROW(parse_manifest(sealed(head + R"(,"files":[])"), "m"));
  for (const std::string& tail :
       {std::string(), std::string(R"(,"files":3)"), std::string(R"(,"files":[3])"),
        std::string(R"(,"files":[{"name":"../x","size":1,"xxh3_128":"0"}])"),
        std::string(R"(,"files":[{"name":"/x","size":1,"xxh3_128":"0"}])"),
        std::string(R"(,"files":[{"name":"..","size":1,"xxh3_128":"0"}])"),
        std::string(R"(,"files":[{"name":"","size":1,"xxh3_128":"0"}])"),
        std::string(R"(,"files":[{"name":"x","size":"1","xxh3_128":"0"}])"),
        std::string(R"(,"files":[)") + std::string(100000, '[')}) {
    EXPECT_THROW(parse_manifest(sealed(head + tail), "m"), Error) << tail.substr(0, 80);
  }
  EXPECT_THROW(parse_manifest(sealed(R"({"format":"other","version":1,"step":3,"files":[])"), "m"),
               Error);
  EXPECT_THROW(parse_manifest("", "m"), Error);
}

TEST(RunLock, OneProcessAtATime) {
  const TestFolder run;
  {
    const RunLock lock(run.path());
    try {
      const RunLock second(run.path());
      FAIL() << "two locks";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::usage);
    }
  }
  EXPECT_NO_THROW(RunLock(run.path()));
  // A killed process holds nothing.
  EXPECT_FALSE(survives([&] {
    const RunLock lock(run.path());
    raise(SIGKILL);
  }));
  EXPECT_NO_THROW(RunLock(run.path()));
}

// Step 1 is there; saving step 2 is killed at the n-th visit of each point, for every n there is.
TEST(CheckpointFaults, KillAnywhereLeavesTheOldOrTheNew) {
  int kills = 0, old_found = 0, new_found = 0;
  for (const std::string& point : save_points()) {
    for (int n = 1;; ++n) {
      const TestFolder run;
      Faults none;
      CheckpointStore before(run.path(), 1, none);
      save(before, 1);
      Faults faults = Faults::parse(fmt::format("{}:kill@{}", point, n));
      const bool survived = survives([&] {
        CheckpointStore store(run.path(), 1, faults);
        save(store, 2);
      });
      NewestVerified found = newest_verified(run.path());
      ASSERT_TRUE(found.checkpoint) << point << " " << n;
      EXPECT_TRUE(found.skipped.empty());
      expect_intact(*found.checkpoint);
      if (survived) {
        EXPECT_EQ(found.checkpoint->step, 2);
        EXPECT_GT(n, 1) << point << " is never visited";
        break;
      }
      ++kills;
      ++(found.checkpoint->step == 2 ? new_found : old_found);
      // The next process cleans up and goes on.
      CheckpointStore after(run.path(), 1, none);
      save(after, 3);
      EXPECT_EQ(names_in(after.folder()), std::set<std::string>{"step-00000003"});
    }
  }
  EXPECT_GE(kills, 20);
  EXPECT_GT(old_found, 0);
  EXPECT_GT(new_found, 0);
}

// The same with a disk that is full, or fails, once or from then on: the save says so, the folder
// is as it was, and the next save works.
TEST(CheckpointFaults, FailingDiskAnywhereChangesNothing) {
  for (const char* action : {"enospc", "eio"}) {
    for (const char* often : {"", "+"}) {
      for (const std::string& point : save_points()) {
        for (int n = 1;; ++n) {
          const TestFolder run;
          Faults none;
          CheckpointStore before(run.path(), 1, none);
          save(before, 1);
          Faults faults = Faults::parse(fmt::format("{}:{}@{}{}", point, action, n, often));
          CheckpointStore store(run.path(), 1, faults);
          bool failed = false;
          std::vector<std::string> notes;
          try {
            notes = save(store, 2);
          } catch (const Error& e) {
            EXPECT_EQ(e.code(), Exit::disk);
            failed = true;
          }
          const NewestVerified found = newest_verified(run.path());
          ASSERT_TRUE(found.checkpoint) << point << " " << n;
          EXPECT_EQ(found.checkpoint->step, failed ? 1 : 2) << point << " " << n;
          expect_intact(*found.checkpoint);
          if (failed) {
            EXPECT_EQ(names_in(store.folder()), std::set<std::string>{"step-00000001"})
                << point << " " << n;
            if (*often == '\0') {
              EXPECT_TRUE(save(store, 3).empty());
              EXPECT_EQ(newest_verified(run.path()).checkpoint->step, 3);
            }
          } else if (notes.empty()) {
            break;  // n was past the last visit
          }
        }
      }
    }
  }
}

TEST(CheckpointFaults, ShortWritesAreCompleted) {
  const TestFolder run;
  Faults faults = Faults::parse("save.write:short@1+");
  CheckpointStore store(run.path(), 1, faults);
  save(store, 1);
  expect_intact(open_checkpoint(store.folder() / "step-00000001"));
  EXPECT_GT(faults.count("save.write"), 30);  // halves of halves
}

// Negative control: without the protocol (files written straight into step-2) a kill is seen.
TEST(CheckpointFaults, AnUnprotectedSaveWouldBeNoticed) {
  const TestFolder run;
  Faults none;
  CheckpointStore store(run.path(), 3, none);
  save(store, 1);
  fs::create_directory(store.folder() / "step-00000002");
  write_text(store.folder() / "step-00000002" / "model.safetensors", "half");
  const NewestVerified found = newest_verified(run.path());
  ASSERT_TRUE(found.checkpoint);
  EXPECT_EQ(found.checkpoint->step, 1);
  ASSERT_EQ(found.skipped.size(), 1u);
  EXPECT_EQ(found.skipped[0].what, "a checkpoint has no manifest");
}

// A child saves without end and is killed at a random moment.
TEST(CheckpointSlow, KillAtRandomMoments) {
  const unsigned seed = std::random_device{}();
  fmt::print("seed {}\n", seed);
  std::mt19937 random(seed);
  const TestFolder run;
  std::int64_t last = 0;
  for (int round = 0; round < 40; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Faults faults;
      CheckpointStore store(run.path(), 2, faults);
      for (std::int64_t step = last + 1;; ++step) save(store, step);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60000));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const NewestVerified found = newest_verified(run.path());
    ASSERT_TRUE(found.checkpoint || last == 0) << "seed " << seed;
    if (!found.checkpoint) continue;
    EXPECT_TRUE(found.skipped.empty()) << "seed " << seed;
    EXPECT_GE(found.checkpoint->step, last) << "seed " << seed;
    expect_intact(*found.checkpoint);
    last = found.checkpoint->step;
  }
  EXPECT_GT(last, 0) << "seed " << seed;
}

}  // namespace
}  // namespace sluice
