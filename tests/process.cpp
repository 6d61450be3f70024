#include "process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "core/hash.h"
#include "core/test_folder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

fs::path scratch_file() {
  std::string name = (fs::temp_directory_path() / "sluice-test-XXXXXX").string();
  const int file = ::mkstemp(name.data());
  if (file < 0) throw std::runtime_error("no scratch file for tests");
  ::close(file);
  return name;
}

// In the child: never returns. Only system calls, since the parent may have threads.
[[noreturn]] void become(const char* script, const char* folder, const char* out, const char* err) {
  ::setpgid(0, 0);
  const int in_file = ::open("/dev/null", O_RDONLY);
  const int out_file = ::open(out, O_WRONLY | O_TRUNC);
  const int err_file = ::open(err, O_WRONLY | O_TRUNC);
  ::dup2(in_file, 0);
  ::dup2(out_file, 1);
  ::dup2(err_file, 2);
  if (::chdir(folder) == 0) ::execl("/bin/sh", "sh", "-c", script, nullptr);
  ::_exit(127);
}

}  // namespace

Process::Process(const std::string& command, const fs::path& folder)
    : out_(scratch_file()), err_(scratch_file()) {
  const std::string script = std::string("SLUICE='") + SLUICE_BINARY_DIR + "/sluice'\nGOLDENS='" +
                             SLUICE_SOURCE_DIR + "/tests/goldens'\n. '" + SLUICE_SOURCE_DIR +
                             "/tests/tiny.sh'\n" + command;
  child_ = ::fork();
  if (child_ < 0) throw std::runtime_error("cannot start a child process");
  if (child_ == 0) become(script.c_str(), folder.c_str(), out_.c_str(), err_.c_str());
  ::setpgid(child_, child_);  // here too: whoever comes first
}

Process::~Process() {
  if (!ended_) {
    signal(SIGKILL);
    collect(0);
  }
  std::error_code ignored;
  fs::remove(out_, ignored);
  fs::remove(err_, ignored);
}

bool Process::collect(int options) {
  if (ended_) return true;
  int status = 0;
  rusage usage{};
  if (::wait4(child_, &status, options, &usage) != child_) return false;
  ended_ = true;
  result_.exit = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  result_.peak_bytes = static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
  result_.out = read_text(out_);
  result_.err = read_text(err_);
  return true;
}

bool Process::running() { return !collect(WNOHANG); }

void Process::signal(int number) {
  if (!ended_) ::kill(-child_, number);
}

Ended Process::wait(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (running()) {
    if (std::chrono::steady_clock::now() > end) {
      signal(SIGKILL);
      collect(0);
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return result_;
}

Ended run_command(const std::string& command, const fs::path& folder, double seconds) {
  return Process(command, folder).wait(seconds);
}

std::map<std::string, std::string> contents_of(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).string();
    if (!entry.is_regular_file()) {
      out[name] = "folder";
      continue;
    }
    const std::string bytes = read_text(entry.path());
    out[name] = std::to_string(entry.file_size()) + " " + hash128_hex(bytes.data(), bytes.size());
  }
  return out;
}

}  // namespace sluice
