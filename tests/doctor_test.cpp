// What `sluice doctor` measures reaches `sluice train`; what a terminal shows while a run goes.
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>

#include "tiny_run.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

constexpr const char* here = "XDG_CACHE_HOME=\"$PWD/cache\"; export XDG_CACHE_HOME; ";

TEST(DoctorSlow, MeasuresWhatTrainStatesItsSpeedAgainst) {
  const TinyRun tiny;
  // The runs take as many threads as were measured.
  const std::string train = std::string(here) + "instead train tiny.toml --run.threads=auto --out ";
  EXPECT_TRUE(has(tiny.run(train + "before").err, "no MFU: this machine was not measured"));
  for (const Json& row : tiny.rows("before"))
    if (row.contains("loss")) {
      EXPECT_TRUE(row.at("mfu").is_null()) << row;
    }

  const Ended doctor = tiny.run(std::string(here) + "instead doctor --quick --json");
  ASSERT_EQ(doctor.exit, 0) << doctor.err;
  const Json said = Json::parse(doctor.out);
  EXPECT_GT(said.at("float32_flops"), 1e8);
  EXPECT_GT(said.at("bf16_flops"), 1e8);
  for (const char* rate : {"read_one_thread", "read_all_threads", "copy_one_thread",
                           "copy_all_threads", "disk_write", "disk_read"})
    EXPECT_GT(said.at("measured").at(rate), 0) << rate;
  for (const Json& fact : said.at("facts")) EXPECT_TRUE(fact.at("source").is_string()) << fact;
  EXPECT_EQ(said.at("kept"), tiny.path("cache/sluice/machine.json").string());
  EXPECT_EQ(Json::parse(read_text(tiny.path("cache/sluice/machine.json"))), said.at("measured"));

  const double n = 72048, attention = 12.0 * 2 * 48 * 64;
  for (const std::string precision : {"float32", "bf16"}) {
    const Ended after = tiny.run(train + precision + " --plan.precision=" + precision);
    EXPECT_TRUE(has(after.err, "sluice: MFU: 6 N + 12 L D T FLOPs a token over ")) << after.err;
    EXPECT_TRUE(has(after.err, "the " + precision + " products of a step")) << after.err;
    EXPECT_TRUE(has(after.err, "% MFU | ")) << after.err;
    const double peak = said.at(precision + "_flops");
    for (const Json& row : tiny.rows(precision)) {
      if (!row.contains("loss")) continue;
      const double mfu = row.at("mfu"), speed = row.at("tokens_per_second");
      EXPECT_NEAR(mfu, speed * (6 * n + attention) / peak, 1e-3 * mfu);
      EXPECT_GT(row.at("memory"), 1 << 20);
    }
  }

  // Measured with other threads, then damaged: said, and not used.
  EXPECT_TRUE(has(tiny.run(train + "one --run.threads=3").err, "; this run is on "));
  tiny.run("halve cache/sluice/machine.json");
  const Ended damaged = tiny.run(train + "damaged");
  EXPECT_EQ(damaged.exit, 0);
  EXPECT_TRUE(has(damaged.err, "no MFU: the machine file is damaged")) << damaged.err;
}

// A command whose standard error is a terminal of 80 columns.
class Terminal {
 public:
  Terminal(const TinyRun& tiny, const std::string& command) {
    winsize size{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
    const std::string script = std::string("SLUICE='") + SLUICE_BINARY_DIR + "/sluice'\n. '" +
                               SLUICE_SOURCE_DIR + "/tests/tiny.sh'\n" + command;
    const std::string folder = tiny.path().string();
    child_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
    if (child_ < 0) throw std::runtime_error("no terminal for tests");
    if (child_ > 0) return;
    if (::chdir(folder.c_str()) == 0)
      ::execl("/bin/sh", "sh", "-c", script.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ~Terminal() {
    if (!ended_) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    ::close(terminal_);
  }

  // Reads until the command ends; `seen` is called with all that came so far.
  int wait(const std::function<void(const std::string&)>& seen) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    char piece[4096];
    while (std::chrono::steady_clock::now() < end) {
      pollfd ready{terminal_, POLLIN, 0};
      if (::poll(&ready, 1, 1000) <= 0) continue;
      const ssize_t got = ::read(terminal_, piece, sizeof piece);
      if (got <= 0) break;  // EIO: the other end is closed
      text.append(piece, static_cast<std::size_t>(got));
      if (seen) seen(text);
    }
    int status = 0;
    ended_ = ::waitpid(child_, &status, 0) == child_;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void interrupt() { ::kill(child_, SIGINT); }

  std::string text;

 private:
  pid_t child_ = -1;
  int terminal_ = -1;
  bool ended_ = false;
};

// What stays on the screen: every line as its last redraw left it.
std::vector<std::string> screen(const std::string& text) {
  std::vector<std::string> lines(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n')
      lines.emplace_back();
    else if (text.compare(i, 4, "\r\x1b[K") == 0)
      lines.back().clear(), i += 3;
    else if (text[i] != '\r')
      lines.back() += text[i];
  }
  return lines;
}

void expect_clean(const std::string& text) {
  for (const std::string& line : screen(text)) EXPECT_FALSE(has(line, "[=")) << line;
  EXPECT_EQ(screen(text).back(), "") << "the last line ends";
}

TEST(TerminalSlow, ABarIsDrawnAndTakenAway) {
  const TinyRun tiny;
  Terminal terminal(tiny, "TERM=xterm instead train tiny.toml --out run");
  EXPECT_EQ(terminal.wait(nullptr), 0) << terminal.text;
  EXPECT_TRUE(has(terminal.text, "\r\x1b[Kstep ")) << terminal.text;
  EXPECT_TRUE(has(terminal.text, "] 100%")) << terminal.text;
  EXPECT_TRUE(has(terminal.text, "step 12/12 100.0% | loss ")) << "the last step has its line";
  EXPECT_TRUE(has(terminal.text, "| validation loss "));
  expect_clean(terminal.text);
  EXPECT_EQ(tiny.steps("run"), steps_to(12));
}

TEST(TerminalSlow, AnInterruptLeavesNothing) {
  const TinyRun tiny;
  Terminal terminal(tiny, "TERM=xterm instead train tiny.toml --out run --run.tokens=1280000");
  bool interrupted = false;
  const int exit = terminal.wait([&](const std::string& text) {
    if (!interrupted && has(text, "step 30/")) terminal.interrupt(), interrupted = true;
  });
  EXPECT_TRUE(interrupted);
  EXPECT_EQ(exit, 75) << terminal.text;
  EXPECT_TRUE(has(terminal.text, "| saved | "));
  expect_clean(terminal.text);
}

TEST(TerminalSlow, AnErrorLeavesNothing) {
  const TinyRun tiny;
  const std::string poison = " --fault train.poison:transformer.h.1.mlp.c_fc.weight@7";
  Terminal terminal(
      tiny, "TERM=xterm instead train tiny.toml --out run --plan.precision=float32" + poison);
  EXPECT_EQ(terminal.wait(nullptr), 5) << terminal.text;
  EXPECT_TRUE(has(terminal.text, "\r\x1b[Ksluice: error: step 8 is not finite")) << terminal.text;
  expect_clean(terminal.text);
}

TEST(TerminalSlow, NoBarWhereNothingCanBeRedrawn) {
  const TinyRun tiny;
  for (const char* way : {"TERM=dumb ", "unset TERM; "}) {
    Terminal terminal(tiny, std::string(way) + "instead train tiny.toml --out " + way[0]);
    EXPECT_EQ(terminal.wait(nullptr), 0) << terminal.text;
    EXPECT_FALSE(has(terminal.text, "\x1b")) << terminal.text;
    EXPECT_TRUE(has(terminal.text, "step 5/12 ")) << "every step has its line";
  }
  Terminal json(tiny, "TERM=xterm instead train tiny.toml --out json --json");
  EXPECT_EQ(json.wait(nullptr), 0) << json.text;
  EXPECT_FALSE(has(json.text, "\x1b")) << json.text;
}

}  // namespace
}  // namespace sluice
