// For tests that start the built `sluice`: child processes, and what a folder holds.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace sluice {

// How a child process ended. One killed by signal n has exit code 128 + n, as a shell says it.
struct Ended {
  int exit = 0;
  std::string out, err;
  std::int64_t peak_bytes = 0;  // largest resident set of its life (VmHWM)
};

// A shell command running in `folder`, in a process group of its own. tests/tiny.sh is read first,
// so that `sluice` is the binary under test. Killed when destroyed. One thread.
class Process {
 public:
  Process(const std::string& command, const std::filesystem::path& folder);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool running();
  void signal(int number);  // to the whole group; nothing when it has ended
  // Waits at most `seconds`; a child that takes longer is killed, which shows as exit 137.
  Ended wait(double seconds = 120);

 private:
  bool collect(int options);

  pid_t child_ = -1;
  bool ended_ = false;
  Ended result_;
  std::filesystem::path out_, err_;
};

Ended run_command(const std::string& command, const std::filesystem::path& folder,
                  double seconds = 120);

// Every file and folder below `folder`: its path relative to it and a hash of its bytes. Modes and
// times are left out; a file that cannot be read counts by its size.
std::map<std::string, std::string> contents_of(const std::filesystem::path& folder);

}  // namespace sluice
