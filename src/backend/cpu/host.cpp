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

// The text behind "word<blanks>: " on the first line that begins so.
std::string words(const std::string& text, std::string_view word) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(word)) continue;
    const std::size_t colon = line.find_first_not_of(" \t", word.size());
    if (colon == std::string::npos || line[colon] != ':') continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

// How many CPUs a list such as "0-3,8" names.
int cpus_of(const std::string& list) {
  std::int64_t count = 0;
  std::istringstream ranges(list);
  for (std::string range; std::getline(ranges, range, ',');) {
    const std::size_t dash = range.find('-');
    const auto first = number(range);
    const auto last =
        dash == std::string::npos ? first : number(std::string_view(range).substr(dash + 1));
    if (first && last && *first <= *last && *last < 1 << 20) count += *last - *first + 1;
  }
  return static_cast<int>(std::min<std::int64_t>(count, 1 << 20));
}

// The word in brackets: "always [madvise] never".
std::string chosen(const std::string& text) {
  const std::size_t begin = text.find('['), end = text.find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return {};
  return text.substr(begin + 1, end - begin - 1);
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

std::optional<CpuQuota> cgroup_quota(const std::string& root) {
  std::optional<CpuQuota> least;
  const auto lower_to = [&](std::optional<double> cpus, const std::string& file) {
    if (cpus && (!least || *cpus < least->cpus)) least = {*cpus, file.substr(root.size())};
  };
  for (const std::string& folder : group_folders(root, "cpu", true)) {
    std::istringstream text(text_of(folder + "/cpu.max"));
    std::string quota, period;
    text >> quota >> period;
    lower_to(quota_of(number(quota), number(period)), folder + "/cpu.max");
  }
  for (const std::string& folder : group_folders(root, "cpu", false))
    lower_to(quota_of(number(text_of(folder + "/cpu.cfs_quota_us")),
                      number(text_of(folder + "/cpu.cfs_period_us"))),
             folder + "/cpu.cfs_quota_us");
  return least;
}

std::optional<double> cgroup_cpus(const std::string& root) {
  const std::optional<CpuQuota> quota = cgroup_quota(root);
  if (!quota) return std::nullopt;
  return quota->cpus;
}

std::optional<MemoryLimit> cgroup_memory_limit(const std::string& root) {
  std::optional<MemoryLimit> least;
  const auto lower_to = [&](const std::string& file) {
    const auto bytes = number(text_of(file));
    // Version 1 writes "no limit" as the largest multiple of a page.
    if (!bytes || *bytes <= 0 || *bytes >= std::int64_t{1} << 62) return;
    if (!least || *bytes < least->bytes) least = {*bytes, file.substr(root.size())};
  };
  for (const std::string& folder : group_folders(root, "memory", true))
    lower_to(folder + "/memory.max");
  for (const std::string& folder : group_folders(root, "memory", false))
    lower_to(folder + "/memory.limit_in_bytes");
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

bool HostFacts::has(const std::string& flag) const {
  return std::find(flags.begin(), flags.end(), flag) != flags.end();
}

HostFacts host_facts(const std::string& root) {
  HostFacts facts;
  const std::string cpuinfo = text_of(root + cpuinfo_file);
  const std::string name = words(cpuinfo, "model name");
  if (!name.empty())
    facts.cpu = fmt::format("{} (family {}, model {})", name, words(cpuinfo, "cpu family"),
                            words(cpuinfo, "model"));
  std::istringstream flags(words(cpuinfo, "flags"));
  for (std::string flag; flags >> flag;) facts.flags.push_back(flag);
  std::istringstream lines(cpuinfo);
  for (std::string line; std::getline(lines, line);)
    facts.cores += line.starts_with("processor") ? 1 : 0;
  facts.affinity = words(text_of(root + status_file), "Cpus_allowed_list");
  facts.affinity_cpus = cpus_of(facts.affinity);
  facts.quota = cgroup_quota(root);
  const std::string meminfo = text_of(root + meminfo_file);
  const auto kib = [&](std::string_view word) { return field(meminfo, word).value_or(0) * 1024; };
  facts.memory_total = kib("MemTotal:");
  facts.memory_available = kib("MemAvailable:");
  facts.swap_total = kib("SwapTotal:");
  facts.huge_page = kib("Hugepagesize:");
  facts.memory_limit = cgroup_memory_limit(root);
  facts.huge_pages = chosen(text_of(root + huge_pages_file));
  facts.huge_pages_defragged = chosen(text_of(root + defrag_file));
  std::istringstream(text_of(root + governor_file)) >> facts.governor;
  std::istringstream(text_of(root + loadavg_file)) >> facts.load;
  return facts;
}

std::int64_t total_memory(const HostFacts& facts) {
  if (!facts.memory_limit) return facts.memory_total;
  return std::min(facts.memory_total, facts.memory_limit->bytes);
}

std::int64_t available_memory() {
  std::optional<std::int64_t> least = memory_available("");
  lower(least, cgroup_memory_left(""));
  return least.value_or(std::numeric_limits<std::int64_t>::max());
}

}  // namespace sluice
