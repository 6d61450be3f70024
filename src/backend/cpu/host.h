// How much of this machine the process may use: its affinity mask, and what its control groups
// (version 1 or 2) leave it. Asked once, at the start; the answers may change afterwards.
//
// Any thread. Files that are missing or unreadable set no limit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sluice {

// CPUs of the affinity mask, at most the quota of CPU time rounded down (but at least 1): more
// threads than CPU time are stopped in turn, and every tile waits for the one that is stopped.
int usable_threads();

// Bytes that can be had now without swapping: the kernel's MemAvailable, and what is left of each
// control group's limit (page cache that it can drop counts as left).
std::int64_t available_memory();

// The parts, over the files below `root` ("" for this machine).
std::optional<double> cgroup_cpus(const std::string& root);
std::optional<std::int64_t> cgroup_memory_left(const std::string& root);
std::optional<std::int64_t> memory_available(const std::string& root);  // /proc/meminfo

// A limit of the control groups and the file that sets it.
struct CpuQuota {
  double cpus = 0;
  std::string file;
};
struct MemoryLimit {
  std::int64_t bytes = 0;
  std::string file;
};
// The least quota and the least limit of this process's group and its parents.
std::optional<CpuQuota> cgroup_quota(const std::string& root);
std::optional<MemoryLimit> cgroup_memory_limit(const std::string& root);

// What the kernel says about this machine. Text is empty and numbers are 0 where it does not say.
struct HostFacts {
  std::string cpu;                 // "AMD EPYC (family 26, model 2)"; /proc/cpuinfo
  std::vector<std::string> flags;  // of the first CPU that is listed
  int cores = 0;                   // CPUs that are listed
  std::string affinity;            // "0-1"; /proc/self/status
  int affinity_cpus = 0;
  std::optional<CpuQuota> quota;
  std::int64_t memory_total = 0, memory_available = 0, swap_total = 0;  // bytes; /proc/meminfo
  std::optional<MemoryLimit> memory_limit;
  std::int64_t huge_page = 0;        // bytes; /proc/meminfo
  std::string huge_pages;            // "always", "madvise" or "never"
  std::string huge_pages_defragged;  // what a fault may do to get one: "always", "defer", …
  std::string governor;              // of the first CPU
  double load = 0;                   // mean of running processes over the last minute

  bool has(const std::string& flag) const;
};

// The files behind those facts, below the root.
inline constexpr const char* cpuinfo_file = "/proc/cpuinfo";
inline constexpr const char* status_file = "/proc/self/status";
inline constexpr const char* loadavg_file = "/proc/loadavg";
inline constexpr const char* meminfo_file = "/proc/meminfo";
inline constexpr const char* huge_pages_file = "/sys/kernel/mm/transparent_hugepage/enabled";
inline constexpr const char* defrag_file = "/sys/kernel/mm/transparent_hugepage/defrag";
inline constexpr const char* governor_file =
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";

// `root` as above.
HostFacts host_facts(const std::string& root);
// Bytes that this machine, or the control group, has in all.
std::int64_t total_memory(const HostFacts& facts);

}  // namespace sluice
