// sluice prepare as a process: killed again and again it makes the same shards, and reads little
// twice; its memory does not grow with the input.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/test_folder.h"
#include "process.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// JSON lines of words that no tokenizer knows, so that it has something to do.
void write_lines(const std::string& path, std::int64_t bytes, unsigned seed) {
  std::mt19937 random(seed);
  std::ofstream out(path, std::ios::binary);
  std::string line;
  for (std::int64_t at = 0; at < bytes; at += static_cast<std::int64_t>(line.size())) {
    line = "{\"text\":\"";
    for (unsigned words = random() % 600; words > 0; --words) {
      for (unsigned letters = 1 + random() % 9; letters > 0; --letters)
        line += static_cast<char>('a' + random() % 26);
      line += words % 17 == 0 ? "\\n" : " ";
    }
    line += "\"}\n";
    out << line;
  }
}

// Where the process reads `input` now; -1: it has not opened it, or has ended.
std::int64_t read_position(pid_t process, const std::string& input) {
  const fs::path folder = fs::path("/proc") / std::to_string(process);
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder / "fd", error)) {
    if (fs::read_symlink(entry.path(), error) != input) continue;
    std::istringstream text(read_text(folder / "fdinfo" / entry.path().filename()));
    std::string word;
    std::int64_t position = -1;
    while (text >> word)
      if (word == "pos:") text >> position;
    return position;
  }
  return -1;
}

std::int64_t journal_offset(const std::string& path) {
  const auto journal = nlohmann::json::parse(read_text(path), nullptr, false);
  return journal.is_object() ? journal.at("place").at("offset").get<std::int64_t>() : 0;
}

TEST(PrepareSlow, killed_ten_times_it_reads_little_twice) {
  const TestFolder folder;
  const std::string input = folder.path("a.jsonl");
  write_lines(input, 120'000'000, 7);
  const auto size = static_cast<std::int64_t>(fs::file_size(input));
  const std::string command = "prepare a.jsonl --tokenizer gpt2 --validation 0.001 --shuffle 3 ";
  const Ended whole = run_command("sluice " + command + "--threads 2 --out whole", folder.path());
  ASSERT_EQ(whole.exit, 0) << whole.err;
  EXPECT_LT(whole.peak_bytes, std::int64_t{256} << 20);
  const std::string again = "echo $$ > pid; instead " + command + "--threads 2 --out parts";
  std::mt19937 random(11);
  std::int64_t read = 0;
  for (int kill = 0; kill < 10; ++kill) {
    const std::int64_t begun = journal_offset(folder.path("parts.partial/journal"));
    const std::int64_t until =
        size / 11 * (kill + 1) + static_cast<std::int64_t>(random() % 5'000'000);
    Process process(again, folder.path());
    std::int64_t at = -1;
    while (process.running() && at < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::istringstream pid(read_text(folder.path("pid")));
      pid_t number = 0;
      if (pid >> number) at = std::max(at, read_position(number, input));
    }
    ASSERT_TRUE(process.running());
    process.signal(SIGKILL);
    EXPECT_EQ(process.wait().exit, 128 + SIGKILL);
    fs::remove(folder.path("pid"));
    read += at - begun;
  }
  read += size - journal_offset(folder.path("parts.partial/journal"));
  const Ended last = run_command(again, folder.path());
  ASSERT_EQ(last.exit, 0) << last.err;
  EXPECT_NE(last.err.find("went on where an earlier call stopped"), std::string::npos);
  const auto same = [&](const std::string& end) {
    return read_text(folder.path("whole" + end)) == read_text(folder.path("parts" + end));
  };
  for (const char* end : {".bin", ".idx", "-val.bin", "-val.idx", ".json", "-val.json"})
    EXPECT_TRUE(same(end)) << end;
  EXPECT_FALSE(read_text(folder.path("whole.bin")) == read_text(folder.path("whole-val.bin")));
  EXPECT_FALSE(fs::exists(folder.path("parts.partial")));
  const double times = static_cast<double>(read) / static_cast<double>(size);
  fmt::print("input read {:.3f} times over ten kills\n", times);
  EXPECT_LE(times, 1.3);
}

TEST(Prepare, a_full_disk_keeps_what_is_done) {
  const TestFolder folder;
  write_lines(folder.path("a.jsonl"), 6'000'000, 5);
  const std::string command = "prepare a.jsonl --tokenizer bytes --out ";
  EXPECT_EQ(run_command("sluice " + command + "whole", folder.path()).exit, 0);
  const Ended full =
      run_command("sluice --fault save.write:enospc@9+ " + command + "out", folder.path());
  EXPECT_EQ(full.exit, 6);
  EXPECT_EQ(full.err,
            "sluice: error: cannot write out.partial/tokens: No space left on device\n"
            "  where: out.partial/tokens\n"
            "  expected: room on that disk, and a folder that this user may write to\n"
            "  try: the same command again: it goes on where this one stopped\n");
  const std::int64_t begun = journal_offset(folder.path("out.partial/journal"));
  EXPECT_GT(begun, 2'000'000);
  const Ended again = run_command("sluice " + command + "out --json", folder.path());
  EXPECT_EQ(again.exit, 0) << again.err;
  EXPECT_EQ(nlohmann::json::parse(again.out).at("begun_at"), begun);
  EXPECT_TRUE(read_text(folder.path("out.bin")) == read_text(folder.path("whole.bin")));
  EXPECT_TRUE(read_text(folder.path("out.json")) == read_text(folder.path("whole.json")));
}

// The recipes give the bytes of nanoGPT's preparations: tools/goldens/data_recipes.py.
TEST(Prepare, recipes_give_the_bytes_of_nanogpts_preparations) {
  const std::string goldens = SLUICE_SOURCE_DIR "/tests/goldens/data/";
  const auto expected = nlohmann::json::parse(read_text(goldens + "expected.json"));
  const TestFolder folder;
  const auto sha = [&](const std::string& name) {
    const std::string bytes = read_text(folder.path(name));
    return sha256_hex(bytes.data(), bytes.size());
  };
  const auto prepared = [&](const std::string& inputs, const std::string& recipe) {
    const Ended ended = run_command("sluice prepare " + inputs + " --out set --recipe " + recipe +
                                        " --assets " SLUICE_SOURCE_DIR "/build/assets",
                                    folder.path());
    EXPECT_EQ(ended.exit, 0) << ended.err;
    return std::pair(sha("set.bin"), sha("set-val.bin"));
  };
  const auto right = [&](const std::string& recipe) {
    const auto& sides = expected.at(recipe);
    return std::pair(sides.at("train").at("sha256").get<std::string>(),
                     sides.at("val").at("sha256").get<std::string>());
  };
  const std::string archives = goldens + "urlsf_subset00.tar " + goldens + "urlsf_subset01.tar";
  EXPECT_EQ(prepared(archives, "openwebtext"), right("openwebtext"));
  EXPECT_EQ(prepared(goldens + "openwebtext.jsonl.xz", "openwebtext"), right("openwebtext"));
  EXPECT_EQ(prepared(goldens + "input.txt", "shakespeare"), right("shakespeare"));
  EXPECT_EQ(prepared(goldens + "input.txt", "shakespeare-char"), right("shakespeare-char"));
  // What is done differently shows: another seed, texts as they are, a share of bytes.
  EXPECT_NE(prepared(archives, "openwebtext --shuffle 2358"), right("openwebtext"));
  EXPECT_NE(prepared(archives, "openwebtext --clean none"), right("openwebtext"));
  EXPECT_NE(prepared(goldens + "input.txt", "shakespeare --share-of bytes"), right("shakespeare"));
}

// Whatever the form of the input: lines, one endless line, one endless word.
TEST(PrepareSlow, memory_is_bounded) {
  const TestFolder folder;
  const std::string word(1 << 20, 'x');
  const auto write = [&](const std::string& name, const std::string& begin,
                         const std::string& middle, int times, const std::string& end) {
    std::ofstream out(folder.path(name), std::ios::binary);
    out << begin;
    for (int i = 0; i < times; ++i) out << middle;
    out << end;
  };
  std::string prose;
  while (prose.size() < std::size_t{1} << 20) prose += "the mill turned; ";
  write("long.jsonl", "{\"text\":\"", prose, 60, "\"}\n");
  write("word.txt", "", word, 15, "");
  write("longer.jsonl", "{\"text\":\"", prose, 200, "\"}\n{\"text\":\"a\"}\n");
  const auto peak = [&](const std::string& command, int exit) {
    const Ended ended = run_command("instead prepare " + command + " --out out", folder.path());
    EXPECT_EQ(ended.exit, exit) << ended.err;
    return ended.peak_bytes;
  };
  const std::int64_t most = std::int64_t{1} << 30;
  EXPECT_LT(peak("long.jsonl --tokenizer gpt2", 0), most);
  EXPECT_LT(peak("word.txt --tokenizer gpt2", 0), most);
  EXPECT_LT(peak("longer.jsonl --tokenizer gpt2", 3), most);
  EXPECT_LT(peak("longer.jsonl --tokenizer gpt2 --on-bad-line skip", 0), most);
  write("words.txt", "", word, 40, "");
  EXPECT_LT(peak("words.txt --tokenizer gpt2", 3), most);
}

}  // namespace
}  // namespace sluice
