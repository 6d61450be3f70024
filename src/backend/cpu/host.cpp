#include "backend/cpu/host.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

namespace sluice {
namespace {

// Files of /proc and /sys have no size to be mapped by, so they are read as streams.
std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  return text.str();
}

std::optional<std::int64_t> number(std::string_view text) {
  std::int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc()) return std::nullopt;  // "max" too: no limit
  return value;
}

// The number behind `word` in "word 123" or "word:   123 kB" lines.
std::optional<std::int64_t> field(const std::string& text, std::string_view word) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(word)) continue;
    const std::size_t digit = line.find_first_of("0123456789", word.size());
    if (digit != std::string::npos) return number(std::string_view(line).substr(digit));
  }
  return std::nullopt;
}

template <class T>
void lower(std::optional<T>& least, std::optional<T> value) {
  if (value && (!least || *value < *least)) least = value;
}

// The folders of this process's group of `controller` and of all its parents. In a container the
// path that the kernel names may not exist; the mount's root is then the container's own group.
std::vector<std::string> group_folders(const std::string& root, std::string_view controller,
                                       bool unified) {
  std::istringstream lines(text_of(root + "/proc/self/cgroup"));
  std::string path = "/";
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const std::string wanted = unified ? ",," : fmt::format(",{},", controller);
    if (names.find(wanted) != std::string::npos && line.substr(second + 1).starts_with('/'))
      path = line.substr(second + 1);
  }
  const std::string mount =
      fmt::format("{}/sys/fs/cgroup{}{}", root, unified ? "" : "/", unified ? "" : controller);
  std::vector<std::string> folders;
  for (; path.size() > 1; path.resize(path.rfind('/'))) folders.push_back(mount + path);
  folders.push_back(mount);
  return folders;
}

std::optional<double> quota_of(std::optional<std::int64_t> quota,
                               std::optional<std::int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

// What is left under `limit`, page cache that is not in use counted as free.
std::optional<std::int64_t> left_of(std::optional<std::int64_t> limit,
                                    std::optional<std::int64_t> used,
                                    std::optional<std::int64_t> cache) {
  if (!limit || !used) return std::nullopt;
  return std::max<std::int64_t>(0, *limit - std::max<std::int64_t>(0, *used - cache.value_or(0)));
}

}  // namespace

std::optional<double> cgroup_cpus(const std::string& root) {
  std::optional<double> least;
  for (const std::string& folder : group_folders(root, "cpu", true)) {
    std::istringstream text(text_of(folder + "/cpu.max"));
    std::string quota, period;
    text >> quota >> period;
    lower(least, quota_of(number(quota), number(period)));
  }
  for (const std::string& folder : group_folders(root, "cpu", false))
    lower(least, quota_of(number(text_of(folder + "/cpu.cfs_quota_us")),
                          number(text_of(folder + "/cpu.cfs_period_us"))));
  return least;
}

std::optional<std::int64_t> cgroup_memory_left(const std::string& root) {
  std::optional<std::int64_t> least;
  for (const std::string& folder : group_folders(root, "memory", true))
    lower(least, left_of(number(text_of(folder + "/memory.max")),
                         number(text_of(folder + "/memory.current")),
                         field(text_of(folder + "/memory.stat"), "inactive_file ")));
  for (const std::string& folder : group_folders(root, "memory", false))
    lower(least, left_of(number(text_of(folder + "/memory.limit_in_bytes")),
                         number(text_of(folder + "/memory.usage_in_bytes")),
                         field(text_of(folder + "/memory.stat"), "total_inactive_file ")));
  return least;
}

std::optional<std::int64_t> memory_available(const std::string& root) {
  const auto kib = field(text_of(root + "/proc/meminfo"), "MemAvailable:");
  if (!kib) return std::nullopt;
  return *kib * 1024;
}

int usable_threads() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int threads = sched_getaffinity(0, sizeof mask, &mask) == 0
                    ? CPU_COUNT(&mask)
                    : static_cast<int>(std::thread::hardware_concurrency());
  if (const auto quota = cgroup_cpus("")) threads = std::min(threads, static_cast<int>(*quota));
  return std::max(threads, 1);
}

std::int64_t available_memory() {
  std::optional<std::int64_t> least = memory_available("");
  lower(least, cgroup_memory_left(""));
  return least.value_or(std::numeric_limits<std::int64_t>::max());
}

}  // namespace sluice
